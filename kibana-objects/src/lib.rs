//! Dashboards from one readable source.
//!
//! `kibana-objects/dashboards/*.yml`, and a user's own files of the same form, are read to [`Dashboard`]s
//! ([`builtin`], [`read`]). One model has two renderings:
//! - [`kibana::render`]: saved objects for Kibana 8.12 and later, as `kumon setup` imports them;
//! - [`Panel::requests`] and [`Panel::answer`]: the questions that a panel asks of anything with the trait
//!   [`kumon_query::Search`] (Elasticsearch, the embedded store, a running agent), and what the answer shows.
//!
//! ```
//! # use kumon_dashboards::{Catalog, TimeRange, builtin};
//! # fn show(search: &impl kumon_query::Search) -> Result<(), Box<dyn std::error::Error>> {
//! let range = TimeRange { since: 1_795_255_200_000_000_000, until: 1_795_256_100_000_000_000 };
//! for panel in builtin().iter().flat_map(|dashboard| &dashboard.panels) {
//!     let requests = panel.requests(range, &[]);
//!     let responses = requests.iter().map(|request| search.search(request)).collect::<Result<Vec<_>, _>>()?;
//!     let answer = panel.answer(range, &responses);
//!     println!("{}: {}", panel.title, serde_json::to_string(&answer)?);
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod builtin;
mod catalog;
mod check;
mod error;
pub mod kibana;
mod layout;
mod model;
mod request;
mod resolve;
mod source;
mod walk;

pub use answer::{Answer, Cell, Column, Line, Series, Table};
pub use builtin::{builtin, builtin_sources};
pub use catalog::{Catalog, Metric};
pub use error::SourceError;
pub use layout::{Place, WIDTH};
pub use model::{
    Chart, ChartKind, Content, Control, Dashboard, Link, Operation, Over, Panel, Per, Rows, Unit, Value,
};
pub use request::{Filter, TimeRange};
pub use resolve::{SourceFile, read};
