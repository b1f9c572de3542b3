//! From a row's bytes to an index document.

use kumon_query::FieldKind;
use kumon_shipper::Value as Scalar;
use serde_json::{Map, Value};
use tantivy::schema::OwnedValue;
use tantivy::{DateTime, TantivyDocument};

use crate::encoder::{Encoded, Kind, is_builtin};
use crate::layout::{Column, Layout, TIMESTAMP};
use crate::values::{self, Reader, Typed};

/// A row ready to be indexed, and when it happened in ns since the Unix epoch.
pub(crate) struct Prepared {
    pub(crate) document: TantivyDocument,
    pub(crate) timestamp: i64,
}

/// Makes a document of a row of `dataset`.
///
/// # Errors
/// Why the row can never be taken, as Elasticsearch would refuse it: no JSON object, no `@timestamp`, or a value
/// that is none of its field's type.
pub(crate) fn prepare(layout: &Layout, dataset: &str, row: &[u8]) -> Result<Prepared, String> {
    let Encoded { text, kind, timestamp, values } = Encoded::of(row)?;
    // So that it need not grow.
    let mut document = TantivyDocument::with_capacity(row.len() + dataset.len());
    document.add_text(layout.dataset, dataset);
    document.add_text(layout.source, text);
    let timestamp = match kind {
        Kind::Known => {
            let mut values = Reader(values);
            while let Some((field, value)) = values.value() {
                value.add_to(&mut document, field);
            }
            timestamp
        }
        Kind::Foreign => {
            let mut row: Vec<(String, OwnedValue)> = Vec::new();
            let mut values = Reader(values);
            while let Some((name, value)) = values.named() {
                match row.last_mut() {
                    // The next item of a list.
                    Some((known, values)) if known == name => append(values, plain(value)),
                    _ => row.push((name.to_owned(), plain(value))),
                }
            }
            add_foreign(&mut document, layout, timestamp, row);
            timestamp
        }
        Kind::Passed => read_text(&mut document, layout, dataset, text)?,
        Kind::Refused => return Err(String::from_utf8_lossy(values).into_owned()),
    };
    Ok(Prepared { document, timestamp })
}

/// Reads a row that was passed through; answers when it happened.
fn read_text(
    document: &mut TantivyDocument,
    layout: &Layout,
    dataset: &str,
    text: &str,
) -> Result<i64, String> {
    let row: Map<String, Value> =
        kumon_query::row(text).map_err(|e| format!("the row is not a JSON object: {e}"))?;
    let time = row.get(TIMESTAMP).ok_or("the row has no @timestamp")?;
    let timestamp = scalar(time).and_then(values::nanoseconds);
    let timestamp = timestamp.ok_or_else(|| format!("{TIMESTAMP}: {time} is not a time"))?;
    if is_builtin(dataset) {
        for (name, value) in &row {
            // A column that an older schema had stays in the row, but there is nothing to search it by.
            if let Some(column) = layout.columns.get(name) {
                add(document, column, value).map_err(|reason| format!("{name}: {reason}"))?;
            }
        }
    } else {
        let row = row.into_iter().filter(|(name, _)| name != TIMESTAMP);
        add_foreign(document, layout, timestamp, row.map(|(name, value)| (name, owned(value))).collect());
    }
    Ok(timestamp)
}

fn add(document: &mut TantivyDocument, column: &Column, value: &Value) -> Result<(), String> {
    let whole = value.to_string();
    let value = match value {
        Value::Null => return Ok(()),
        Value::Array(values) => return values.iter().try_for_each(|value| add(document, column, value)),
        // Numbers keep all their digits where they are words.
        Value::Number(_) if matches!(column.kind, FieldKind::Keyword | FieldKind::Words) => {
            Some(Scalar::Text(&whole))
        }
        other => scalar(other),
    };
    let value = value.ok_or_else(|| format!("{whole} is not a {}", column.kind.name()))?;
    values::each(column, value, |field, value| value.add_to(document, field))
}

/// A value that has no parts.
fn scalar(value: &Value) -> Option<Scalar<'_>> {
    match value {
        Value::Bool(truth) => Some(Scalar::Boolean(*truth)),
        Value::String(text) => Some(Scalar::Text(text)),
        Value::Number(number) => {
            number.as_i64().map(Scalar::Integer).or_else(|| number.as_f64().map(Scalar::Number))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Adds a foreign row's fields, all but its time.
fn add_foreign(
    document: &mut TantivyDocument,
    layout: &Layout,
    timestamp: i64,
    mut row: Vec<(String, OwnedValue)>,
) {
    document.add_date(layout.timestamp, DateTime::from_timestamp_nanos(timestamp));
    // Whoever wrote them, in whatever order: the words of a field follow those of the same one.
    row.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut words = Vec::new();
    for (name, value) in &row {
        gather_texts(document, layout, value);
        if let Some(text) = texts_only(value) {
            words.push((name.clone(), text));
        }
    }
    document.add_field_value(layout.foreign, &OwnedValue::Object(row));
    document.add_field_value(layout.foreign_words, &OwnedValue::Object(words));
}

fn gather_texts(document: &mut TantivyDocument, layout: &Layout, value: &OwnedValue) {
    match value {
        OwnedValue::Str(text) => {
            document.add_text(layout.texts, text);
            document.add_text(layout.words, text);
        }
        OwnedValue::Array(values) => values.iter().for_each(|value| gather_texts(document, layout, value)),
        OwnedValue::Object(fields) => {
            fields.iter().for_each(|(_, value)| gather_texts(document, layout, value));
        }
        _ => {}
    }
}

fn texts_only(value: &OwnedValue) -> Option<OwnedValue> {
    match value {
        OwnedValue::Str(text) => Some(OwnedValue::Str(text.clone())),
        OwnedValue::Array(values) => Some(OwnedValue::Array(values.iter().filter_map(texts_only).collect())),
        OwnedValue::Object(fields) => {
            let texts = fields.iter().filter_map(|(name, value)| Some((name.clone(), texts_only(value)?)));
            Some(OwnedValue::Object(texts.collect()))
        }
        _ => None,
    }
}

fn append(values: &mut OwnedValue, next: OwnedValue) {
    match values {
        OwnedValue::Array(items) => items.push(next),
        first => *first = OwnedValue::Array(vec![std::mem::replace(first, OwnedValue::Null), next]),
    }
}

/// A value of a foreign row's column.
fn plain(value: Typed<'_>) -> OwnedValue {
    match value {
        Typed::Long(whole) => OwnedValue::I64(whole),
        Typed::Double(number) => OwnedValue::F64(number),
        Typed::Boolean(truth) => OwnedValue::Bool(truth),
        Typed::Text(text) => OwnedValue::Str(text.to_owned()),
        Typed::Date(time) => OwnedValue::Date(DateTime::from_timestamp_nanos(time)),
        Typed::Ip(address) => OwnedValue::IpAddr(address),
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
    use super::{Prepared, prepare};
    use crate::layout::Layout;
    use crate::support::File;

    /// A row that is passed through.
    fn prepared(dataset: &str, row: &str) -> Result<Prepared, String> {
        let batch = File::new("a", dataset).batch_of_texts(&[row.to_owned()]);
        prepare(&Layout::current(), dataset, &batch.body)
    }

    fn refusal(row: &str) -> String {
        prepared("kumon.exec", row).err().expect(row)
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
            assert_eq!(prepared("app", &row).map(|row| row.timestamp), Ok(expected), "{time}");
        }
    }

    #[test]
    fn the_time_keeps_its_microseconds() {
        let row = r#"{"@timestamp":"1970-01-01T00:00:01.000002Z","process.pid":"7"}"#;
        assert_eq!(prepared("kumon.exec", row).unwrap().timestamp, 1_000_002_000);
    }
}
