//! Evaluating an alert by asking for its rows; the other two ways are in [`crate::render`].

use kumon_query::{Search, SearchError, SearchRequest};
use serde_json::{Map, Value, json};

use crate::alert::Alert;
use crate::expression::Aggregation;

/// Groups that are looked at, of each field of `group_by`; those with the most rows.
pub(crate) const MAX_GROUPS: u32 = 500;
/// Names of the aggregations in a request.
pub(crate) const GROUP: &str = "group";
pub(crate) const VALUE: &str = "value";
pub(crate) const DIVISOR: &str = "divisor";

/// The value of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The `group_by` fields and their values; empty where the alert has none.
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// What an evaluation found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Every group that has a value.
    pub groups: Vec<Group>,
    /// Whether there were more groups than are looked at.
    pub truncated: bool,
}

impl Group {
    /// Identifies the group among those of its alert.
    pub fn key(&self) -> String {
        let pairs = self.labels.iter().map(|(field, value)| format!("{field}={value}"));
        pairs.collect::<Vec<_>>().join(", ")
    }
}

impl Evaluation {
    /// The groups for which the alert fires.
    pub fn firing<'a>(&'a self, alert: &'a Alert) -> impl Iterator<Item = &'a Group> {
        self.groups.iter().filter(|group| alert.threshold.exceeded_by(group.value))
    }
}

/// Calculates the alert's value of each group. `now` is in ns since the Unix epoch; with `host` only rows of that node
/// count.
///
/// # Errors
/// When the rows can't be asked for.
pub fn evaluate(
    alert: &Alert,
    search: &dyn Search,
    now: i64,
    host: Option<&str>,
) -> Result<Evaluation, SearchError> {
    let window = i64::try_from(alert.window.as_nanos()).unwrap_or(i64::MAX);
    let request = SearchRequest {
        metric: alert.metric.clone(),
        query: query(alert, host),
        since: Some(now.saturating_sub(window)),
        until: Some(now),
        limit: Some(0),
        aggs: Some(aggs(alert)),
    };
    let answer = match search.search(&request) {
        // No agent has shipped rows of a foreign input yet.
        Err(SearchError::UnknownMetric { .. }) => return Ok(Evaluation::default()),
        answer => answer?,
    };
    let aggregations = answer.aggregations.unwrap_or_default();
    let mut evaluation = Evaluation::default();
    let whole = json!({"doc_count": answer.total});
    read(alert, 0, &merged(whole, aggregations), &mut Vec::new(), now, &mut evaluation);
    Ok(evaluation)
}

fn query(alert: &Alert, host: Option<&str>) -> String {
    let host = host.map(|name| format!("host.name:\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
    match (host, alert.query.as_str()) {
        (None, query) => query.to_owned(),
        (Some(host), "") => host,
        (Some(host), query) => format!("({query}) AND {host}"),
    }
}

/// The alert's aggregations, as Elasticsearch and the store take them.
pub(crate) fn aggs(alert: &Alert) -> Value {
    let innermost = values(&alert.aggregation);
    alert.group_by.iter().rev().fold(innermost, |nested, field| {
        let terms = json!({"field": field, "size": MAX_GROUPS});
        match nested.as_object().is_some_and(Map::is_empty) {
            true => json!({GROUP: {"terms": terms}}),
            false => json!({GROUP: {"terms": terms, "aggs": nested}}),
        }
    })
}

fn values(aggregation: &Aggregation) -> Value {
    match aggregation {
        Aggregation::Count => json!({}),
        Aggregation::Age => json!({VALUE: {"max": {"field": "@timestamp"}}}),
        Aggregation::Of(function, field) => json!({VALUE: {function.name(): {"field": field}}}),
        Aggregation::Percentile(field, percent) => {
            json!({VALUE: {"percentiles": {"field": field, "percents": [percent]}}})
        }
        Aggregation::Ratio(dividend, divisor) => {
            json!({VALUE: {"sum": {"field": dividend}}, DIVISOR: {"sum": {"field": divisor}}})
        }
    }
}

/// Gathers the groups below one bucket; `depth` fields of `group_by` have their values in `labels`.
fn read(
    alert: &Alert,
    depth: usize,
    bucket: &Value,
    labels: &mut Vec<(String, String)>,
    now: i64,
    found: &mut Evaluation,
) {
    let Some(field) = alert.group_by.get(depth) else {
        if let Some(value) = value(&alert.aggregation, bucket, now) {
            found.groups.push(Group { labels: labels.clone(), value });
        }
        return;
    };
    found.truncated |= bucket[GROUP]["sum_other_doc_count"].as_u64().unwrap_or(0) > 0;
    for nested in bucket[GROUP]["buckets"].as_array().into_iter().flatten() {
        labels.push((field.clone(), label(nested)));
        read(alert, depth + 1, nested, labels, now, found);
        labels.pop();
    }
}

fn label(bucket: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&bucket["key_as_string"])
        .or_else(|| text(&bucket["key"]))
        .unwrap_or_else(|| bucket["key"].to_string())
}

/// Nothing where no row has the field.
fn value(aggregation: &Aggregation, bucket: &Value, now: i64) -> Option<f64> {
    let number = |name: &str| bucket[name]["value"].as_f64();
    match aggregation {
        Aggregation::Count => bucket["doc_count"].as_f64(),
        Aggregation::Of(..) => number(VALUE),
        Aggregation::Percentile(..) => bucket[VALUE]["values"].as_object()?.values().next()?.as_f64(),
        Aggregation::Ratio(..) => Some(number(VALUE)? / number(DIVISOR).filter(|divisor| *divisor > 0.0)?),
        // The newest row's time is in ms.
        Aggregation::Age => number(VALUE).map(|newest| now as f64 - newest * 1e6),
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
