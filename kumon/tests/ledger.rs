//! in = out + counted loss at every stage, under a storm that overruns the ring buffer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Node, PATIENCE};
use kumon_testing::{require_bpf, wait_for};
use serde_json::Value;

const THREADS: u64 = 4;
const PROCESSES: u64 = 500;

/// Starts processes as fast as this machine can; returns its own count of them.
fn storm(marker: &str) -> u64 {
    let started = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..PROCESSES {
                    assert!(Command::new("/bin/true").arg(marker).status().unwrap().success());
                    started.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    started.into_inner()
}

/// The sum of a field over the rows of the agent metric that a query finds.
fn sum(node: &Node, query: &str, field: &str) -> u64 {
    node.rows("agent", query).iter().filter_map(|row| row[field].as_u64()).sum()
}

#[test]
fn every_process_of_a_storm_is_delivered_or_counted_as_lost() {
    if !require_bpf() {
        return;
    }
    // A page of ring buffer holds a few events; the storm makes hundreds between two polls. What the default budget leaves out
    // is counted all the same.
    let node = Node::new("collectors: { ring_buffer_bytes: 4096 }");
    let agent = node.start_agent(&["run"]);
    let started = storm("storm-marker");
    agent.terminate().expect(0, &[]);

    for metric in ["exec", "exit"] {
        let collected = node.status_file("collect");
        let shipped = node.status_file("ship");
        let losses = collected["lost"][metric].as_object().expect("the storm overruns the ring buffer");
        let lost: u64 = losses.values().filter_map(Value::as_u64).sum();
        let rows = collected["rows"][metric].as_u64().unwrap();
        assert_eq!(
            shipped["rows"][format!("kumon.{metric}")],
            rows,
            "{metric}: what was written was delivered"
        );
        assert_eq!(node.rows(metric, "").len() as u64, rows, "{metric}: what was delivered can be asked for");

        // The agent metric says the same.
        let kernel = format!("kumon.agent.stage:kernel AND kumon.agent.name:{metric}");
        assert_eq!(sum(&node, &kernel, "kumon.agent.lost"), lost, "{metric}");
        assert_eq!(sum(&node, &kernel, "kumon.agent.out"), rows, "{metric}");
        assert_eq!(sum(&node, &kernel, "kumon.agent.in"), rows + lost, "{metric}");
        let spool = format!("kumon.agent.stage:spool AND kumon.agent.name:{metric}");
        assert_eq!(sum(&node, &spool, "kumon.agent.out"), rows, "{metric}");

        // Others start processes too, so there may be a few more events than the storm's, and not one less.
        assert!(
            lost > 0 && rows + lost >= started,
            "{metric}: {rows} rows, {lost} lost of {started} started"
        );
    }
    let marked = node.rows("exec", "process.command_line:\"/bin/true storm-marker\"").len() as u64;
    let others = node.rows("exec", "NOT process.command_line:\"/bin/true storm-marker\"").len() as u64;
    let lost: u64 = sum(&node, "kumon.agent.stage:kernel AND kumon.agent.name:exec", "kumon.agent.lost");
    // Of the lost ones some may be others', at the rate of those that were seen.
    let events = marked + lost;
    let slack = 10 + others * events / marked.max(1);
    assert!(
        (started..=started + slack).contains(&events),
        "{marked} + {lost} of {started}, {others} others seen"
    );
}

#[test]
fn who_makes_more_rows_than_a_budget_has_is_named_and_they_are_counted() {
    if !require_bpf() {
        return;
    }
    const STARTED: u64 = 200;
    let node = Node::new("collectors: { exec: { max_rows_per_second: 5, filter: { comm: ['true'] } } }");
    let agent = node.start_agent(&["run"]);
    for _ in 0..STARTED {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    // Whose the rows are is the parent, wherever the test runs.
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let parent = format!("({})", name.trim());
    agent.wait_for_log(&["exec: ", "rows left out by max_rows_per_second (5): ", &parent]);
    wait_for("the status to name it", PATIENCE, || {
        let status = node.run(&["status"]).stdout;
        let named = |line: &str| line.contains("over its budget were of") && line.ends_with(&parent);
        status.contains("lost (rate limit)") && status.lines().any(named)
    });
    agent.terminate().expect(0, &[]);

    let collected = node.status_file("collect");
    let lost = collected["lost"]["exec"]["rate limit"].as_u64().unwrap();
    let rows = collected["rows"]["exec"].as_u64().unwrap();
    assert!(lost > 0 && rows + lost >= STARTED, "{rows} rows, {lost} left out of {STARTED}");
    assert_eq!(sum(&node, "kumon.agent.reason:\"rate limit\"", "kumon.agent.lost"), lost);
}
