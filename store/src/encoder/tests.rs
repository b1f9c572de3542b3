use std::sync::Arc;

use kumon_schema::Kind as StreamKind;
use kumon_shipper::{Batch, Constant, Encoder, FieldName, RowId, StreamName, Value};
use tantivy::schema::OwnedValue;

use super::{Encoded, Kind, StoreEncoder};
use crate::document::prepare;
use crate::layout::Layout;

type Row<'a> = &'a [(&'a str, Value<'a>)];

const TIME: (&str, Value<'static>) = ("@timestamp", Value::Time("2026-11-21T10:00:00.000001Z"));

const LIST: Value<'static> = Value::List(&[Value::Text("a b"), Value::Text("c"), Value::Text("")]);

fn stream(dataset: &str) -> Arc<StreamName> {
    StreamName { kind: StreamKind::Event, dataset: dataset.into(), namespace: "default".into() }.into()
}

/// Gives a row away field by field.
fn encode(encoder: &mut StoreEncoder, dataset: &str, row: Row<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.begin(&RowId { stream: &stream(dataset), generation: &"g".into(), offset: 9 }, &mut bytes);
    for (name, value) in row {
        encoder.field(&FieldName::new(name), *value, &mut bytes);
    }
    encoder.end(&mut bytes);
    bytes
}

/// What a row is stored and found by, in any order.
fn document(dataset: &str, row: &[u8]) -> Result<(i64, Vec<String>), String> {
    let layout = Layout::current();
    let prepared = prepare(&layout, dataset, row)?;
    let values = prepared.document.field_values();
    let shown =
        |(field, value)| format!("{}: {:?}", layout.schema.get_field_name(field), OwnedValue::from(value));
    let mut values: Vec<String> = values.map(shown).collect();
    values.sort();
    Ok((prepared.timestamp, values))
}

/// The same of the row's text, passed through.
fn document_of_text(dataset: &str, text: &str) -> Result<(i64, Vec<String>), String> {
    let mut batch = Batch::new(Box::new(StoreEncoder::default()));
    let id = RowId { stream: &stream(dataset), generation: &"g".into(), offset: 9 };
    batch.push_json(0, 9, &id, text);
    assert_eq!(Encoded::of(&batch.body).unwrap().kind, Kind::Passed);
    document(dataset, &batch.body)
}

#[test]
fn a_metrics_row_becomes_its_text_and_typed_values() {
    let mut encoder = StoreEncoder::default();
    let fields = [
        TIME,
        ("host.name", Value::Text("no\"de\u{0}")),
        ("process.pid", Value::Integer(7)),
        ("kumon.exec.truncated", Value::Boolean(true)),
        ("a.column.of.old", Value::Integer(1)),
    ];
    let row = encode(&mut encoder, "kumon.exec", &fields);
    let text = r#"{"@timestamp":"2026-11-21T10:00:00.000001Z","host.name":"no\"de\u0000","process.pid":7,"kumon.exec.truncated":true,"a.column.of.old":1}"#;
    assert_eq!(std::str::from_utf8(encoder.document(&row)), Ok(text));
    let (timestamp, values) = document("kumon.exec", &row).unwrap();
    assert_eq!(timestamp, 1_795_255_200_000_001_000);
    assert_eq!(
        values,
        [
            r#"@timestamp: Date(2026-11-21T10:00:00.000001Z)"#.to_owned(),
            r#"_dataset: Str("kumon.exec")"#.to_owned(),
            format!("_source: Str({text:?})"),
            r#"host.name: Str("no\"de\0")"#.to_owned(),
            r#"kumon.exec.truncated: Bool(true)"#.to_owned(),
            r#"process.pid: I64(7)"#.to_owned(),
        ]
    );
}

#[test]
fn a_row_given_field_by_field_is_found_as_its_text_is() {
    let long = "words and ".repeat(900);
    let rows: [(&str, Row<'_>); 6] = [
        (
            "kumon.exec",
            &[
                TIME,
                ("process.command_line", Value::Text(&long)),
                ("process.pid", Value::Text(" 7")),
                ("process.parent.pid", Value::Text("-9223372036854775808")),
                ("user.id", Value::Integer(1000)),
                ("event.action", Value::Boolean(false)),
            ],
        ),
        ("app", &[TIME, ("several", LIST)]),
        ("kumon.exec", &[TIME, ("process.pid", Value::Number(7.9)), ("process.name", Value::Number(1.0))]),
        ("kumon.tcplife", &[("@timestamp", Value::Integer(1000)), ("source.ip", Value::Text("10.0.0.1"))]),
        (
            "app",
            &[
                ("z", Value::Text("first in the file, last in the row")),
                ("host.name", Value::Text("node-1")),
                ("", Value::Text("")),
                ("a\"b\u{0}.c\n", Value::Text("\u{1}\u{7f}\"\\\n\u{2028}ä")),
                (long.as_str(), Value::Integer(i64::MIN)),
                ("max", Value::Integer(i64::MAX)),
                ("tiny", Value::Number(5e-324)),
                ("whole", Value::Number(-0.0)),
                ("huge", Value::Number(1.7e308)),
                ("true", Value::Boolean(true)),
                ("time", Value::Time("2026-11-21T10:00:00Z")),
                TIME,
            ],
        ),
        // Beyond what nanoseconds reach.
        ("app", &[("@timestamp", Value::Time("9999-12-31T23:59:59Z"))]),
    ];
    let mut encoder = StoreEncoder::default();
    for (dataset, row) in rows {
        let encoded = encode(&mut encoder, dataset, row);
        let text = std::str::from_utf8(encoder.document(&encoded)).unwrap();
        let given = document(dataset, &encoded);
        assert_eq!(given, document_of_text(dataset, text), "{text}");
    }
}

#[test]
fn what_can_never_be_taken_says_why_and_keeps_its_text() {
    let soon = ("@timestamp", Value::Text("soon"));
    let cases: [(&str, Row<'_>, &str); 5] = [
        ("kumon.exec", &[("process.pid", Value::Integer(1))], "the row has no @timestamp"),
        ("kumon.exec", &[soon], "@timestamp: \"soon\" is not a time"),
        ("app", &[("n", Value::Integer(1)), soon], "@timestamp: \"soon\" is not a time"),
        ("kumon.exec", &[TIME, ("process.pid", Value::Text("x\""))], r#"process.pid: "x\"" is not a long"#),
        ("kumon.exec", &[TIME, ("process.pid", Value::Boolean(true))], "process.pid: true is not a long"),
    ];
    let mut encoder = StoreEncoder::default();
    for (dataset, row, why) in cases {
        let encoded = encode(&mut encoder, dataset, row);
        let text = std::str::from_utf8(encoder.document(&encoded)).unwrap();
        assert_eq!(document(dataset, &encoded).unwrap_err(), why);
        assert_eq!(document_of_text(dataset, text).unwrap_err(), why, "{text}");
    }
    // The next row knows nothing of it.
    assert!(document("kumon.exec", &encode(&mut encoder, "kumon.exec", &[TIME])).is_ok());
}

#[test]
fn what_many_rows_have_in_common_is_found_in_each() {
    let (mut encoder, mut bytes) = (StoreEncoder::default(), Vec::new());
    encoder.begin(&RowId { stream: &stream("app"), generation: &"g".into(), offset: 0 }, &mut bytes);
    encoder.constant(&Constant::new("log.file.path", "/a\"b"), &mut bytes);
    encoder.field(&FieldName::new(TIME.0), TIME.1, &mut bytes);
    encoder.end(&mut bytes);
    let text = r#"{"log.file.path":"/a\"b","@timestamp":"2026-11-21T10:00:00.000001Z"}"#;
    assert_eq!(encoder.document(&bytes), text.as_bytes());
    assert_eq!(document("app", &bytes), document_of_text("app", text));
}
