//! Dashboards as Kibana's saved objects, which import into Kibana 8.12 and later.
//!
//! Identifiers are fixed, so that importing again replaces and never doubles. Everything that an object refers to is
//! in the same file.

mod chart;
mod column;
mod dashboard;
mod data_view;
mod formula;
mod kql;
mod lens;
mod lucene;
mod object;
mod search;
mod space;

use crate::catalog::Catalog;
use crate::model::Dashboard;

pub use kql::kql;
pub use lucene::lucene;
pub use object::{Reference, SavedObject, SavedObjectType, TAG};
pub(crate) use search::id_of_metric;
pub use space::in_space;

/// All objects, in an order in which each stands behind what it refers to: the tag, the data views and searches of
/// the catalog's metrics, the data views of the dashboards' drop-downs, the searches of single panels, the dashboards.
pub fn render(dashboards: &[Dashboard], catalog: &Catalog) -> Vec<SavedObject> {
    let mut objects = vec![object::tag()];
    objects.push(data_view::of_all(catalog));
    let metrics = || catalog.metrics().iter();
    let coarse = metrics().filter_map(|metric| metric.coarse.as_ref());
    objects.extend(metrics().chain(coarse).map(|metric| data_view::of_metric(metric)));
    objects.extend(dashboards.iter().filter_map(data_view::of_dashboard));
    objects.extend(metrics().map(search::of_metric));
    objects.extend(dashboards.iter().flat_map(search::of_panels));
    objects.extend(dashboards.iter().map(dashboard::render));
    objects
}

/// The file that Kibana imports: one object a line.
pub fn ndjson(objects: &[SavedObject]) -> String {
    objects.iter().map(|object| object.to_json().to_string() + "\n").collect()
}
