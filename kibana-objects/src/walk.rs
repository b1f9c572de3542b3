//! From nested buckets to a flat list of keys and numbers.

use kumon_query::SearchResponse;
use serde_json::{Value as Json, json};

use crate::model::{Chart, Operation, Per, Value};
use crate::request::{Level, TimeRange};

/// In nanoseconds.
const MILLISECOND: i64 = 1_000_000;

/// The innermost buckets: what they are told apart by, and their numbers in the order of the chart's values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) keys: Vec<Key>,
    pub(crate) numbers: Vec<Option<f64>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Text(String),
    Number(f64),
    /// Milliseconds since the Unix epoch.
    Time(i64),
}

/// In the order of the answer.
pub(crate) fn leaves(chart: &Chart, range: TimeRange, response: &SearchResponse) -> Vec<Leaf> {
    let mut whole = response.aggregations.clone().unwrap_or_else(|| json!({}));
    whole["doc_count"] = response.total.into();
    let mut walk = Walk { chart, range, leaves: Vec::new() };
    walk.bucket(&whole, &chart.levels(range), &mut Vec::new(), None);
    walk.leaves
}

struct Walk<'a> {
    chart: &'a Chart,
    range: TimeRange,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    /// `step` is the time that the bucket covers (ns), where it is one of a time axis.
    fn bucket(&mut self, bucket: &Json, levels: &[Level], keys: &mut Vec<Key>, step: Option<i64>) {
        let Some((level, deeper)) = levels.split_first() else {
            let numbers = self.chart.values.iter().enumerate();
            let numbers = numbers.map(|(number, value)| calculate(bucket, number, value, step)).collect();
            self.leaves.push(Leaf { keys: keys.clone(), numbers });
            return;
        };
        for bucket in bucket["level"]["buckets"].as_array().into_iter().flatten() {
            let (key, step) = match level {
                Level::Time { interval } => {
                    let start = bucket["key"].as_i64().unwrap_or_default();
                    (Key::Time(start), Some(self.covered(start * MILLISECOND, *interval)))
                }
                Level::Terms { .. } => (key(bucket), step),
            };
            keys.push(key);
            self.bucket(bucket, deeper, keys, step);
            keys.pop();
        }
    }

    /// How much of a step lies in the asked range, so that rates are right at both ends.
    fn covered(&self, start: i64, interval: i64) -> i64 {
        start.saturating_add(interval).min(self.range.until) - start.max(self.range.since)
    }
}

fn key(bucket: &Json) -> Key {
    match (&bucket["key"], &bucket["key_as_string"]) {
        // Truth values.
        (Json::Number(_), Json::String(text)) => Key::Text(text.clone()),
        (Json::Number(number), _) => Key::Number(number.as_f64().unwrap_or_default()),
        (Json::String(text), _) => Key::Text(text.clone()),
        (other, _) => Key::Text(other.to_string()),
    }
}

fn calculate(bucket: &Json, number: usize, value: &Value, step: Option<i64>) -> Option<f64> {
    let own = &bucket[format!("v{number}")];
    let dividend = match (value.operation, value.query.is_empty()) {
        (Operation::Count, true) => bucket["doc_count"].as_f64(),
        (Operation::Count, false) => own["doc_count"].as_f64(),
        (_, true) => single(own),
        (_, false) => single(&own["v"]),
    }?;
    let divisor = match &value.per {
        None => return Some(dividend),
        // CPU time (ns) per second of time (ns) is a share; other things are told per second.
        Some(Per::Second) => {
            let step = step? as f64;
            if value.is_time_by_time() { step } else { step / 1e9 }
        }
        Some(Per::Row) => bucket["doc_count"].as_f64()?,
        Some(Per::Field(_)) => single(&bucket[format!("d{number}")])?,
    };
    (divisor > 0.0).then(|| dividend / divisor)
}

/// The number that a metric aggregation answers; of percentiles there is only one.
fn single(answer: &Json) -> Option<f64> {
    match answer["values"].as_object() {
        Some(values) => values.values().next()?.as_f64(),
        None => answer["value"].as_f64(),
    }
}
