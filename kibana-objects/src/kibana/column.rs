//! The columns of a Lens layer: what Lens asks Elasticsearch for.

use kumon_query::FieldKind;
use kumon_schema::Kind;
use serde_json::{Map, Value as Json, json};

use super::formula;
use super::search;
use crate::catalog::Metric;
use crate::model::{Chart, ChartKind, Operation, Per, Unit, Value};
use crate::request::{Level, Order, SECOND, TimeRange, USUAL_INTERVAL};

/// What Lens calls the rows themselves.
const RECORDS: &str = "___records___";

/// Columns by their ids: `by0`, … the breakdowns from outside to inside, `time`, `v0`, … the values; and their order.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) columns: Map<String, Json>,
    pub(super) order: Vec<String>,
    /// The ids of the breakdowns.
    pub(super) by: Vec<String>,
    /// The ids of the values.
    pub(super) values: Vec<String>,
}

pub(super) const TIME: &str = "time";

impl Columns {
    pub(super) fn of(chart: &Chart) -> Columns {
        let mut columns = Columns::default();
        // The range doesn't matter: Kibana chooses the step of the time axis.
        for level in chart.levels(TimeRange { since: 0, until: 0 }) {
            match level {
                Level::Time { .. } => columns.add(TIME.into(), date_histogram(&chart.metric)),
                Level::Terms { field, size, order } => {
                    // A label has its place in the order before it; the number that it stands for needs none.
                    let field = chart.metric.labelled(&field).unwrap_or(&field).to_owned();
                    let id = format!("by{}", columns.by.len());
                    columns.by.push(id.clone());
                    columns.add(id, terms(chart, &field, size, &order));
                }
            }
        }
        for (number, value) in chart.values.iter().enumerate() {
            let id = format!("v{number}");
            columns.values.push(id.clone());
            if is_plain(value) {
                columns.add(id, plain(chart, value));
            } else {
                for (id, column) in formula::columns(chart, &id, value) {
                    columns.add(id, column);
                }
            }
        }
        columns
    }

    /// Of a table of several metrics, whose rows a data view has together.
    pub(super) fn of_joined(parts: &[Chart]) -> Columns {
        let mut columns = Columns::default();
        let Some(first) = parts.first() else { return columns };
        for field in &first.breakdown {
            let id = format!("by{}", columns.by.len());
            columns.by.push(id.clone());
            columns.add(id, terms(first, field, first.top, &Order::Rows));
        }
        for part in parts {
            for value in &part.values {
                let id = format!("v{}", columns.values.len());
                columns.values.push(id.clone());
                let mut column = plain(part, value);
                column["filter"] = search::query_of_one(&part.metric, &value.query);
                columns.add(id, column);
            }
        }
        columns
    }

    fn add(&mut self, id: String, column: Json) {
        self.order.push(id.clone());
        self.columns.insert(id, column);
    }
}

/// The column of a value that one calculates.
fn plain(chart: &Chart, value: &Value) -> Json {
    let mut column = operation(&chart.metric, value);
    column["label"] = value.label.clone().into();
    column["customLabel"] = true.into();
    match format(chart, value) {
        Some(format) => column["params"]["format"] = format,
        None => column["dataType"] = "date".into(),
    }
    if value.per == Some(Per::Second) {
        column["timeScale"] = "s".into();
    }
    if chart.kind == ChartKind::Number && value.operation.is_zero_without_rows() {
        column["params"]["emptyAsNull"] = false.into();
    }
    column
}

/// Whether a column of its own kind calculates the value; other values need a formula.
fn is_plain(value: &Value) -> bool {
    match value.per {
        None => true,
        Some(Per::Second) => !value.is_time_by_time(),
        Some(Per::Row | Per::Field(_)) => false,
    }
}

/// What a value is calculated from, its divisor left out.
pub(super) fn operation(metric: &Metric, value: &Value) -> Json {
    let mut column = aggregation(value.operation, value.field.as_deref());
    if !value.query.is_empty() {
        column["filter"] = search::query(metric, &value.query);
    }
    column
}

pub(super) fn aggregation(operation: Operation, field: Option<&str>) -> Json {
    let (name, params) = match operation {
        Operation::Count => ("count", json!({"emptyAsNull": false})),
        Operation::Distinct => ("unique_count", json!({"emptyAsNull": true})),
        Operation::Sum => ("sum", json!({"emptyAsNull": true})),
        Operation::Average => ("average", json!({"emptyAsNull": true})),
        Operation::Min => ("min", json!({"emptyAsNull": true})),
        Operation::Max => ("max", json!({"emptyAsNull": true})),
        Operation::Median => ("median", json!({"emptyAsNull": true})),
        Operation::P90 => ("percentile", json!({"percentile": 90})),
        Operation::P99 => ("percentile", json!({"percentile": 99})),
    };
    json!({
        "label": name, "dataType": "number", "operationType": name, "sourceField": field.unwrap_or(RECORDS),
        "isBucketed": false, "scale": "ratio", "params": params,
    })
}

fn date_histogram(metric: &Metric) -> Json {
    // What is given is the smallest; Kibana takes larger ones where the range would have more steps than it draws.
    let interval = match metric.kind {
        Kind::Event => "auto".to_owned(),
        Kind::Summary => format!("{}s", metric.rows_apart().max(USUAL_INTERVAL) / SECOND),
    };
    json!({
        "label": "Time", "customLabel": true, "dataType": "date", "operationType": "date_histogram",
        "sourceField": "@timestamp", "isBucketed": true, "scale": "interval",
        // A step that the range covers in part only would look like a drop.
        "params": {"interval": interval, "includeEmptyRows": true, "dropPartials": true},
    })
}

fn terms(chart: &Chart, field: &str, size: usize, order: &Order) -> Json {
    let first = &chart.values[0];
    let by = match order {
        Order::Key => json!({"orderBy": {"type": "alphabetical", "fallback": false}}),
        Order::Rows if first.operation != Operation::Count || !first.query.is_empty() || !is_plain(first) => {
            json!({"orderBy": {"type": "custom"}, "orderAgg": aggregation(Operation::Count, None)})
        }
        // Lens orders by no formula.
        Order::First if !is_plain(first) => {
            let aggregation = aggregation(first.operation, first.field.as_deref());
            json!({"orderBy": {"type": "custom"}, "orderAgg": aggregation})
        }
        Order::Rows | Order::First => json!({"orderBy": {"type": "column", "columnId": "v0"}}),
    };
    let mut params = json!({
        "size": size, "orderDirection": "desc", "otherBucket": false, "missingBucket": false,
        "parentFormat": {"id": "terms"}, "include": [], "exclude": [], "includeIsRegex": false,
        "excludeIsRegex": false,
    });
    for (key, value) in by.as_object().into_iter().flatten() {
        params[key] = value.clone();
    }
    let data_type = match chart.metric.fields.kind(field) {
        Some(FieldKind::Long | FieldKind::Double) => "number",
        Some(FieldKind::Boolean) => "boolean",
        Some(FieldKind::Ip) => "ip",
        _ => "string",
    };
    json!({
        "label": chart.metric.label(field), "customLabel": true, "dataType": data_type, "operationType": "terms",
        "sourceField": field, "isBucketed": true, "scale": "ordinal", "params": params,
    })
}

/// How Lens writes a number; none of a time.
pub(super) fn format(chart: &Chart, value: &Value) -> Option<Json> {
    Some(match value.unit {
        Unit::Count if is_whole(&chart.metric, value) => {
            json!({"id": "number", "params": {"decimals": 0, "compact": false}})
        }
        Unit::Count | Unit::AtATime => json!({"id": "number", "params": {"decimals": 2, "compact": true}}),
        Unit::PerSecond => json!({"id": "number", "params": {"decimals": 1, "compact": true}}),
        // Lens itself adds "/s" to what it scales by time.
        Unit::Bytes | Unit::BytesPerSecond => json!({"id": "bytes", "params": {"decimals": 1}}),
        Unit::Fraction => json!({"id": "percent", "params": {"decimals": 1}}),
        Unit::Nanoseconds => json!({"id": "duration", "params": {
            "decimals": 2, "compact": true, "fromUnit": "nanoseconds", "toUnit": "humanizePrecise",
        }}),
        Unit::Time => return None,
    })
}

/// Whether the value can't but be a whole number.
fn is_whole(metric: &Metric, value: &Value) -> bool {
    let of_whole = |field: &str| metric.fields.kind(field) == Some(FieldKind::Long);
    match value.operation {
        _ if value.per.is_some() => false,
        Operation::Count | Operation::Distinct => true,
        Operation::Sum | Operation::Min | Operation::Max => value.field.as_deref().is_some_and(of_whole),
        Operation::Average | Operation::Median | Operation::P90 | Operation::P99 => false,
    }
}
