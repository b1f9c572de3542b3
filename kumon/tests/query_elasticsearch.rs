//! `kumon query` where rows go to Elasticsearch.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use kumon_testing::{Elasticsearch, free_port, require_elasticsearch};
use serde_json::{Value, json};

/// More than one page.
const ROWS: u64 = 25_000;

struct Kumon {
    folder: tempfile::TempDir,
}

impl Kumon {
    fn of(url: &str, node: &Elasticsearch) -> Kumon {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        fs::write(&password, node.password()).unwrap();
        let (username, password) = (node.username(), password.display());
        let output = format!("{{ hosts: ['{url}'], username: {username}, password_file: {password} }}");
        fs::write(folder.path().join("kumon.yml"), format!("output:\n  elasticsearch: {output}\n")).unwrap();
        Kumon { folder }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let config: PathBuf = self.folder.path().join("kumon.yml");
        Command::new(env!("CARGO_BIN_EXE_kumon"))
            .arg("--config")
            .arg(config)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The pids of the rows in the order in which they are printed.
    fn pids(&self, arguments: &[&str]) -> Vec<u64> {
        let output = self.run(&[&["query", "exec", "--format", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let pid = |line: &str| serde_json::from_str::<Value>(line).unwrap()["process.pid"].as_u64().unwrap();
        text.lines().map(pid).collect()
    }

    /// The exit code, and what was said.
    fn fails(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
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
    let kumon = Kumon::of(&node.url(), node);
    assert_eq!(kumon.run(&["setup"]).status.code(), Some(0));
    assert_eq!(kumon.fails(&["query", "exec"]), (Some(1), "no match\n".into()));
    let (_, sent) = node.request("POST", "logs-kumon.exec-default/_bulk?refresh=true", programs());
    assert_eq!(sent["errors"], false);

    let newest_first: Vec<u64> = (0..ROWS).rev().collect();
    assert!(kumon.pids(&[]) == newest_first, "all rows, newest first");
    assert_eq!(kumon.pids(&["--limit", "3"]), newest_first[..3]);
    assert!(kumon.pids(&["--limit", "12345"]) == newest_first[..12345], "more than a page, less than all");
    let odd: Vec<u64> = newest_first.iter().copied().filter(|pid| pid % 2 == 1).collect();
    assert!(kumon.pids(&["process.name:odd"]) == odd, "all odd rows");

    let aggs = r#"{"names":{"terms":{"field":"process.name"}}}"#;
    let answer = kumon.run(&["query", "exec", "process.pid:<10", "--aggs", aggs]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["names"]["buckets"][0]["doc_count"], 5, "{answer}");

    assert_eq!(kumon.fails(&["query", "exec", "process.name:nobody"]), (Some(1), "no match\n".into()));
    let (code, message) = kumon.fails(&["query", "exec", "process.name:("]);
    assert!(code == Some(2) && message.contains("error in the query at column"), "{message}");
    for unknown in ["exce", "no/metric?x=*"] {
        let (code, message) = kumon.fails(&["query", unknown]);
        assert!(code == Some(2) && message.contains("there is no metric"), "{message}");
    }
    let (code, message) = kumon.fails(&["query", "exec", "--aggs", r#"{"a":{"nonsense":{}}}"#]);
    assert!(code == Some(2) && message.contains("nonsense"), "{message}");

    let away = format!("http://127.0.0.1:{}", free_port());
    let (code, message) = Kumon::of(&away, node).fails(&["query", "exec"]);
    assert!(code == Some(1) && message.contains("can't be reached") && message.contains(&away), "{message}");
}
