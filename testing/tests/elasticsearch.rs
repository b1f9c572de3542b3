//! The Elasticsearch fixture itself.
//!
//! Runs beside other tests.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
fn a_clean_node_has_nothing_of_what_an_earlier_test_put_there() {
    if !require_elasticsearch() {
        return;
    }
    let all = [
        "_resolve/index/*?expand_wildcards=all",
        "_index_template",
        "_component_template",
        "_template",
        "_ingest/pipeline",
        "_cluster/state/metadata?filter_path=metadata.stored_scripts.*",
        "_cluster/settings",
        "_security/role",
        "_security/role_mapping",
        "_security/user",
        "_security/api_key",
    ];
    let state = |node: &Elasticsearch| all.map(|path| node.request("GET", path, Value::Null));
    let node = Elasticsearch::clean();
    let fresh = state(&node);

    let pattern =
        json!({"index_patterns": ["logs-a-*"], "data_stream": {}, "composed_of": ["part"], "priority": 500});
    let script = json!({"script": {"lang": "painless", "source": "1"}});
    let mapping = json!({"roles": ["a"], "enabled": true, "rules": {"field": {"username": "*"}}});
    for (method, path, body) in [
        ("PUT", "_ingest/pipeline/pipeline", json!({"processors": []})),
        (
            "PUT",
            "_component_template/part",
            json!({"template": {"settings": {"default_pipeline": "pipeline"}}}),
        ),
        ("PUT", "_index_template/whole", pattern),
        ("PUT", "_template/legacy", json!({"index_patterns": ["legacy-*"]})),
        ("POST", "logs-a-default/_doc", json!({"@timestamp": "2026-11-21T02:00:00Z"})),
        ("POST", "logs-a-default/_rollover", Value::Null),
        ("PUT", "plain", Value::Null),
        ("PUT", "hidden", json!({"settings": {"index": {"hidden": true}}})),
        ("PUT", "_scripts/script", script),
        ("PUT", "_cluster/settings", json!({"persistent": {"action.auto_create_index": "false"}})),
        ("PUT", "_security/role/role", json!({"cluster": ["all"]})),
        ("PUT", "_security/role_mapping/mapping", mapping),
        ("PUT", "_security/user/user", json!({"password": "password", "roles": ["role"]})),
        ("POST", "_security/api_key", json!({"name": "key"})),
    ] {
        let (status, answer) = node.request(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
    }
    for ((path, used), fresh) in all.iter().zip(state(&node)).zip(&fresh) {
        assert_ne!(used, *fresh, "{path}");
    }
    // As a test that fails.
    let failed = catch_unwind(AssertUnwindSafe(move || {
        let _node = node;
        panic!("the lock is poisoned")
    }));
    assert!(failed.is_err());

    assert_eq!(state(&Elasticsearch::clean()), fresh);
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
