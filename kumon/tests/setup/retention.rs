//! How long rows are kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kumon_testing::{Elasticsearch, require_elasticsearch, require_elasticsearch_6, wait_for};
use serde_json::{Value, json};

/// The policies that setup would put there with this `retention`, by name.
fn policies(retention: &str) -> Vec<(String, Value)> {
    let mut kumon = Command::new(env!("CARGO_BIN_EXE_kumon"));
    kumon.args(["setup", "--dry-run", "--only", "ilm"]).env("KUMON_RETENTION", retention);
    let output = kumon.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let requests = String::from_utf8(output.stdout).unwrap();
    // What begins with # is a comment to Kibana's Dev Tools.
    let requests: String =
        requests.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let policy = |request: &str| {
        let (path, body) = request.split_once('\n').unwrap();
        let name = path.strip_prefix("_ilm/policy/").unwrap();
        (name.to_owned(), serde_json::from_str(body).unwrap())
    };
    requests.split("PUT ").skip(1).map(policy).collect()
}

fn delete_after<'p>(policies: &'p [(String, Value)], name: &str) -> &'p Value {
    let (_, policy) = policies.iter().find(|(policy, _)| policy == name).unwrap();
    &policy["policy"]["phases"]["delete"]["min_age"]
}

#[test]
fn one_key_sets_all_policies_and_a_map_single_ones() {
    let all = policies("5y");
    assert!(all.iter().all(|(name, _)| delete_after(&all, name) == "1826d"), "{all:?}");
    let some = policies("{ exec: 30d }");
    assert_eq!(delete_after(&some, "kumon.exec"), "30d");
    assert_eq!(delete_after(&some, "kumon.exit"), "90d");
    assert_eq!(delete_after(&some, "kumon.runqlat_hist"), "30d");
    assert_eq!(delete_after(&some, "kumon.runqlat_hist_10m"), "1826d");
}

/// A policy as 6.8 takes it: it knows shards' sizes only as those of the whole index, and no `_meta`. The ages are cut
/// down to seconds, in the same order.
fn translated_for_6(policy: &Value) -> Value {
    let mut policy = policy.clone();
    policy["policy"].as_object_mut().unwrap().remove("_meta").unwrap();
    let phases = &mut policy["policy"]["phases"];
    let rollover = phases["hot"]["actions"]["rollover"].as_object_mut().unwrap();
    let size = rollover.remove("max_primary_shard_size").unwrap();
    rollover.insert("max_size".into(), size);
    rollover.insert("max_age".into(), json!("2s"));
    phases["warm"]["min_age"] = json!("1s");
    phases["delete"]["min_age"] = json!("5s");
    policy
}

#[test]
fn a_real_ilm_rolls_over_merges_and_deletes_by_the_policy() {
    if !require_elasticsearch_6() {
        return;
    }
    let node = Elasticsearch::start_6(&["indices.lifecycle.poll_interval=1s"]);
    let ok = |method: &str, path: &str, body: Value| {
        let (status, answer) = node.request(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
        answer
    };
    let (_, policy) = policies("{}").into_iter().find(|(name, _)| name == "kumon.exec").unwrap();
    ok("PUT", "_ilm/policy/kumon.exec", translated_for_6(&policy));
    let settings = json!({"index.lifecycle.name": "kumon.exec", "index.lifecycle.rollover_alias": "rows",
        "index.number_of_replicas": 0});
    ok("PUT", "_template/rows", json!({"index_patterns": ["rows-*"], "settings": settings}));
    ok("PUT", "rows-000001", json!({"aliases": {"rows": {"is_write_index": true}}}));
    ok("POST", "rows/_doc", json!({"@timestamp": "2026-11-21T02:00:00Z"}));

    let exists = |index: &str| node.request("GET", index, Value::Null).0 == 200;
    let limit = Duration::from_secs(90);
    let mut merged = false;
    wait_for("the roll-over", limit, || exists("rows-000002"));
    wait_for("the first index's deletion, after it was merged", limit, || {
        let (_, explained) = node.request("GET", "rows-000001/_ilm/explain", Value::Null);
        merged |= explained["indices"]["rows-000001"]["phase"] == "warm";
        !exists("rows-000001")
    });
    assert!(merged, "it went from hot to delete");
    // What is still written to goes on.
    ok("POST", "rows/_doc", json!({"@timestamp": "2026-11-21T02:00:10Z"}));
}

#[test]
fn the_dry_run_shows_policies_that_elasticsearchs_own_parser_accepts() {
    if !require_elasticsearch() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for retention in ["{}", "5y", "1d"] {
        for (name, policy) in policies(retention) {
            files.push(folder.path().join(format!("{name}-{retention}.json")));
            fs::write(&files[files.len() - 1], policy.to_string()).unwrap();
        }
    }
    assert_eq!(files.len(), 3 * kumon_schema::all().len());
    let check = |files: &[PathBuf]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../elk/fixture/ilm-check/run");
        let output = Command::new(script).args(files).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check(&files), (true, String::new()));

    let broken = folder.path().join("broken.json");
    fs::write(&broken, r#"{"policy":{"phases":{"warm":{"actions":{"rollover":{"max_age":"1d"}}}}}}"#)
        .unwrap();
    let (fine, message) = check(&[broken]);
    assert!(!fine && message.contains("rollover"), "{message}");
}
