//! `kumon query` where rows go to Elasticsearch.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Node;
use kumon_testing::{Elasticsearch, free_port, require_elasticsearch};
use serde_json::{Value, json};

/// More than one page.
const ROWS: u64 = 25_000;

/// The pids of the rows in the order in which they are printed.
fn pids(node: &Node, arguments: &[&str]) -> Vec<u64> {
    let ended = node.run(&[&["query", "exec", "--format", "json"], arguments].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let pid = |line: &str| serde_json::from_str::<Value>(line).unwrap()["process.pid"].as_u64().unwrap();
    ended.stdout.lines().map(pid).collect()
}

/// The exit code, and what was said.
fn fails(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let ended = node.run(arguments);
    (ended.code, ended.stderr)
}

/// `ROWS` programs, one a second; their pids count from 0.
fn programs() -> String {
    let start = 1_700_000_000;
    let row = |pid: u64| {
        let name = if pid.is_multiple_of(2) { "even" } else { "odd" };
        json!({"@timestamp": (start + pid) * 1000, "process.pid": pid, "process.name": name})
    };
    (0..ROWS).map(|pid| format!("{{\"create\":{{}}}}\n{}\n", row(pid))).collect()
}

#[test]
fn rows_come_newest_first_without_a_limit_and_each_kind_of_no_answer_is_told_apart() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    let kumon = Node::new("");
    kumon.configure(&kumon.output(node));
    kumon.run(&["setup"]).expect(0, &[]);
    assert_eq!(fails(&kumon, &["query", "exec"]), (Some(1), "no match\n".into()));
    let (_, sent) = node.request("POST", "logs-kumon.exec-default/_bulk?refresh=true", programs());
    assert_eq!(sent["errors"], false);

    let newest_first: Vec<u64> = (0..ROWS).rev().collect();
    assert!(pids(&kumon, &[]) == newest_first, "all rows, newest first");
    assert_eq!(pids(&kumon, &["--limit", "3"]), newest_first[..3]);
    assert!(pids(&kumon, &["--limit", "12345"]) == newest_first[..12345], "more than a page, less than all");
    let odd: Vec<u64> = newest_first.iter().copied().filter(|pid| pid % 2 == 1).collect();
    assert!(pids(&kumon, &["process.name:odd"]) == odd, "all odd rows");

    let aggs = r#"{"names":{"terms":{"field":"process.name"}}}"#;
    let answer = kumon.run(&["query", "exec", "process.pid:<10", "--aggs", aggs]);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(answer["names"]["buckets"][0]["doc_count"], 5, "{answer}");

    assert_eq!(fails(&kumon, &["query", "exec", "process.name:nobody"]), (Some(1), "no match\n".into()));
    let (code, message) = fails(&kumon, &["query", "exec", "process.name:("]);
    assert!(code == Some(2) && message.contains("error in the query at column"), "{message}");
    for unknown in ["exce", "no/metric?x=*"] {
        let (code, message) = fails(&kumon, &["query", unknown]);
        assert!(code == Some(2) && message.contains("there is no metric"), "{message}");
    }
    let (code, message) = fails(&kumon, &["query", "exec", "--aggs", r#"{"a":{"nonsense":{}}}"#]);
    assert!(code == Some(2) && message.contains("nonsense"), "{message}");

    let away = format!("http://127.0.0.1:{}", free_port());
    kumon.configure(&kumon.output(node).replace(&node.url(), &away));
    let (code, message) = fails(&kumon, &["query", "exec"]);
    assert!(code == Some(1) && message.contains("can't be reached") && message.contains(&away), "{message}");
}
