//! From a row's JSON to an index document.

use std::net::{IpAddr, Ipv6Addr};

use kumon_query::FieldKind;
use serde_json::{Map, Value};
use tantivy::schema::OwnedValue;
use tantivy::{DateTime, TantivyDocument};

use crate::layout::{Column, Layout, TIMESTAMP};

/// A row ready to be indexed, and when it happened in ns since the Unix epoch.
pub(crate) struct Prepared {
    pub(crate) document: TantivyDocument,
    pub(crate) timestamp: i64,
}

/// Reads a row of `dataset`.
///
/// # Errors
/// Why the row can never be taken, as Elasticsearch would refuse it: no JSON object, no `@timestamp`, or a value
/// that is none of its field's type.
pub(crate) fn prepare(layout: &Layout, dataset: &str, json: &[u8]) -> Result<Prepared, String> {
    let text = std::str::from_utf8(json).map_err(|e| format!("the row is not UTF-8: {e}"))?;
    let row: Map<String, Value> =
        kumon_query::row(text).map_err(|e| format!("the row is not a JSON object: {e}"))?;
    let timestamp = row.get(TIMESTAMP).ok_or("the row has no @timestamp")?;
    let timestamp = nanoseconds(timestamp).ok_or_else(|| format!("@timestamp: {timestamp} is not a time"))?;

    let mut document = TantivyDocument::default();
    document.add_text(layout.dataset, dataset);
    document.add_text(layout.source, text);
    if is_builtin(dataset) {
        for (name, value) in &row {
            // A column that an older schema had stays in the row, but there is nothing to search it by.
            if let Some(column) = layout.columns.get(name) {
                add(&mut document, column, value).map_err(|reason| format!("{name}: {reason}"))?;
            }
        }
    } else {
        document.add_date(layout.timestamp, DateTime::from_timestamp_nanos(timestamp));
        add_foreign(&mut document, layout, row);
    }
    Ok(Prepared { document, timestamp })
}

/// Whether the dataset is one of KuMon's own metrics.
fn is_builtin(dataset: &str) -> bool {
    dataset.strip_prefix("kumon.").is_some_and(|metric| kumon_schema::builtin(metric).is_some())
}

fn add(document: &mut TantivyDocument, column: &Column, value: &Value) -> Result<(), String> {
    let field = column.field;
    let refused = || format!("{value} is not a {}", column.kind.name());
    match value {
        Value::Null => return Ok(()),
        Value::Array(values) => return values.iter().try_for_each(|value| add(document, column, value)),
        Value::Object(_) => return Err(refused()),
        _ => {}
    }
    match column.kind {
        FieldKind::Long => document.add_i64(field, long(value).ok_or_else(refused)?),
        FieldKind::Double => document.add_f64(field, double(value).ok_or_else(refused)?),
        FieldKind::Boolean => document.add_bool(field, boolean(value).ok_or_else(refused)?),
        FieldKind::Ip => document.add_ip_addr(field, address(value).ok_or_else(refused)?),
        FieldKind::Date => {
            let time = nanoseconds(value).ok_or_else(refused)?;
            document.add_date(field, DateTime::from_timestamp_nanos(time));
        }
        FieldKind::Keyword | FieldKind::Words | FieldKind::Foreign => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if let Some(words) = column.words {
                document.add_text(words, &text);
            }
            if text.encode_utf16().count() <= column.ignore_above {
                document.add_text(field, text);
            }
        }
    }
    Ok(())
}

/// Texts of numbers are numbers, and fractions are cut, as Elasticsearch's `coerce` has it.
fn long(value: &Value) -> Option<i64> {
    let whole = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    };
    let fits = |number: &f64| number.abs() < i64::MAX as f64;
    whole.or_else(|| double(value).filter(fits).map(|number| number as i64))
}

fn double(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number| number.is_finite())
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) if text == "true" => Some(true),
        Value::String(text) if text.is_empty() || text == "false" => Some(false),
        _ => None,
    }
}

fn address(value: &Value) -> Option<Ipv6Addr> {
    value.as_str()?.parse().ok().map(to_v6)
}

/// The one form in which addresses are kept.
pub(crate) fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn nanoseconds(value: &Value) -> Option<i64> {
    let milliseconds = match value {
        Value::String(text) => {
            if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
                return Some(time.timestamp_nanos_opt().unwrap_or_else(|| limit(time.timestamp())));
            }
            kumon_query::date(text)?
        }
        other => long(other)?,
    };
    Some(milliseconds.checked_mul(1_000_000).unwrap_or_else(|| limit(milliseconds)))
}

/// Before 1677 and after 2262: where the row is found by its time. It says the true one.
fn limit(time: i64) -> i64 {
    if time < 0 { i64::MIN } else { i64::MAX }
}

fn add_foreign(document: &mut TantivyDocument, layout: &Layout, row: Map<String, Value>) {
    let (mut whole, mut words) = (Vec::new(), Vec::new());
    for (name, value) in row {
        if name == TIMESTAMP {
            continue;
        }
        gather_texts(document, layout, &value);
        if let Some(text) = texts_only(&value) {
            words.push((name.clone(), text));
        }
        whole.push((name, owned(value)));
    }
    document.add_field_value(layout.foreign, &OwnedValue::Object(whole));
    document.add_field_value(layout.foreign_words, &OwnedValue::Object(words));
}

fn gather_texts(document: &mut TantivyDocument, layout: &Layout, value: &Value) {
    match value {
        Value::String(text) => {
            document.add_text(layout.texts, text);
            document.add_text(layout.words, text);
        }
        Value::Array(values) => values.iter().for_each(|value| gather_texts(document, layout, value)),
        Value::Object(fields) => fields.values().for_each(|value| gather_texts(document, layout, value)),
        _ => {}
    }
}

fn texts_only(value: &Value) -> Option<OwnedValue> {
    match value {
        Value::String(text) => Some(OwnedValue::Str(text.clone())),
        Value::Array(values) => Some(OwnedValue::Array(values.iter().filter_map(texts_only).collect())),
        Value::Object(fields) => {
            let texts = fields.iter().filter_map(|(name, value)| Some((name.clone(), texts_only(value)?)));
            Some(OwnedValue::Object(texts.collect()))
        }
        _ => None,
    }
}

/// Not tantivy's own conversion: that would turn texts that look like a time into one.
fn owned(value: Value) -> OwnedValue {
    match value {
        Value::Null => OwnedValue::Null,
        Value::Bool(truth) => OwnedValue::Bool(truth),
        Value::String(text) => OwnedValue::Str(text),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => OwnedValue::I64(whole),
            (None, Some(whole)) => OwnedValue::U64(whole),
            (None, None) => number.as_f64().map_or(OwnedValue::Null, OwnedValue::F64),
        },
        Value::Array(values) => OwnedValue::Array(values.into_iter().map(owned).collect()),
        Value::Object(fields) => {
            OwnedValue::Object(fields.into_iter().map(|(name, value)| (name, owned(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;
    use crate::layout::Layout;

    fn refusal(row: &str) -> String {
        prepare(&Layout::current(), "kumon.exec", row.as_bytes()).err().expect(row)
    }

    #[test]
    fn a_row_that_elasticsearch_would_refuse_is_refused_with_the_reason() {
        assert_eq!(refusal(r#"{"process.pid":1}"#), "the row has no @timestamp");
        assert_eq!(refusal(r#"{"@timestamp":"soon"}"#), "@timestamp: \"soon\" is not a time");
        let row = r#"{"@timestamp":"2026-11-21T01:00:00Z","process.pid":"x"}"#;
        assert_eq!(refusal(row), "process.pid: \"x\" is not a long");
        assert!(refusal("[1]").starts_with("the row is not a JSON object"));
    }

    #[test]
    fn times_that_nanoseconds_do_not_reach_are_the_first_and_the_last() {
        for (time, expected) in [
            ("\"9999-12-31T23:59:59Z\"", i64::MAX),
            ("\"0000-01-01T00:00:00Z\"", i64::MIN),
            ("99999999999999", i64::MAX),
            ("1000.5", 1_000_000_000),
        ] {
            let row = format!("{{\"@timestamp\":{time}}}");
            let prepared = prepare(&Layout::current(), "app", row.as_bytes()).map(|row| row.timestamp);
            assert_eq!(prepared, Ok(expected), "{time}");
        }
    }

    #[test]
    fn the_time_keeps_its_microseconds() {
        let row = br#"{"@timestamp":"1970-01-01T00:00:01.000002Z","process.pid":"7"}"#;
        assert_eq!(prepare(&Layout::current(), "kumon.exec", row).unwrap().timestamp, 1_000_002_000);
    }
}
