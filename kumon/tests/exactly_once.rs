//! Every marked process appears exactly once, whatever happens to the shipping process and to Elasticsearch.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::process::Command;

use common::{Kumon, Node, PATIENCE};
use kumon_testing::{Elasticsearch, require_bpf, require_elasticsearch, wait_for};
use serde_json::{Value, json};

const BURSTS: usize = 10;
const BURST: usize = 200;

/// Every process has its row, however many there are in a second.
const EACH: &str = "collectors: { exec: { max_rows_per_second: 0 } }\n";

/// Starts a burst of processes, each with an argument of its own, and waits for them.
fn burst(marker: &str, number: usize) {
    for process in 0..BURST {
        let ended =
            Command::new("/bin/true").arg(format!("{marker}-{}", number * BURST + process)).status().unwrap();
        assert!(ended.success());
    }
}

/// How often each marked process is among the command lines.
fn counts(command_lines: impl Iterator<Item = String>, marker: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in command_lines {
        if let Some((_, marked)) = line.split_once(&format!("/bin/true {marker}-")) {
            *counts.entry(marked.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn assert_each_once(counts: &HashMap<String, usize>) {
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    let lost: Vec<_> =
        (0..BURSTS * BURST).filter(|number| !counts.contains_key(&number.to_string())).collect();
    assert!(doubled.is_empty() && lost.is_empty(), "doubled {doubled:?}, lost {lost:?}");
}

/// The load: bursts, and in the middle of each the shipper is killed and started again.
fn bursts_under_fire(node: &Node, marker: &str, mut after_burst: impl FnMut(usize)) -> Kumon {
    let mut shipper = node.start(&["ship"]);
    for number in 0..BURSTS {
        shipper = std::thread::scope(|scope| {
            let load = scope.spawn(|| burst(marker, number));
            // It is killed at work, unless it waits for Elasticsearch longer than the burst lasts.
            wait_for("the shipper to be at work", PATIENCE, || {
                node.status_file("ship")["pid"].as_u64() == Some(shipper.id().into()) || load.is_finished()
            });
            shipper.kill();
            node.start(&["ship"])
        });
        after_burst(number);
    }
    shipper
}

#[test]
fn the_embedded_store_has_each_process_once_though_the_shipper_is_killed_ten_times() {
    if !require_bpf() {
        return;
    }
    let node = Node::new(EACH);
    let collector = node.start_agent(&["collect"]);
    let shipper = bursts_under_fire(&node, "store-marker", |_| {});
    let count = || {
        let rows = node.rows("exec", "process.command_line:*store-marker-*");
        counts(
            rows.iter().filter_map(|row| Some(row["process.command_line"].as_str()?.to_owned())),
            "store-marker",
        )
    };
    wait_for("all marked processes in the store", PATIENCE, || count().len() == BURSTS * BURST);
    assert_each_once(&count());

    collector.terminate().expect(0, &[]);
    shipper.terminate().expect(0, &[]);
    assert_each_once(&count());
}

#[test]
fn elasticsearch_has_each_process_once_though_it_and_the_shipper_go_down() {
    if !require_bpf() || !require_elasticsearch() {
        return;
    }
    let elasticsearch = Elasticsearch::start();
    let node = Node::new("");
    node.configure(&(node.output(&elasticsearch) + EACH));
    node.run(&["setup"]).expect(0, &[]);
    let collector = node.start_agent(&["collect"]);
    let shipper = bursts_under_fire(&node, "es-marker", |number| match number {
        4 => elasticsearch.stop(),
        6 => elasticsearch.start_again(),
        _ => {}
    });
    let search = || {
        elasticsearch.request("POST", "/logs-kumon.exec-default/_refresh", Value::Null);
        let query = json!({"wildcard": {"process.command_line": "/bin/true es-marker-*"}});
        let body = json!({"size": 10_000, "track_total_hits": true, "query": query, "_source": ["process.command_line"]});
        elasticsearch.request("POST", "/logs-kumon.exec-default/_search", body).1["hits"]["hits"].clone()
    };
    let count = || {
        let hits = search();
        let lines =
            hits.as_array().into_iter().flatten().map(|hit| hit["_source"]["process.command_line"].clone());
        counts(lines.filter_map(|line| Some(line.as_str()?.to_owned())), "es-marker")
    };
    wait_for("all marked processes in Elasticsearch", 3 * PATIENCE, || count().len() == BURSTS * BURST);
    assert_each_once(&count());

    collector.terminate().expect(0, &[]);
    shipper.terminate().expect(0, &[]);
    elasticsearch.request("POST", "/logs-kumon.exec-default/_refresh", Value::Null);
    assert_each_once(&count());
}
