//! What no mapping knows can neither make it grow nor stop the rows.

use std::fs;

use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Value, json};

use super::support::Setup;

#[test]
fn unknown_fields_and_conflicting_types_neither_explode_a_mapping_nor_stop_other_rows() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let logs = tempfile::tempdir().unwrap();
    let file = logs.path().join("app.ndjson");
    let inputs = format!("inputs:\n  - {{ paths: ['{}'], format: ndjson, dataset: app }}\n", file.display());
    let setup = Setup::new(&node, &inputs);
    setup.run(&["--only", "templates"]);

    // KuMon's own streams: no new field, whatever a row holds; what does not fit is refused, and nothing else.
    let mut row = json!({"@timestamp": "2026-11-21T02:00:00Z", "process.pid": 7});
    for n in 0..2000 {
        row[format!("unknown.field{n}")] = json!({"deeper": n});
    }
    assert_eq!(node.request("POST", "logs-kumon.exec-default/_doc", row).0, 201);
    for conflict in
        [json!({"process.pid": "seven"}), json!({"process": "init"}), json!({"process.name": {"a": 1}})]
    {
        let mut row = conflict;
        row["@timestamp"] = json!("2026-11-21T02:00:00Z");
        let (status, answer) = node.request("POST", "logs-kumon.exec-default/_doc", row);
        assert_eq!(status, 400, "{answer}");
    }
    let (_, mapping) = node.request("GET", "logs-kumon.exec-default/_mapping", Value::Null);
    assert!(!mapping.to_string().contains("unknown"), "{mapping}");

    // Others' files: every key is a field up to Elasticsearch's limit, and what is beyond stays in the row.
    let mut lines = vec![json!({"n": 1, "level": "info"}), json!({"n": "one", "level": "info"})];
    let many = (0..1500).map(|n| (format!("key{n}"), json!(n)));
    lines.push(many.collect::<serde_json::Map<_, _>>().into());
    lines.push(json!({"n": 2, "level": "info"}));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&file, text).unwrap();
    let shipped = setup.kumon(&["ship", "--duration", "1s"]);
    assert!(shipped.status.success(), "{}", String::from_utf8_lossy(&shipped.stderr));
    node.request("POST", "logs-app-default/_refresh", Value::Null);
    let (_, found) =
        node.request("POST", "logs-app-default/_search", json!({"query": {"term": {"level": "info"}}}));
    let found = found["hits"]["hits"].as_array().unwrap().clone();
    let mut numbers: Vec<_> = found.iter().map(|hit| hit["_source"]["n"].clone()).collect();
    // A data stream's newest segment answers first.
    numbers.sort_by_key(Value::to_string);
    // Its number can't be searched by what is none, but the row is there.
    assert_eq!(numbers, [json!("one"), json!(1), json!(2)]);
    let (_, all) = node.request("GET", "logs-app-default/_count", Value::Null);
    assert_eq!(all["count"], 4, "the row of 1500 keys too: {all}");
    let letters = fs::read_dir(setup.path("state/ship/dead-letters")).map_or(0, Iterator::count);
    assert_eq!(letters, 0);
}
