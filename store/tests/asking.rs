//! Questions and their answers.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kumon_query::{Search, SearchError};
use kumon_shipper::Sink;
use kumon_store::{Store, StoreOptions, StoreSink};
use serde_json::json;
use support::{File, ask, exec, field, pids, request};

fn filled() -> (tempfile::TempDir, StoreSink, Store) {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
    let mut file = File::exec("a");
    sink.send(&file.batch(&[
        exec(1, "bash", 10, "bash -c 'make all'"),
        exec(2, "make", 11, "/usr/bin/make all"),
        exec(3, "python3", 12, "python3 -m http.server"),
    ]))
    .unwrap();
    assert!(sink.settle(true).unwrap());
    (folder, sink, store)
}

#[test]
fn queries_find_the_rows_they_describe_newest_first() {
    let (_folder, _sink, store) = filled();
    assert_eq!(pids(&store, ""), [12, 11, 10]);
    assert_eq!(pids(&store, "process.name:bash"), [10]);
    assert_eq!(pids(&store, "process.name:Bash"), [0; 0]);
    assert_eq!(pids(&store, "make"), [11, 10]);
    assert_eq!(pids(&store, "\"make all\""), [11, 10]);
    assert_eq!(pids(&store, "\"all make\""), [0; 0]);
    assert_eq!(pids(&store, "process.command_line.text:(make -usr)"), [10]);
    assert_eq!(pids(&store, "process.pid:[10 TO 11]"), [11, 10]);
    assert_eq!(pids(&store, "process.pid:>10 AND process.pid:<=12"), [12, 11]);
    assert_eq!(pids(&store, "process.name:(bash OR make) AND NOT process.pid:10"), [11]);
    assert_eq!(pids(&store, "process.name:*th?n*"), [12]);
    assert_eq!(pids(&store, "process.command_line:/usr/bin/*"), [11]);
    assert_eq!(pids(&store, "process.executable:*"), [0; 0]);
    assert_eq!(pids(&store, "NOT process.executable:*"), [12, 11, 10]);
    assert_eq!(pids(&store, "kumon.exec.truncated:false"), [11]);
    assert_eq!(pids(&store, "@timestamp:>=\"2026-11-21T10:00:02Z\""), [12, 11]);
    assert_eq!(pids(&store, "@timestamp:2026-11-21"), [12, 11, 10]);
}

#[test]
fn rows_come_back_as_they_were_sent() {
    let (_folder, _sink, store) = filled();
    let hit = &ask(&store, "process.pid:10").unwrap().hits[0];
    assert_eq!(field(hit.get(), "process.command_line"), "bash -c 'make all'");
    assert_eq!(hit.get(), exec(1, "bash", 10, "bash -c 'make all'").to_string());
}

#[test]
fn a_limit_keeps_the_newest_and_the_total() {
    let (_folder, _sink, store) = filled();
    let mut question = request("exec", "");
    question.limit = Some(2);
    let answer = store.search(&question).unwrap();
    assert_eq!(answer.total, 3);
    let pids: Vec<_> = answer.hits.iter().map(|hit| field(hit.get(), "process.pid")).collect();
    assert_eq!(pids, [12, 11]);
}

#[test]
fn no_match_an_error_and_an_unknown_metric_are_different_answers() {
    let (_folder, _sink, store) = filled();
    assert_eq!(ask(&store, "process.name:nobody").unwrap().total, 0);
    let error = ask(&store, "proces.name:bash").unwrap_err().to_string();
    assert_eq!(
        error,
        "error in the query at column 1: there is no field 'proces.name'; did you mean 'process.name'?"
    );
    let error = ask(&store, "make AND process.pid:many").unwrap_err().to_string();
    assert_eq!(error, "error in the query at column 22: 'many' is not a number");
    assert!(matches!(store.search(&request("exce", "")), Err(SearchError::UnknownMetric { .. })));
    assert_eq!(store.search(&request("agent", "")).unwrap().total, 0);
}

#[test]
fn a_monstrous_wildcard_is_refused_soon() {
    let (_folder, _sink, store) = filled();
    let started = std::time::Instant::now();
    let error = ask(&store, &format!("process.name:*a{}*", "?".repeat(60))).unwrap_err().to_string();
    assert!(error.contains("too complex"), "{error}");
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn aggregations_that_cannot_be_answered_say_why() {
    let (_folder, _sink, store) = filled();
    let refusal = |aggs: serde_json::Value| {
        let mut question = request("exec", "");
        question.aggs = Some(aggs);
        match store.search(&question) {
            Err(SearchError::Aggregations { message }) => message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refusal(json!({"a": {"terms": {"field": "process.nam"}}})),
        "'a': there is no field 'process.nam'; did you mean 'process.name'?"
    );
    assert_eq!(
        refusal(json!({"a": {"terms": {"field": "process.command_line.text"}}})),
        "'a': 'process.command_line.text' has words, not values"
    );
    assert!(refusal(json!({"a": {"stats": {"field": "@timestamp"}}})).contains("no stats of a date"));
    assert!(refusal(json!({"a": {"filter": {"query_string": {"query": "x:1"}}}})).contains("column 1"));
    assert!(refusal(json!({"a": {"avg": {"field": "process.name"}}})).contains("process.name"));
    assert!(refusal(json!({"a": {"nonsense": {"field": "process.pid"}}})).contains("nonsense"));
    assert!(refusal(json!([])).contains("object"));
}

#[test]
fn foreign_rows_are_searched_by_their_own_fields() {
    let (_folder, mut sink, store) = filled();
    let mut file = File::new("b", "app.events");
    sink.send(&file.batch(&[
        json!({"@timestamp": "2026-11-21T10:00:00Z", "user": {"name": "Ann Lee"}, "size": 5, "ok": true}),
        json!({"@timestamp": "2026-11-21T10:00:01Z", "user.name": "Bob", "size": 7.5, "at": "2026-01-01T00:00:00Z"}),
    ]))
    .unwrap();
    sink.settle(true).unwrap();
    let count = |query: &str| {
        let answer = store.search(&request("app.events", query));
        answer.unwrap_or_else(|e| panic!("{query}: {e}")).total
    };
    assert_eq!(count(""), 2);
    assert_eq!(count("user.name:\"Ann Lee\""), 1);
    assert_eq!(count("user.name.text:lee"), 1);
    assert_eq!(count("user.name:B*"), 1);
    assert_eq!(count("size:5"), 1);
    assert_eq!(count("size:>5"), 1);
    assert_eq!(count("size:*"), 2);
    assert_eq!(count("ok:true"), 1);
    assert_eq!(count("ann"), 1);
    assert_eq!(count("bo*"), 1);
    assert_eq!(count("at:\"2026-01-01T00:00:00Z\""), 1);
    assert_eq!(count("nothing:here"), 0);
    assert_eq!(pids(&store, "").len(), 3);

    let mut question = request("app.events", "");
    question.aggs = Some(json!({
        "sum": {"sum": {"field": "size"}},
        "big": {"filter": {"query_string": {"query": "size:>5"}}},
    }));
    let aggregations = store.search(&question).unwrap().aggregations.unwrap();
    assert_eq!(aggregations["sum"]["value"], 12.5);
    assert_eq!(aggregations["big"]["doc_count"], 1);
}
