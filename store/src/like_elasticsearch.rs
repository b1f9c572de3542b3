//! Where tantivy's answers to aggregations are written differently from Elasticsearch's.

use chrono::{DateTime, SecondsFormat};
use kumon_query::{FieldKind, Fields};
use serde_json::{Map, Value, json};

/// Rewrites the answers to the aggregations `aggs`.
pub(crate) fn rewrite(aggs: &Value, answers: &mut Value, fields: &Fields) {
    let (Some(aggs), Some(answers)) = (aggs.as_object(), answers.as_object_mut()) else { return };
    for (name, aggregation) in aggs {
        let (Some(aggregation), Some(answer)) = (aggregation.as_object(), answers.get_mut(name)) else {
            continue;
        };
        for (kind, body) in aggregation.iter().filter(|(kind, _)| *kind != "aggs") {
            let is_date =
                body["field"].as_str().and_then(|field| fields.kind(field)) == Some(FieldKind::Date);
            rewrite_one(kind, is_date, answer);
        }
        if let Some(nested) = aggregation.get("aggs") {
            each_bucket(answer, |bucket| rewrite(nested, bucket, fields));
        }
    }
}

fn rewrite_one(kind: &str, is_date: bool, answer: &mut Value) {
    match kind {
        "date_histogram" => each_bucket(answer, |bucket| {
            if let Some(milliseconds) = bucket["key"].as_f64() {
                bucket["key"] = json!(milliseconds as i64);
                bucket["key_as_string"] = text(milliseconds as i64).into();
            }
        }),
        "range" => each_bucket(answer, |bucket| {
            let end =
                |end: &Value| end.as_f64().map_or_else(|| "*".to_owned(), |number| format!("{number:?}"));
            if bucket.get("key").is_some_and(|key| key.as_str() == Some(&tantivys_key(bucket))) {
                bucket["key"] = format!("{}-{}", end(&bucket["from"]), end(&bucket["to"])).into();
            }
        }),
        "terms" => {
            if let Some(answer) = answer.as_object_mut() {
                answer.entry("doc_count_error_upper_bound").or_insert(json!(0));
            }
        }
        "value_count" | "cardinality" => {
            if let Some(count) = answer["value"].as_f64() {
                answer["value"] = json!(count as u64);
            }
        }
        "min" | "max" | "avg" if is_date => {
            if let Some(nanoseconds) = answer["value"].as_f64() {
                let milliseconds = (nanoseconds / 1e6).floor();
                *answer = json!({"value": milliseconds, "value_as_string": text(milliseconds as i64)});
            }
        }
        _ => {}
    }
}

/// The key of a range that the request gave none.
fn tantivys_key(bucket: &Value) -> String {
    let end = |end: &Value| end.as_f64().map_or_else(|| "*".to_owned(), |number| number.to_string());
    format!("{}-{}", end(&bucket["from"]), end(&bucket["to"]))
}

fn each_bucket(answer: &mut Value, mut change: impl FnMut(&mut Value)) {
    match answer.get_mut("buckets") {
        Some(Value::Array(buckets)) => buckets.iter_mut().for_each(change),
        Some(Value::Object(buckets)) => buckets.values_mut().for_each(change),
        // A bucket of its own: filter.
        _ => change(answer),
    }
}

fn text(milliseconds: i64) -> String {
    let time = DateTime::from_timestamp_millis(milliseconds).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `calendar_interval`s that are always equally long, which tantivy only knows as `fixed_interval`.
pub(crate) fn fix_interval(body: &mut Map<String, Value>) {
    let fixed = match body.get("calendar_interval").and_then(Value::as_str) {
        Some("minute" | "1m") => "1m",
        Some("hour" | "1h") => "1h",
        Some("day" | "1d") => "1d",
        _ => return,
    };
    body.remove("calendar_interval");
    body.insert("fixed_interval".into(), fixed.into());
}
