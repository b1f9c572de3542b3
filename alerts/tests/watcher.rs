//! Rendered watches, executed by a real Elasticsearch 6.8.23.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kumon_alerts::render::{Form, WatchEmail, WatcherSettings, watch};
use kumon_alerts::{Alert, Selection, alerts};
use kumon_testing::{Elasticsearch, require_elasticsearch_6, wait_for};
use serde_json::{Value, json};
use support::{alert, row};

const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the index that stands for the metric's data stream, which 6.8 doesn't have, with its mapping.
fn index(node: &Elasticsearch, metric: &str) -> String {
    let schema = kumon_schema::builtin(metric).unwrap();
    let name = schema.data_stream("default");
    let mappings = json!({"mappings": {"doc": {"properties": schema.mapping()}}});
    let (status, made) = node.request("PUT", &name, mappings);
    assert_eq!(status, 200, "{made}");
    name
}

fn add(node: &Elasticsearch, index: &str, rows: &[Value]) {
    if rows.is_empty() {
        return;
    }
    let bulk: String = rows.iter().map(|row| format!("{{\"index\":{{}}}}\n{row}\n")).collect();
    let (_, sent) = node.request("POST", &format!("{index}/doc/_bulk?refresh=true"), bulk);
    assert_eq!(sent["errors"], false, "{sent}");
}

fn put(node: &Elasticsearch, alert: &Alert, interval: u64) {
    let body = watch(alert, Duration::from_secs(interval), &WatcherSettings::default(), Form::Six);
    let (status, answer) = node.request("PUT", &format!("_xpack/watcher/watch/kumon-{}", alert.name), body);
    assert!(status == 201 || status == 200, "{}: {answer}", alert.name);
}

/// The status of one action of a watch.
fn action(node: &Elasticsearch, name: &str, action: &str) -> Value {
    let (_, watch) = node.request("GET", &format!("_xpack/watcher/watch/kumon-{name}"), Value::Null);
    watch["status"]["actions"][action].clone()
}

/// The groups that an execution finds firing, and those that it finds recovered.
fn execute(node: &Elasticsearch, alert: &Alert) -> (Vec<String>, Vec<String>) {
    let path = format!("_xpack/watcher/watch/kumon-{}/_execute", alert.name);
    let (status, answer) = node.request("POST", &path, json!({"record_execution": false}));
    let result = &answer["watch_record"]["result"];
    assert_eq!(
        (status, &result["condition"]["status"]),
        (200, &json!("success")),
        "{}: {answer}",
        alert.name
    );
    assert_eq!(result["input"]["status"], "success", "{answer}");
    if result["condition"]["met"] == false {
        return (Vec::new(), Vec::new());
    }
    let payload = &result["transform"]["payload"];
    let names = |groups: &Value| -> Vec<String> {
        let groups = groups.as_array().unwrap_or_else(|| panic!("{answer}"));
        groups.iter().map(|group| group["group"].as_str().unwrap().to_owned()).collect()
    };
    (names(&payload["firing"]), names(&payload["recovered"]))
}

#[test]
fn a_watch_fires_throttles_is_acknowledged_and_recovers() {
    if !require_elasticsearch_6() {
        return;
    }
    let node = Elasticsearch::start_6(&[]);
    let index = index(&node, "exec");
    let storm = alert(
        "storm",
        "title: Storm\nmetric: exec\nquery: process.name:sh\naggregation: count\nthreshold: '> 3'\nwindow: 12s\n\
         group_by: [host.name]\nseverity: warning\nthrottle: 1h\n",
    );
    put(&node, &storm, 1);
    let sh = |host: &str| row(0, &json!({"host.name": host, "process.name": "sh", "process.pid": 1}));
    add(&node, &index, &[sh("quiet"), sh("web<1>"), sh("web<1>"), sh("web<1>"), sh("web<1>"), sh("web<1>")]);

    let firing = || action(&node, "storm", "log_firing");
    wait_for("the watch to fire", PATIENCE, || !firing()["last_successful_execution"].is_null());
    wait_for("the watch to be throttled", PATIENCE, || !firing()["last_throttle"].is_null());
    let (_, state) = node.request("GET", "kumon-alerts/doc/storm", Value::Null);
    assert_eq!(state["_source"]["firing"][0]["group"], "host.name=web(1)", "{state}");
    assert_eq!(state["_source"]["firing"].as_array().unwrap().len(), 1, "{state}");

    // Elasticsearch refuses it (409) while the watch is being executed, as it is once a second.
    wait_for("the acknowledgement", PATIENCE, || {
        node.request("PUT", "_xpack/watcher/watch/kumon-storm/_ack/log_firing", Value::Null).0 == 200
    });
    assert_eq!(firing()["ack"]["state"], "acked");
    // The rows leave the window.
    let recovered = || action(&node, "storm", "log_recovered");
    wait_for("the watch to tell the end", PATIENCE, || !recovered()["last_successful_execution"].is_null());
    wait_for("the acknowledgement to end", PATIENCE, || {
        firing()["ack"]["state"] == "awaits_successful_execution"
    });
    let (_, state) = node.request("GET", "kumon-alerts/doc/storm", Value::Null);
    assert_eq!(state["_source"]["firing"], json!([]), "{state}");
}

#[test]
fn every_default_alert_is_accepted_and_finds_nothing_without_rows_and_the_same_as_kumon_with_rows() {
    if !require_elasticsearch_6() {
        return;
    }
    // All watches at once have more scripts than this version compiles in five minutes by default.
    let node = Elasticsearch::start_6(&["script.max_compilations_rate=1000/1m"]);
    let selection = Selection { folder: "/nowhere".into(), ..Selection::default() };
    for alert in alerts(&selection, &[]).usable {
        // So seldom that only the test executes it.
        put(&node, &alert, 3600);
        assert_eq!(execute(&node, &alert), (vec![], vec![]), "{}", alert.name);
    }
    let mut rows = support::Rows::new();
    for case in support::cases::cases() {
        let metric = &case.alert.metric;
        if node.request("GET", &kumon_schema::builtin(metric).unwrap().data_stream("default"), Value::Null).0
            == 404
        {
            index(&node, metric);
        }
        add(&node, &kumon_schema::builtin(metric).unwrap().data_stream("default"), &case.rows);
        rows.add(metric, &case.rows);
        put(&node, &case.alert, 3600);
        let mut theirs = execute(&node, &case.alert).0;
        let mut ours = support::firing(&case.alert, &rows.store);
        theirs.sort();
        ours.sort();
        assert_eq!(ours, case.fires, "{}: KuMon's own evaluation", case.alert.name);
        assert_eq!(theirs, case.fires, "{}: Watcher's", case.alert.name);
    }
}

#[test]
fn an_email_action_is_there_only_when_asked_for() {
    let alert = alert("a", "title: a\nmetric: exec\naggregation: count\nthreshold: '> 3'\nseverity: info\n");
    let minute = Duration::from_secs(60);
    let without = watch(&alert, minute, &WatcherSettings::default(), Form::Current);
    assert!(without["actions"]["email_firing"].is_null());
    let email = WatchEmail { account: "work".into(), to: vec!["ops@example.org".into()] };
    let settings = WatcherSettings { email: Some(email), slack: None };
    let with = watch(&alert, minute, &settings, Form::Current);
    assert_eq!(with["actions"]["email_firing"]["email"]["account"], "work");
    // Data streams, and documents without types.
    let search = &with["input"]["chain"]["inputs"][0]["now"]["search"]["request"];
    assert_eq!(search["indices"], json!(["logs-kumon.exec-*"]));
    assert!(with["actions"]["state"]["index"]["doc_type"].is_null());
}
