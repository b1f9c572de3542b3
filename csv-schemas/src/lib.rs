//! The metrics' schemas: the single source of a metric's columns.
//!
//! `csv-schemas/<metric>.json` is a [Frictionless Table Schema](https://specs.frictionlessdata.io/table-schema/)
//! with four keys of its own: `version` and `kind` of the metric; `unit`, `ecs` (the document's field name) and
//! `elasticsearch` (the field's mapping) of a column. From it come the CSV header, the typed rows ([`rows`]), the
//! index template's mapping, the embedded store's fields and the page `docs/metrics.md`.

mod docs;
mod escape;
mod record;
mod schema;

/// One type per metric, generated from its schema: fill it, and the spool writes it.
pub mod rows {
    use crate::record::{Record, Row, SubjectFields};

    include!(concat!(env!("OUT_DIR"), "/rows.rs"));
}

pub use docs::metrics_page;
pub use escape::{escape, escape_invalid, printable, unescape};
pub use record::{Common, Record, Row, SubjectFields, Time, Value, write_row};
pub use schema::{Field, FieldType, Kind, Schema, SchemaError, all, builtin};
