//! Rows of foreign inputs that are legal JSON and nothing else: one of them must not stop all that come after it.
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
