//! `kumon dead-letters`: what an operator does about rows that were refused.
//!
//! Runs beside other tests.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Node, PATIENCE};
use kumon_testing::{Elasticsearch, require_elasticsearch, wait_for};
use serde_json::{Value, json};

fn letters(node: &Node, arguments: &[&str]) -> Vec<Value> {
    let ended = node.run(&[&["dead-letters", "list", "--format", "json"], arguments].concat());
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `kumon dead-letters …`; the parts stand in what it says.
fn expect(node: &Node, arguments: &[&str], code: i32, parts: &[&str]) {
    let ended = node.run(&[&["dead-letters"], arguments].concat());
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == Some(code) && parts.iter().all(|part| said.contains(part)), "{parts:?}: {ended:?}");
}

/// The data streams of a dataset, with one field of this type.
fn install(es: &Elasticsearch, dataset: &str, r#type: &str) {
    let mappings = json!({"properties": {"n": {"type": r#type}}});
    let template = json!({"index_patterns": [format!("logs-{dataset}-*")], "data_stream": {}, "priority": 500,
        "template": {"mappings": mappings, "settings": {"number_of_replicas": 0}}});
    let (status, answer) = es.request("PUT", &format!("_index_template/{dataset}"), template);
    assert_eq!(status, 200, "{answer}");
}

fn count(es: &Elasticsearch, dataset: &str) -> u64 {
    es.request("POST", &format!("logs-{dataset}-default/_refresh"), Value::Null);
    es.request("GET", &format!("logs-{dataset}-default/_count"), Value::Null).1["count"].as_u64().unwrap_or(0)
}

#[test]
fn refused_rows_arrive_once_when_the_mapping_is_mended_with_and_without_an_agent() {
    if !require_elasticsearch() {
        return;
    }
    let (es, dataset) = (Elasticsearch::shared(), "letters");
    install(es, dataset, "long");
    let node = Node::new("");
    node.configure(&format!(
        "{}inputs: [{{ paths: ['{}'], format: ndjson, dataset: {dataset} }}]\n",
        node.output(es),
        node.path("*.ndjson").display(),
    ));
    let rows: String =
        (0..10).map(|n| format!("{{\"n\":\"{}{n}\"}}\n", if n < 4 { "x" } else { "" })).collect();
    fs::write(node.path("a.ndjson"), rows + "no JSON\n").unwrap();
    let agent = node.start_agent(&["ship"]);
    wait_for("the letters", PATIENCE, || letters(&node, &[]).len() == 5);

    let refused = letters(&node, &["--reason", "failed to parse field [n]"]);
    assert_eq!(refused.len(), 4);
    assert_eq!(refused[3]["data_stream.dataset"], dataset);
    assert_eq!(refused[3]["log.offset"], 0);
    assert!(refused[3]["event.original"].as_str().unwrap().contains("\"n\":\"x0\""), "{}", refused[3]);
    expect(&node, &["list", "--dataset", dataset], 0, &["no JSON object", "a.ndjson"]);
    expect(&node, &["list", "--dataset", "other"], 1, &["no match"]);
    expect(&node, &["drop"], 2, &["--all"]);

    // Nothing is mended yet.
    expect(&node, &["replay"], 1, &["4 refused again", "failed to parse", "could not be decoded"]);
    assert_eq!((letters(&node, &[]).len(), count(es, dataset)), (5, 6));

    // Nothing can be delivered now: none of them is refused, and none is gone.
    let settings = format!("logs-{dataset}-default/_settings");
    assert_eq!(es.request("PUT", &settings, json!({"index.blocks.write": true})).0, 200);
    expect(
        &node,
        &["replay", "--reason", "parse field"],
        3,
        &["4 still waiting", "4 of logs-", "closed the index"],
    );
    assert_eq!((letters(&node, &[]).len(), count(es, dataset)), (5, 6));
    assert_eq!(es.request("PUT", &settings, json!({"index.blocks.write": null})).0, 200);

    install(es, dataset, "keyword");
    assert_eq!(es.request("POST", &format!("logs-{dataset}-default/_rollover"), Value::Null).0, 200);
    let id = refused[3]["event.id"].as_str().unwrap();
    expect(&node, &["replay", "--id", id], 0, &["1 delivered and removed"]);
    agent.terminate().expect(0, &[]);
    expect(&node, &["replay", "--reason", "parse field"], 0, &["3 delivered and removed"]);
    assert_eq!((letters(&node, &[]).len(), count(es, dataset)), (1, 10));
    expect(&node, &["drop", "--all"], 0, &["1 dropped"]);
    expect(&node, &["replay"], 1, &["no match"]);
}

#[test]
fn letters_are_sent_into_the_embedded_store_with_and_without_an_agent() {
    let node = Node::new("");
    node.configure(&format!(
        "inputs: [{{ paths: ['{}'], format: ndjson, dataset: app }}]\n",
        node.path("*.ndjson").display()
    ));
    fs::write(node.path("a.ndjson"), "{\"n\":1}\n{\"@timestamp\":\"soon\",\"n\":2}\n").unwrap();
    let agent = node.start_agent(&["ship"]);
    wait_for("the letter", PATIENCE, || letters(&node, &["--dataset", "app"]).len() == 1);
    expect(&node, &["replay"], 1, &["1 refused again"]);

    // As a release would do that takes what the one before did not.
    let mend = || {
        let folder = node.state().join("ship/dead-letters");
        let path = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let letter = fs::read_to_string(&path).unwrap();
        fs::write(&path, letter.replace("soon", "2026-11-21T00:00:00Z")).unwrap();
    };
    mend();
    expect(&node, &["replay"], 0, &["1 delivered and removed"]);
    assert_eq!(node.rows("app", "n:2").len(), 1);

    let more = "{\"@timestamp\":\"soon\",\"n\":3}\n";
    fs::write(node.path("b.ndjson"), more).unwrap();
    wait_for("the next letter", PATIENCE, || letters(&node, &[]).len() == 1);
    agent.terminate().expect(0, &[]);
    mend();
    expect(&node, &["replay"], 0, &["1 delivered and removed"]);
    assert_eq!((node.rows("app", "").len(), letters(&node, &[]).len()), (3, 0));
}
