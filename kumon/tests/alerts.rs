//! Alerts from end to end: an agent that ships a file's rows, and people who are told.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use common::{Ended, Node, PATIENCE};
use kumon_testing::wait_for;
use rustix::process::Signal;
use serde_json::Value;

/// Demands an exit code and parts of what was printed.
fn says(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let printed = format!("{}{}", ended.stdout, ended.stderr);
    parts.iter().for_each(|part| assert!(printed.contains(part), "'{part}' is missing in: {printed}"));
}

/// Takes posts, answers 200 and keeps the bodies.
fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let headers: Vec<String> =
                reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let length = headers
                .iter()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    (url, bodies)
}

/// A node that ships `app.log`, with an alert on its rows that fires at the second error.
fn node(url: &str) -> Node {
    let node = Node::new("");
    let folder = node.path("alerts");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("app-errors.yml"),
        "title: Errors\nmetric: app\nquery: level:error\naggregation: count\nthreshold: '> 1'\n\
         window: 20s\nseverity: warning\n",
    )
    .unwrap();
    node.configure(&format!(
        "alerts: {{ folder: {}, interval: 1s }}\n\
         channels: {{ hook: {{ webhook: {{ url: \"{url}\" }} }} }}\n\
         inputs: [{{ paths: [\"{}\"], format: ndjson, dataset: app }}]\n",
        folder.display(),
        node.path("app.log").display()
    ));
    node
}

#[test]
fn an_agent_tells_once_over_a_restart_and_tells_the_end() {
    let (url, bodies) = receiver();
    let node = node(&url);
    let told = || bodies.lock().unwrap().len();
    let agent = node.start_agent(&["ship"]);
    fs::write(node.path("app.log"), "{\"level\":\"error\"}\n{\"level\":\"info\"}\n{\"level\":\"error\"}\n")
        .unwrap();
    wait_for("the alert", PATIENCE, || told() == 1);
    let first = bodies.lock().unwrap()[0].clone();
    assert_eq!(first["alerts"][0]["alert"], "app-errors", "{first}");
    assert_eq!(first["alerts"][0]["firing"][0]["value"], 2.0, "{first}");
    let status = node.run(&["alerts", "status"]);
    says(&status, 1, &["warning app-errors: 2, fires since", "count > 1 over 20s"]);
    agent.stop(Signal::KILL, PATIENCE);

    let agent = node.start_agent(&["ship"]);
    wait_for("the end to be told", PATIENCE, || told() == 2);
    let second = bodies.lock().unwrap()[1].clone();
    assert_eq!(second["alerts"][0]["firing"], serde_json::json!([]), "{second}");
    assert_eq!(second["alerts"][0]["recovered"].as_array().unwrap().len(), 1, "{second}");
    wait_for("quiet", PATIENCE, || node.run(&["alerts", "status"]).code == Some(0));
    agent.terminate();
}

#[test]
fn the_commands_say_what_there_is_what_was_delivered_and_what_is_wrong() {
    let (url, bodies) = receiver();
    let node = node(&url);
    says(&node.run(&["alerts", "list"]), 0, &["app-errors", "node-silent", "hook", "count > 1 over 20s"]);
    let tried = node.run(&["alerts", "test", "app-errors"]);
    says(&tried, 0, &["hook: delivered"]);
    assert_eq!(bodies.lock().unwrap()[0]["alerts"][0]["test"], true);
    says(&node.run(&["alerts", "ack", "app-errors"]), 1, &["does not fire"]);
    says(&node.run(&["alerts", "test", "app-error"]), 2, &["did you mean 'app-errors'?"]);
    says(
        &node.run(&["alerts", "render", "disk-latency", "--as", "kibana"]),
        0,
        &[".es-query", ".server-log"],
    );
    says(
        &node.run(&["alerts", "render", "disk-latency", "--as", "watcher"]),
        0,
        &["metrics-kumon.biolatency-*"],
    );
}

#[test]
fn a_wrong_alert_is_left_out_and_named_and_the_others_go_on() {
    let (url, bodies) = receiver();
    let node = node(&url);
    let wrong = "title: Errors\nmetric: ap\naggregation: count\nthreshold: '> 1'\nseverity: info\n";
    fs::write(node.path("alerts/wrong.yml"), wrong).unwrap();
    // Nor may a folder that can't be made keep rows from being shipped, and alerts from being told.
    fs::create_dir_all(node.state().join("ship")).unwrap();
    fs::write(node.state().join("ship/alerts"), "").unwrap();
    let reason = "wrong.yml: line 2 column 9: there is no metric 'ap'; did you mean 'app'?";
    let agent = node.start_agent(&["ship"]);
    fs::write(node.path("app.log"), "{\"level\":\"error\"}\n{\"level\":\"error\"}\n").unwrap();
    wait_for("the alert", PATIENCE, || bodies.lock().unwrap().len() == 1);
    agent.wait_for_log(&["the alert wrong is left out", reason, "ship/alerts/lock: can't be locked"]);
    node.wait_for_status(1, &["app: 2 rows delivered", "alerts: the alert wrong is left out", reason]);
    agent.terminate().expect(0, &[]);

    says(
        &node.run(&["alerts", "list"]),
        2,
        &["app-errors", "node-silent", "the alert wrong is left out", reason],
    );
    says(&node.run(&["alerts", "test", "wrong"]), 2, &[reason]);
    says(&node.run(&["alerts", "test", "app-errors"]), 0, &["hook: delivered"]);
    says(&node.run(&["check"]), 1, &[reason]);
    says(&node.run(&["setup", "--dry-run", "--only", "watches"]), 2, &[reason]);
    fs::remove_file(node.state().join("ship/alerts")).unwrap();
    says(&node.run(&["alerts", "status"]), 1, &["the alert wrong is left out", reason]);
    fs::remove_file(node.path("alerts/wrong.yml")).unwrap();
    says(&node.run(&["alerts", "list"]), 0, &["app-errors"]);
}
