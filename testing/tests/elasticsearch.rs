//! The Elasticsearch fixture itself.
//!
//! Runs beside other tests.

use kumon_testing::{Elasticsearch, require_elasticsearch, require_elasticsearch_6};
use serde_json::{Value, json};

#[test]
fn a_node_keeps_its_data_over_a_stop_and_is_gone_with_its_folder_when_dropped() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::start_tls();
    let (status, _) = node.request("PUT", "/a/_doc/1?refresh=true", json!({"n": 1}));
    assert_eq!(status, 201);
    node.stop();
    node.start_again();
    let (status, document) = node.request("GET", "/a/_doc/1", Value::Null);
    assert_eq!((status, &document["_source"]["n"]), (200, &json!(1)));

    let (folder, url) = (node.ca_file(), node.url());
    drop(node);
    assert!(!folder.exists());
    let address = url.trim_start_matches("https://");
    assert!(std::net::TcpStream::connect(address).is_err(), "somebody still listens on {address}");
}

#[test]
fn the_older_node_executes_watcher_and_ilm() {
    if !require_elasticsearch_6() {
        return;
    }
    let node = Elasticsearch::start_6(&["indices.lifecycle.poll_interval=1s"]);
    let (_, watcher) = node.request("GET", "/_xpack/watcher/stats", Value::Null);
    assert_eq!(watcher["stats"][0]["watcher_state"], "started");
    let (_, ilm) = node.request("GET", "/_ilm/status", Value::Null);
    assert_eq!(ilm["operation_mode"], "RUNNING");
}
