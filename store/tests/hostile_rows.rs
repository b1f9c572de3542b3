//! Rows of foreign inputs that are legal JSON and nothing else: one of them must not stop all that come after it.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kumon_query::Search;
use kumon_shipper::Sink;
use kumon_store::{Store, StoreOptions};
use serde_json::{Value, json};
use support::{File, request};

#[test]
fn odd_keys_and_values_are_taken_and_found() {
    let time = "2026-11-21T10:00:00Z";
    let long = "x".repeat(200_000);
    let nested = (0..100).fold(json!("leaf"), |inner, _| json!({ "n": inner }));
    let rows: Vec<Value> = vec![
        json!({"@timestamp": time, "a\u{0}b": 1, "": 2, ".": 3, "a..b": 4, "\u{1}": "x"}),
        json!({"@timestamp": time, "long": long, "words": "word ".repeat(50_000)}),
        json!({"@timestamp": time, (long.as_str()): 1}),
        json!({"@timestamp": time, "deep": nested}),
        json!({"@timestamp": time, "mixed": [1, "two", 3.5, true, null, {"four": []}], "empty": {}}),
        json!({"@timestamp": time, "big": u64::MAX, "small": i64::MIN, "float": 1e308}),
        json!({"@timestamp": time, "long": {"now": "an object"}, "mixed": "a text"}),
        json!({"@timestamp": time, "nul": "a\u{0}b", "controls": "\u{1}\u{1b}[2J"}),
        json!({"@timestamp": "1969-12-31T23:59:59Z", "before": "the epoch"}),
        json!({"@timestamp": time, "last": "one"}),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
    let mut file = File::new("a", "app");
    for row in &rows {
        let outcome = sink.send(&file.batch(std::slice::from_ref(row))).unwrap();
        assert_eq!(outcome.created, 1, "{:?}", outcome.rejected);
        assert!(sink.settle(true).unwrap());
    }
    assert_eq!(store.search(&request("app", "")).unwrap().total, rows.len() as u64);
    assert_eq!(store.search(&request("app", "last:one")).unwrap().total, 1);
}

#[test]
fn json_that_elasticsearch_takes_is_taken_found_and_shown_as_it_is() {
    let deep = |levels| format!("{}\"x\"{}", "[".repeat(levels), "]".repeat(levels));
    let rows: Vec<String> = [
        r#""text":"cut \ud83d","id":0"#.into(),
        r#""\ud83d":"key","id":1"#.into(),
        r#""text":["\ude00\ud83d",{"a":"\ud83d\ude00"}],"id":2"#.into(),
        r#""n":1e400,"id":3"#.into(),
        r#""n":[-1e999,123456789012345678901234567890,18446744073709551615],"id":4"#.into(),
        format!(r#""deep":{},"id":5"#, deep(900)),
        r#""text":"9999-12-31","id":6"#.into(),
    ]
    .into_iter()
    .map(|rest: String| format!(r#"{{"@timestamp":"2026-11-21T10:00:00Z",{rest}}}"#))
    .collect();
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
    let outcome = sink.send(&File::new("a", "app").batch_of_texts(&rows)).unwrap();
    assert_eq!(outcome.created, rows.len() as u64, "{:?}", outcome.rejected);
    assert!(sink.settle(true).unwrap());
    for (id, row) in rows.iter().enumerate() {
        let found = store.search(&request("app", &format!("id:{id}"))).unwrap();
        assert_eq!(found.hits.iter().map(|hit| hit.get()).collect::<Vec<_>>(), [row]);
    }
    assert_eq!(store.search(&request("app", "cut")).unwrap().total, 1);
}
