//! The metrics' schemas: the single source of a metric's columns.
//!
//! `csv-schemas/<metric>.json` is a [Frictionless Table Schema](https://specs.frictionlessdata.io/table-schema/)
//! with some keys of its own. Of the metric: `version`, `kind`, and `histogramOf` where its rows are the buckets of
//! another one; `top` where it has rows of the largest keys only: the columns `by` which they are the largest, and those that
//! have the text `other` in the row of all the rest. Of a column: `unit`, `ecs` (the document's field name), `elasticsearch` (the field's mapping), and what
//! it means ([`Meaning`]):
//! - a number says `metricType` (`counter` or `gauge`), or `dimension: true` where it names something, like a pid;
//! - `statistic: {function, of}`: it is the `count`, `sum`, `min`, `max` or a percentile (`p99`) of what was measured in
//!   the interval;
//! - `labelOf`: a text that stands for another column's number, and sorts like it;
//! - `shown: false`: people see it only where they ask for it; `title`: what they call it;
//! - `coarse: "last"`: it tells no rows apart, and of the rows of 10 minutes it is that of the last one;
//! - `constraints: {enum: [one text]}`: every row has that text there, and the row types leave the column out.
//!
//! Columns that follow from another one stand in `csv-schemas/implied/<its field>.json`: the build puts them behind it in
//! every schema that has it, and adds that file's `version` to the schema's. All below, and the schema beside the spool's
//! files, have them.
//!
//! Each summary has a second metric, `<name>_10m`: its rows, summed up by 10 minutes. The build makes its schema of the
//! summary's own, unless that says `hasCoarse: false`, as that of network flows: few of its keys are ever seen again.
//!
//! From it come the CSV header, the typed rows ([`rows`]), the index template's mapping, the embedded store's fields,
//! what dashboards and tables show, the page `docs/metrics.md`, README's table of metrics and Filebeat's configuration.

mod builtin;
mod docs;
mod escape;
#[cfg(test)]
mod filebeat;
mod meaning;
mod record;
mod schema;
mod value;

/// One type per metric, generated from its schema: fill it, and the spool writes it.
pub mod rows {
    use crate::record::{Column, Columns, Row, SubjectFields};

    include!(concat!(env!("OUT_DIR"), "/rows.rs"));
}

pub use builtin::{all, builtin, coarse, left_out_of_tables, of_dataset, whole};
pub use docs::metrics_page;
pub use escape::{escape, escape_invalid, printable, unescape};
pub use record::{Column, Columns, Common, Format, Record, Row, SubjectFields, write_record, write_row};
pub use schema::{
    Field, FieldType, Function, Kind, Meaning, MetricType, Schema, SchemaError, Statistic, Top,
};
pub use value::{List, Number, Time, Value, Written};
