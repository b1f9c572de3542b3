//! Data views: one for each metric, and one over all for the drop-downs.

use kumon_schema::FieldType;
use serde_json::{Map, Value, json};

use super::object::{Reference, SavedObject, SavedObjectType, encoded};
use crate::catalog::{Catalog, Metric};
use crate::model::Unit;
use crate::resolve::id_of;

/// The id of the data view over all metrics.
pub(super) const ALL: &str = "kumon-all";

/// The id of a metric's data view.
pub(super) fn id(metric: &Metric) -> String {
    format!("kumon-{}", id_of(&metric.name))
}

pub(super) fn of_metric(metric: &Metric) -> SavedObject {
    data_view(
        id(metric),
        &metric.pattern,
        &format!("KuMon {}: {}", metric.name, metric.title),
        formats(metric),
    )
}

pub(super) fn of_all(catalog: &Catalog) -> SavedObject {
    let mut patterns = vec!["logs-kumon.*", "metrics-kumon.*"];
    let patterns_of_inputs = catalog.metrics().iter().filter(|metric| metric.fields.is_open());
    patterns.extend(patterns_of_inputs.map(|metric| metric.pattern.as_str()));
    let formats = catalog.metrics().iter().flat_map(|metric| formats(metric)).collect();
    data_view(ALL.into(), &patterns.join(","), "KuMon: everything", formats)
}

fn data_view(id: String, title: &str, name: &str, formats: Map<String, Value>) -> SavedObject {
    SavedObject {
        r#type: SavedObjectType::DataView,
        id,
        attributes: json!({
            "title": title,
            "name": name,
            "timeFieldName": "@timestamp",
            // Rows of a metric that is switched off never come; that is no mistake.
            "allowNoIndex": true,
            "fields": "[]",
            "fieldAttrs": "{}",
            "fieldFormatMap": encoded(&Value::Object(formats)),
            "runtimeFieldMap": "{}",
            "sourceFilters": "[]",
            "typeMeta": "{}",
        }),
        references: vec![Reference::to_tag()],
    }
}

/// How Discover and tables write a field's values.
fn formats(metric: &Metric) -> Map<String, Value> {
    let mut formats = Map::new();
    for column in metric.columns() {
        let format = match metric.unit(&column.ecs) {
            Unit::Nanoseconds => json!({"id": "duration", "params": {
                "inputFormat": "nanoseconds", "outputFormat": "humanizePrecise", "outputPrecision": 1,
                "includeSpaceWithSuffix": true, "useShortSuffix": true,
            }}),
            Unit::Bytes => json!({"id": "bytes"}),
            Unit::Fraction => json!({"id": "percent"}),
            // Numbers that name something: 1234, not 1,234.
            _ if column.r#type == FieldType::Integer && column.meaning.metric_type.is_none() => {
                json!({"id": "number", "params": {"pattern": "0"}})
            }
            _ => continue,
        };
        formats.insert(column.ecs.clone(), format);
    }
    formats
}
