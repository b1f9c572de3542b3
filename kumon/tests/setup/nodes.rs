//! A cluster that several nodes, and several versions of KuMon, have set up.

use std::fs;

use kumon_testing::{Elasticsearch, require_elasticsearch, require_root};
use serde_json::{Value, json};

use super::support::Setup;

fn is_there(node: &Elasticsearch, path: &str) -> bool {
    node.request("GET", path, Value::Null).0 == 200
}

/// Puts a pipeline there, and the note of an earlier KuMon that it did so, with what it found there then.
fn older_pipeline(node: &Elasticsearch, name: &str, found: Option<Value>) {
    let path = format!("_ingest/pipeline/{name}");
    assert_eq!(node.request("PUT", &path, json!({"processors": []})).0, 200);
    let installed = found.unwrap_or_else(|| json!({"processors": []}));
    let note =
        json!({"kind": "ingest pipeline", "name": name, "fingerprint": "older", "installed": installed});
    let path = format!("kumon-setup/_doc/ingest%20pipeline:{name}?refresh=true");
    assert_eq!(node.request("PUT", &path, note).0, 201);
}

#[test]
fn remove_takes_out_what_older_versions_and_configurations_put_there_and_nothing_else() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let setup =
        Setup::new(&node, "inputs: [{ paths: ['/srv/app/*'], format: ndjson, dataset: app.events }]\n");
    let key_file = setup.path("key");
    setup.run(&["--create-api-key", key_file.to_str().unwrap()]);
    let shipper = format!("ApiKey {}", fs::read_to_string(&key_file).unwrap().trim());
    let (_, theirs) = node.request("POST", "_security/api_key", json!({"name": "kumon-theirs"}));
    let theirs = format!("ApiKey {}", theirs["encoded"].as_str().unwrap());
    older_pipeline(&node, "logs-kumon.exec@v0", None);
    older_pipeline(&node, "logs-kumon.exit@v0", Some(json!({"processors": [], "description": "before"})));
    assert_eq!(node.request("PUT", "_ingest/pipeline/logs-kumon.mine@v1", json!({"processors": []})).0, 200);

    // The configuration has no inputs any more.
    setup.configure(&node, "");
    let removed = setup.run(&["--remove"]);
    assert!(removed.contains("removed ingest pipeline logs-kumon.exec@v0"), "{removed}");
    assert!(removed.contains("left ingest pipeline logs-kumon.exit@v0: it was changed"), "{removed}");
    assert!(removed.contains("revoked API key kumon-"), "{removed}");
    for path in [
        "_ingest/pipeline/logs-kumon.exec@v0",
        "_component_template/logs-app.events@mappings",
        "_index_template/logs-app.events",
        "_security/role/kumon_shipper",
    ] {
        assert!(!is_there(&node, path), "{path}: {removed}");
    }
    for path in ["_ingest/pipeline/logs-kumon.exit@v0", "_ingest/pipeline/logs-kumon.mine@v1"] {
        assert!(is_there(&node, path), "{path}: {removed}");
    }
    let status = |who: &str| node.request_as(who, "GET", "_security/_authenticate", Value::Null).0;
    assert_eq!((status(&shipper), status(&theirs)), (401, 200));

    assert!(setup.run(&["--remove", "--force"]).contains("removed ingest pipeline logs-kumon.exit@v0"));
    assert!(is_there(&node, "_ingest/pipeline/logs-kumon.mine@v1") && !is_there(&node, "kumon-setup"));
}

#[test]
fn nodes_with_other_settings_do_not_undo_each_others() {
    if !require_elasticsearch() || !require_root() {
        return;
    }
    let node = Elasticsearch::clean();
    let inputs = |setup: &Setup, amount: &str, dataset: &str| {
        let schema = json!({"fields": [{"name": "amount", "type": amount}]});
        fs::write(setup.path("export.json"), schema.to_string()).unwrap();
        format!(
            "inputs:\n  - {{ paths: ['/srv/export/*.csv'], format: csv, dataset: export, schema: {} }}\n  \
             - {{ paths: ['/srv/x/*'], format: ndjson, dataset: {dataset} }}\n",
            setup.path("export.json").display()
        )
    };
    let (one, two) = (Setup::new(&node, ""), Setup::new(&node, ""));
    one.configure(&node, &inputs(&one, "integer", "b"));
    two.configure(&node, &inputs(&two, "string", "a"));
    let amount = || {
        let (_, found) = node.request("GET", "_component_template/logs-export@mappings", Value::Null);
        let template = &found["component_templates"][0]["component_template"]["template"];
        template["mappings"]["properties"]["amount"]["type"].as_str().unwrap().to_owned()
    };
    let streams = || {
        let (_, role) = node.request("GET", "_security/role/kumon_shipper", Value::Null);
        role["kumon_shipper"]["indices"][0]["names"].clone()
    };

    one.run(&[]);
    let second = two.run_on("second", &[]);
    let left = "left component template logs-export@mappings: setup on node ";
    assert!(second.contains(left) && second.contains("by other settings"), "{second}");
    assert!(second.contains("created index template logs-a\n"), "{second}");
    assert_eq!(amount(), "long");
    // One role is for all of them.
    let all = json!(["logs-kumon.*-*", "metrics-kumon.*-*", "logs-a-*", "logs-b-*", "logs-export-*"]);
    assert_eq!(streams(), all);

    let first = one.run(&[]);
    assert!(first.contains("0 created, 0 changed") && !first.contains("left"), "{first}");
    let second = two.run_on("second", &[]);
    assert!(second.contains("0 created, 0 changed") && second.contains(left), "{second}");

    let forced = two.run_on("second", &["--force", "--only", "templates"]);
    assert!(forced.contains("changed component template logs-export@mappings"), "{forced}");
    assert_eq!(amount(), "keyword");
    let first = one.run(&[]);
    assert!(first.contains(&format!("{left}second (KuMon ")), "{first}");
    assert_eq!((amount().as_str(), streams()), ("keyword", all));
}
