//! Rows by 10 minutes, from the kernel to the embedded store.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Node, PATIENCE};
use kumon_schema::{MetricType, Schema};
use kumon_testing::{require_bpf, wait_for};
use serde_json::Value;

/// What the counters of all rows in the store come to, by the 10 minutes: 2026-11-21T10:0.
fn sums(node: &Node, schema: &Schema) -> BTreeMap<(String, String), u64> {
    let counters = schema.fields.iter();
    let counters: Vec<&str> = counters
        .filter(|field| field.meaning.metric_type == Some(MetricType::Counter))
        .map(|field| field.ecs.as_str())
        .collect();
    let mut sums = BTreeMap::new();
    for row in node.rows(&schema.name, "*") {
        let window = row["@timestamp"].as_str().unwrap()[..15].to_owned();
        for counter in &counters {
            let number = row.get(*counter).and_then(Value::as_u64).unwrap_or(0);
            *sums.entry((window.clone(), (*counter).to_owned())).or_default() += number;
        }
    }
    sums
}

#[test]
fn they_hold_the_same_sums_as_the_rows_they_sum_up_across_a_reload_and_a_restart() {
    if !require_bpf() {
        return;
    }
    let settings = |interval: &str| {
        let metrics = ["cputime", "bitesize", "biolatency", "runqlat", "cpu", "memory", "disk", "netdev"];
        let of = |metric: &str| format!("{metric}: {{ interval: {interval} }}");
        let metrics: Vec<String> = metrics.into_iter().map(of).collect();
        // So few that others come into the row of the rest.
        let top = format!("process: {{ interval: {interval}, top_by_cpu: 1, top_by_memory: 1 }}");
        format!("collectors: {{ {}, {top} }}\n", metrics.join(", "))
    };
    let node = Node::new(&settings("1s"));
    let memory = kumon_schema::builtin("memory").unwrap();
    let rows = || common::rows(&node.files(&memory.name)).len();
    let agent = node.start_agent(&["collect"]);
    wait_for("some intervals", PATIENCE, || rows() >= 3);
    node.configure(&settings("2s"));
    agent.wait_for_log(&["kumon.yml: loaded"]);
    let before = rows();
    wait_for("some more", PATIENCE, || rows() >= before + 2);
    agent.terminate().expect(0, &[]);
    let agent = node.start_agent(&["collect"]);
    let before = rows();
    wait_for("some of another agent", PATIENCE, || rows() >= before + 2);
    agent.terminate().expect(0, &[]);

    node.run(&["ship", "--duration", "2s"]).expect(0, &[]);
    let mut compared = 0;
    for schema in kumon_schema::all() {
        let Some(coarse) = kumon_schema::coarse(&schema.name) else { continue };
        let (fine, coarse) = (sums(&node, schema), sums(&node, coarse));
        assert_eq!(fine, coarse, "{}", schema.name);
        compared += usize::from(!fine.is_empty());
    }
    assert!(compared >= 8, "only {compared} metrics have rows");
    let (fine, coarse) = (node.rows("memory", "*").len(), node.rows("memory_10m", "*").len());
    // Two agents, and perhaps the change from one 10 minutes to the next.
    assert!(fine >= 7 && (2..=3).contains(&coarse), "{fine} rows make {coarse}");
}
