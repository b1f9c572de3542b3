//! The question that a panel asks.

use kumon_query::SearchRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::catalog::Metric;
use crate::model::{Chart, Content, Operation, Over, Panel, Per, Value};

/// Rows that a panel of raw rows shows.
const ROWS: usize = 100;
/// Lines of a heat map; more than any histogram has buckets.
const HEAT_MAP_LINES: usize = 64;
/// Steps of a time axis, at most.
const STEPS: i64 = 90;

pub(crate) const SECOND: i64 = 1_000_000_000;
/// What a row of most summaries covers by default, ns.
pub(crate) const USUAL_INTERVAL: i64 = 10 * SECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Steps of time axes. None is shorter than what a row covers: it would have all of a row or nothing.
const INTERVALS: &[i64] = &[
    USUAL_INTERVAL,
    30 * SECOND,
    MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    30 * DAY,
    365 * DAY,
];

/// From `since` on, before `until`; ns since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    pub since: i64,
    pub until: i64,
}

/// What a drop-down narrows the dashboard to: rows in which the field has one of the values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    pub field: String,
    pub values: Vec<String>,
}

/// What values are told apart by at one level of the nested aggregations.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Level {
    Time { interval: i64 },
    Terms { field: String, size: usize, order: Order },
}

/// Which values of a field come first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Order {
    /// The largest texts or numbers: a heat map's lines, from top to bottom.
    Key,
    /// Those with the most rows.
    Rows,
    /// Those with the largest first value, or largest dividend of it.
    First,
}

impl TimeRange {
    /// The step of a time axis (ns): the smallest that gives no more than a screen can tell apart, and has rows where they are
    /// so far apart.
    fn interval(self, rows_apart: i64) -> i64 {
        let wanted = rows_apart.max(self.until.saturating_sub(self.since) / STEPS);
        INTERVALS.iter().copied().find(|interval| *interval >= wanted).unwrap_or(365 * DAY)
    }
}

impl Panel {
    /// What the panel asks of the rows in `range` that pass all `filters`: a question for each metric. None where it shows no rows
    /// (text, links).
    ///
    /// A filter without values lets everything pass, and so does one on a field that the panel's metric doesn't have;
    /// [`Panel::can_filter`] tells beforehand.
    pub fn requests(&self, range: TimeRange, filters: &[Filter]) -> Vec<SearchRequest> {
        let of_chart = |chart: &Chart| {
            self.request(&chart.metric, &chart.query, range, filters, 0, aggregations(chart, range))
        };
        match &self.content {
            Content::Text(_) | Content::Links(_) => Vec::new(),
            Content::Rows(rows) => vec![self.request(&rows.metric, &rows.query, range, filters, ROWS, None)],
            Content::Chart(chart) => vec![of_chart(chart)],
            Content::Joined(parts) => parts.iter().map(of_chart).collect(),
        }
    }

    fn request(
        &self,
        metric: &Metric,
        query: &str,
        range: TimeRange,
        filters: &[Filter],
        limit: usize,
        aggs: Option<Json>,
    ) -> SearchRequest {
        let mut parts: Vec<String> = (!query.is_empty()).then(|| format!("({query})")).into_iter().collect();
        let applied =
            filters.iter().filter(|filter| !filter.values.is_empty() && self.can_filter(&filter.field));
        parts.extend(applied.map(Filter::query));
        SearchRequest {
            metric: metric.name.clone(),
            query: parts.join(" AND "),
            since: Some(range.since),
            until: Some(range.until),
            limit: Some(limit),
            aggs,
        }
    }

    /// Whether the panel's rows have the field.
    pub fn can_filter(&self, field: &str) -> bool {
        let metrics = self.content.metrics();
        !metrics.is_empty() && metrics.iter().all(|metric| metric.has_values(field))
    }
}

impl Filter {
    /// In the query language.
    fn query(&self) -> String {
        let quoted = |value: &String| format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""));
        let values: Vec<String> = self.values.iter().map(quoted).collect();
        format!("{}:({})", self.field, values.join(" OR "))
    }
}

impl Chart {
    /// The step of its time axis, ns.
    pub(crate) fn interval(&self, range: TimeRange) -> i64 {
        range.interval(self.metric.rows_apart())
    }

    /// From outside to inside.
    pub(crate) fn levels(&self, range: TimeRange) -> Vec<Level> {
        let terms =
            |field: &String, order: Order| Level::Terms { field: field.clone(), size: self.top, order };
        let mut levels = Vec::new();
        if let Over::Field(field) = &self.over {
            // A histogram's buckets stand in their own order.
            let order = if self.metric.is_scale(field) { Order::Key } else { self.order() };
            levels.push(terms(field, order));
        }
        if self.kind == crate::ChartKind::HeatMap {
            let lines = self.breakdown.iter().cloned();
            levels.extend(lines.map(|field| Level::Terms { field, size: HEAT_MAP_LINES, order: Order::Key }));
        } else {
            levels.extend(self.breakdown.iter().map(|field| terms(field, self.order())));
        }
        if self.is_over_time() {
            levels.push(Level::Time { interval: self.interval(range) });
        }
        levels
    }

    /// Neither a filtered value nor a percentile orders: the embedded store can't, so both stores order by rows.
    pub(crate) fn order(&self) -> Order {
        match &self.values[0] {
            value if value.operation == Operation::Count || !value.query.is_empty() => Order::Rows,
            value if value.operation.percentile().is_some() => Order::Rows,
            _ => Order::First,
        }
    }
}

fn aggregations(chart: &Chart, range: TimeRange) -> Option<Json> {
    let mut aggs: Map<String, Json> = Map::new();
    for (number, value) in chart.values.iter().enumerate() {
        value_aggregations(number, value, &mut aggs);
    }
    for level in chart.levels(range).into_iter().rev() {
        aggs = within(chart, &level, aggs);
    }
    (!aggs.is_empty()).then_some(Json::Object(aggs))
}

fn within(chart: &Chart, level: &Level, inner: Map<String, Json>) -> Map<String, Json> {
    let mut outer = match level {
        Level::Time { interval } => {
            let interval = format!("{}s", interval / SECOND);
            // Steps without rows are known without being told.
            json!({"date_histogram": {"field": "@timestamp", "fixed_interval": interval, "min_doc_count": 1}})
        }
        Level::Terms { field, size, order } => {
            let order = match order {
                Order::Key => json!({"_key": "desc"}),
                Order::Rows => json!({"_count": "desc"}),
                Order::First => json!({"order": "desc"}),
            };
            json!({"terms": {"field": field, "size": size, "order": order}})
        }
    };
    let mut inner = inner;
    if let Level::Terms { order: Order::First, .. } = level {
        inner.insert("order".into(), one(chart.values[0].operation, chart.values[0].field.as_deref()));
    }
    if !inner.is_empty() {
        outer["aggs"] = Json::Object(inner);
    }
    Map::from_iter([("level".to_owned(), outer)])
}

/// `v0` is the number, or its dividend; `d0` the divisor. A count needs no aggregation: buckets have one.
fn value_aggregations(number: usize, value: &Value, aggs: &mut Map<String, Json>) {
    let counts = value.operation == Operation::Count;
    if !value.query.is_empty() {
        let mut filter = json!({"filter": {"query_string": {"query": value.query}}});
        if !counts {
            filter["aggs"] = json!({"v": one(value.operation, value.field.as_deref())});
        }
        aggs.insert(format!("v{number}"), filter);
    } else if !counts {
        aggs.insert(format!("v{number}"), one(value.operation, value.field.as_deref()));
    }
    if let Some(Per::Field(field)) = &value.per {
        aggs.insert(format!("d{number}"), json!({"sum": {"field": field}}));
    }
}

fn one(operation: Operation, field: Option<&str>) -> Json {
    let name = match operation {
        // Only where a field is given.
        Operation::Count => "value_count",
        Operation::Distinct => "cardinality",
        Operation::Sum => "sum",
        Operation::Average => "avg",
        Operation::Min => "min",
        Operation::Max => "max",
        Operation::Median | Operation::P90 | Operation::P99 => "percentiles",
    };
    let mut body = json!({"field": field});
    if let Some(percentile) = operation.percentile() {
        body["percents"] = json!([percentile]);
    }
    json!({name: body})
}
