//! Faults that a real Elasticsearch makes: it has no room, its streams or all of it are blocked, shards are missing, it is
//! killed. In each of them nothing may be lost or doubled, shipping halts with one reason, and goes on by itself.
//!
//! What the fixture's node can't make is in [`crate::faults`], from a stand-in: flags of the failure store (the node lacks
//! the module data-streams, and without that its failure store stays off), 502 and 504 (a gateway's), and answers that
//! are none of Elasticsearch's.

use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use kumon_testing::{Elasticsearch, free_port, logged, require_elasticsearch, wait_for};
use serde_json::{Value, json};

use crate::shipping::{Files, LIMIT, Shipping};
use crate::support::{Access, count, install_template, install_template_with, roll_over};

/// A node that soon has more to do than it can take: its requests together may hold 1 MB, one shard is written to at a
/// time, and one waits. It doesn't look after its disk, and so lifts no blocks by itself. One test at a time has it: what
/// they do concerns all of it.
pub(crate) fn small_node() -> MutexGuard<'static, Elasticsearch> {
    static NODE: OnceLock<Mutex<Elasticsearch>> = OnceLock::new();
    let settings = [
        "indexing_pressure.memory.limit=1mb",
        "thread_pool.write.size=1",
        "thread_pool.write.queue_size=1",
        "cluster.info.update.interval=1h",
    ];
    let node = NODE.get_or_init(|| Mutex::new(Elasticsearch::start_with(false, &settings)));
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn put(node: &Elasticsearch, path: &str, body: Value) {
    let (status, answer) = node.request("PUT", path, body);
    assert_eq!(status, 200, "{path}: {answer}");
}

/// What must hold once a fault is over, whatever it was: these streams have the numbers below `rows`, each once.
pub(crate) fn all_is_there(node: &Elasticsearch, shipping: &Shipping, datasets: &[&str], rows: u64) {
    let created = |dataset: &str| shipping.stats().datasets.get(dataset).map_or(0, |it| it.created);
    wait_for("all rows", 2 * LIMIT, || datasets.iter().all(|dataset| created(dataset) >= rows));
    shipping.wait_until_all_is_delivered();
    for dataset in datasets {
        assert_eq!(count(node, dataset), rows, "{dataset}");
        let query = json!({"size": 0, "aggs": {"sum": {"sum": {"field": "n"}}}});
        let (_, answer) = node.request("POST", &format!("logs-{dataset}-default/_search"), query);
        assert_eq!(answer["aggregations"]["sum"]["value"], (rows * (rows - 1) / 2) as f64, "{dataset}");
        assert_eq!(shipping.stats().datasets[*dataset].created, rows);
    }
}

/// 429 for whole requests: batches grow until the node has no room for them, and must get smaller then.
#[test]
fn requests_that_the_indexing_pressure_has_no_room_for_get_smaller_until_it_has() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (small_node(), "server.pressure");
    install_template(&node, dataset);
    let mut access = Access::of(&node);
    access.options.gzip = false;
    let shipping = Shipping::start(&[dataset], &access);
    shipping.append(dataset, 0..200_000);
    all_is_there(&node, &shipping, &[dataset], 200_000);
    let (_, stats) = node.request("GET", "_nodes/stats/indexing_pressure", Value::Null);
    let refused: u64 = stats["nodes"]
        .as_object()
        .unwrap()
        .values()
        .map(|node| &node["indexing_pressure"]["memory"]["total"]["coordinating_rejections"])
        .filter_map(Value::as_u64)
        .sum();
    assert!(refused > 0, "the node had room for everything");
}

/// 429 for single rows: ten shards at a time, and the node's queue takes two.
#[test]
fn rows_that_the_write_queue_had_no_room_for_are_sent_again() {
    if !require_elasticsearch() {
        return;
    }
    let node = small_node();
    let datasets: Vec<String> = (0..10).map(|n| format!("server.queue.{n}")).collect();
    let datasets: Vec<&str> = datasets.iter().map(String::as_str).collect();
    datasets.iter().for_each(|dataset| install_template(&node, dataset));
    let files = Files::of(&datasets);
    datasets.iter().for_each(|dataset| files.append(dataset, 0..500));
    let shipping = files.ship(&Access::of(&node));
    all_is_there(&node, &shipping, &datasets, 500);
    let (_, stats) = node.request("GET", "_cat/thread_pool/write?h=rejected&format=json", Value::Null);
    let rejected: u64 = stats[0]["rejected"].as_str().unwrap().parse().unwrap();
    assert!(rejected > 0, "the queue had room for everything");
    assert!(shipping.stats().halted.is_none());
}

/// 403 for whole requests.
#[test]
fn a_read_only_cluster_halts_shipping_and_is_named() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (small_node(), "server.read.only");
    install_template(&node, dataset);
    let shipping = Shipping::start(&[dataset], &Access::of(&node));
    shipping.append(dataset, 0..10);
    all_is_there(&node, &shipping, &[dataset], 10);
    let block = |value: Value| {
        put(&node, "_cluster/settings", json!({"persistent": {"cluster.blocks.read_only": value}}))
    };
    block(json!(true));
    shipping.append(dataset, 10..1000);
    shipping.wait_until_halted(&["closed the index for writing, or all of them", "cluster read-only"]);
    block(Value::Null);
    all_is_there(&node, &shipping, &[dataset], 1000);
    assert_eq!(logged(&["shipping halts", "cluster read-only"]), 1);
}

/// 429 for single rows until somebody makes room on the disk.
#[test]
fn an_index_beyond_the_flood_stage_halts_its_stream_alone() {
    if !require_elasticsearch() {
        return;
    }
    let node = small_node();
    let [full, other] = ["server.flood", "server.flood.other"];
    [full, other].iter().for_each(|dataset| install_template(&node, dataset));
    let shipping = Shipping::start(&[full, other], &Access::of(&node));
    shipping.append(full, 0..10);
    all_is_there(&node, &shipping, &[full], 10);
    let settings = format!("logs-{full}-default/_settings");
    put(&node, &settings, json!({"index.blocks.read_only_allow_delete": true}));
    shipping.append(full, 10..1000);
    shipping.append(other, 0..1000);
    let held = shipping.wait_until_held(full);
    assert!(held.contains("flood-stage watermark"), "{held}");
    wait_for("the other stream's rows", LIMIT, || count(&node, other) == 1000);
    put(&node, &settings, json!({"index.blocks.read_only_allow_delete": null}));
    all_is_there(&node, &shipping, &[full, other], 1000);
    assert_eq!(logged(&[full, "shipping halts"]), 1);
}

/// 503 for single rows: the shard to write to is nowhere.
#[test]
fn an_unassigned_shard_halts_its_stream_alone() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    let [missing, other] = ["server.unassigned", "server.unassigned.other"];
    [missing, other].iter().for_each(|dataset| install_template(node, dataset));
    let shipping = Shipping::start(&[missing, other], &Access::of(node));
    shipping.append(missing, 0..10);
    all_is_there(node, &shipping, &[missing], 10);
    // The next index of the stream may be on no node.
    install_template_with(
        node,
        missing,
        json!({"number_of_replicas": 0, "index.routing.allocation.require._name": "nobody"}),
    );
    let (status, answer) = node.request(
        "POST",
        &format!("logs-{missing}-default/_rollover?timeout=1s&wait_for_active_shards=0"),
        Value::Null,
    );
    assert_eq!(status, 200, "{answer}");
    shipping.append(missing, 10..1000);
    shipping.append(other, 0..1000);
    let held = shipping.wait_until_held(missing);
    assert!(held.contains("lacks the shard") && held.contains("primary shard is not active"), "{held}");
    wait_for("the other stream's rows", LIMIT, || count(node, other) == 1000);
    let anywhere = json!({"index.routing.allocation.require._name": null});
    put(node, &format!("logs-{missing}-default/_settings"), anywhere);
    all_is_there(node, &shipping, &[missing, other], 1000);
    assert_eq!(logged(&[missing, "shipping halts"]), 1);
}

/// After a restart the ids are looked up in the indices before the one that is written to. While one of them can't be
/// read, what is in there must not be taken for new.
#[test]
fn a_missing_shard_of_an_older_index_doubles_nothing() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (Elasticsearch::shared(), "server.older");
    install_template(node, dataset);
    let files = Files::of(&[dataset]);
    files.append(dataset, 0..500);
    let (checkpoint, access) = (files.checkpoint(), Access::of(node));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let shipping = files.ship(&Access::new(vec![nobody.clone()], "secret"));
    shipping.wait_until_halted(&[&nobody]);
    shipping.stop();
    let before = fs::read(&checkpoint).unwrap();
    let shipping = files.ship(&access);
    all_is_there(node, &shipping, &[dataset], 500);
    shipping.stop();
    // As if it had been killed before it could write down what had arrived.
    fs::write(&checkpoint, before).unwrap();
    roll_over(node, dataset);
    let older = Older::of(node, dataset);
    older.lose_shard(node);

    let shipping = files.ship(&access);
    let held = shipping.wait_until_held(dataset);
    assert!(held.contains("can't be told") && held.contains(&older.name), "{held}");
    older.restore_shard(node);
    shipping.append(dataset, 500..1000);
    shipping.wait_until_all_is_delivered();
    assert_eq!(count(node, dataset), 1000);
    assert_eq!(shipping.stats().duplicates, 500);
}

/// The first index of a data stream.
struct Older {
    name: String,
    files: std::path::PathBuf,
}

impl Older {
    fn of(node: &Elasticsearch, dataset: &str) -> Older {
        let (_, settings) =
            node.request("GET", &format!("logs-{dataset}-default/_settings/index.uuid"), Value::Null);
        let indices = settings.as_object().unwrap();
        let (name, index) = indices.iter().min_by_key(|(name, _)| *name).unwrap();
        let uuid = index["settings"]["index"]["uuid"].as_str().unwrap();
        Older { name: name.clone(), files: node.data().join("indices").join(uuid).join("0") }
    }

    /// As a disk that died takes it.
    fn lose_shard(&self, node: &Elasticsearch) {
        node.request("POST", &format!("{}/_close", self.name), Value::Null);
        fs::rename(&self.files, self.files.with_extension("lost")).unwrap();
        let open = format!("{}/_open?wait_for_active_shards=0&timeout=1s", self.name);
        let (status, answer) = node.request("POST", &open, Value::Null);
        assert_eq!(status, 200, "{answer}");
    }

    fn restore_shard(&self, node: &Elasticsearch) {
        fs::rename(self.files.with_extension("lost"), &self.files).unwrap();
        // Elasticsearch has seen that there was no copy, and doesn't look again by itself.
        let copy = json!({"index": self.name, "shard": 0, "node": "node-1", "accept_data_loss": true});
        let (status, answer) =
            node.request("POST", "_cluster/reroute", json!({"commands": [{"allocate_stale_primary": copy}]}));
        assert_eq!(status, 200, "{answer}");
    }
}

/// Connections that are cut and refused, and what the node answers while it starts (401, 503).
#[test]
fn a_node_that_is_killed_and_starts_again_takes_everything_once() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (small_node(), "server.killed");
    install_template(&node, dataset);
    let shipping = Shipping::start(&[dataset], &Access::of(&node));
    shipping.append(dataset, 0..1000);
    all_is_there(&node, &shipping, &[dataset], 1000);
    shipping.append(dataset, 1000..100_000);
    node.kill();
    shipping.wait_until_halted(&[&node.url()]);
    shipping.append(dataset, 100_000..101_000);
    node.start_again();
    all_is_there(&node, &shipping, &[dataset], 101_000);
}
