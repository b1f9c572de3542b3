//! The roles and the API key, by what the real server lets them do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Value, json};

use super::support::Setup;

const ROW: &str = r#"{"@timestamp":"2020-11-21T02:00:00Z","process.name":"a"}"#;

fn row() -> Value {
    serde_json::from_str(ROW).unwrap()
}

/// What the server answers to each of these requests of one who is to be refused.
fn assert_refused(node: &Elasticsearch, who: &str, requests: &[(&str, &str, Value)]) {
    for (method, path, body) in requests {
        let (status, answer) = node.request_as(who, method, path, body.clone());
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
}

#[test]
fn the_shippers_key_can_ship_and_do_nothing_else_and_is_told_to_nobody() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::start_tls();
    let inputs = "inputs:\n  - { paths: ['/srv/app/*.ndjson'], format: ndjson, dataset: app.events }\n";
    let setup = Setup::new(&node, inputs);
    let key_file = setup.path("api_key");
    // Who ships owns the shipper's state folder.
    fs::create_dir_all(setup.path("state/ship")).unwrap();
    let owner =
        if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
    std::os::unix::fs::chown(setup.path("state/ship"), Some(owner), None).unwrap();

    let mut kumon = setup.command(&["--create-api-key", key_file.to_str().unwrap()]);
    let kumon =
        kumon.env("KUMON_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = format!("/proc/{}", kumon.id());
    let shown = ["cmdline", "environ"].map(|file| fs::read(Path::new(&process).join(file)).unwrap());
    let output = kumon.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = fs::read_to_string(&key_file).unwrap().trim().to_owned();
    let metadata = fs::metadata(&key_file).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid()), (0o600, owner));
    let told = [&shown[0], &shown[1], &output.stdout, &output.stderr];
    assert!(told[3].len() > 1000, "trace shows requests");
    for told in told.map(|told| String::from_utf8_lossy(told).into_owned()) {
        assert!(!told.contains(&key) && !told.contains(node.password()), "{told}");
    }
    // A repetition keeps the key.
    let again = setup.run(&["--create-api-key", key_file.to_str().unwrap()]);
    assert!(again.contains("kept the API key in"), "{again}");
    assert_eq!(fs::read_to_string(&key_file).unwrap().trim(), key);

    let who = format!("ApiKey {key}");
    for stream in ["logs-kumon.exec-default", "metrics-kumon.runqlat-prod", "logs-app.events-default"] {
        let bulk = format!("{{\"create\":{{\"_id\":\"1\"}}}}\n{ROW}\n");
        let (status, answer) = node.request_as(&who, "POST", &format!("{stream}/_bulk?refresh=true"), bulk);
        assert_eq!((status, &answer["errors"]), (200, &json!(false)), "{answer}");
        assert_eq!(node.request_as(&who, "GET", &format!("{stream}/_count"), Value::Null).1["count"], 1);
        assert_eq!(node.request_as(&who, "GET", &format!("_resolve/index/{stream}"), Value::Null).0, 200);
    }
    let (_, resolved) = node.request("GET", "_resolve/index/logs-kumon.exec-default", Value::Null);
    let index = resolved["data_streams"][0]["backing_indices"][0].as_str().unwrap().to_owned();
    assert_eq!(node.request("POST", "other/_doc", row()).0, 201);
    let (document, update) = (format!("{index}/_doc/1"), format!("{index}/_update/1"));
    let (seq, overwrite) = (format!("{document}?if_seq_no=0&if_primary_term=1"), json!({"doc": {"a": 1}}));
    assert_refused(
        &node,
        &who,
        &[
            ("DELETE", &document, Value::Null),
            ("PUT", &seq, row()),
            ("POST", &update, overwrite),
            ("POST", "logs-kumon.exec-default/_delete_by_query", json!({"query": {"match_all": {}}})),
            ("POST", "logs-kumon.exec-default/_update_by_query", Value::Null),
            ("POST", "logs-kumon.exec-default/_rollover", Value::Null),
            ("PUT", "logs-kumon.exec-default/_mapping", json!({"properties": {"a": {"type": "long"}}})),
            ("PUT", "logs-kumon.exec-default/_settings", json!({"index": {"refresh_interval": "1h"}})),
            ("DELETE", &index, Value::Null),
            ("POST", "logs-other-default/_doc", row()),
            ("POST", "other/_doc", row()),
            ("GET", "kumon-setup/_search", Value::Null),
            ("GET", "other/_search", Value::Null),
            ("GET", "_cluster/settings", Value::Null),
            ("PUT", "_cluster/settings", json!({"transient": {"action.auto_create_index": "false"}})),
            ("PUT", "_index_template/a", json!({"index_patterns": ["a"]})),
            ("PUT", "_component_template/a", json!({"template": {}})),
            ("PUT", "_ingest/pipeline/a", json!({"processors": []})),
            ("GET", "_security/role", Value::Null),
            ("PUT", "_security/role/a", json!({"cluster": ["all"]})),
            ("POST", "_security/api_key", json!({"name": "another"})),
            ("GET", "_nodes", Value::Null),
        ],
    );
}

#[test]
fn the_admin_can_set_up_and_the_reader_can_only_read() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let setup = Setup::new(&node, "");
    assert!(setup.run(&["--only", "roles"]).contains("created role kumon_admin"));
    for name in ["admin", "reader"] {
        let user = json!({"password": format!("{name}-password"), "roles": [format!("kumon_{name}")]});
        assert_eq!(node.request("PUT", &format!("_security/user/{name}"), user).0, 200);
    }
    fs::write(setup.path("admin-password"), "admin-password").unwrap();
    let password_file = setup.path("admin-password");
    let admin = ["--username", "admin", "--password-file", password_file.to_str().unwrap()];
    let first = setup.run(&admin);
    assert!(
        first.contains("kept 3 roles") && first.contains("created index template logs-kumon.exec"),
        "{first}"
    );
    // A data stream whose index was made by an older mapping.
    let (status, created) = node.request("POST", "logs-kumon.exec-default/_doc?refresh=true", row());
    assert_eq!(status, 201);
    let older = json!({"_meta": {"kumon": {"fingerprint": "older"}}});
    let index = created["_index"].as_str().unwrap();
    assert_eq!(node.request("PUT", &format!("{index}/_mapping"), older).0, 200);
    let key_file = setup.path("key");
    let with_key = [&admin[..], &["--create-api-key", key_file.to_str().unwrap()]].concat();
    assert!(setup.run(&with_key).contains("rolled over logs-kumon.exec-default"));
    let key = format!("ApiKey {}", fs::read_to_string(&key_file).unwrap().trim());
    assert_eq!(node.request_as(&key, "POST", "logs-kumon.exec-default/_doc", row()).0, 201);
    // What only a superuser may change is named, and the rest goes on.
    assert_eq!(node.request("DELETE", "_security/role/kumon_reader", Value::Null).0, 200);
    let incomplete = setup.output(&admin);
    let report = String::from_utf8(incomplete.stdout).unwrap();
    assert_eq!(incomplete.status.code(), Some(1), "{report}");
    assert!(report.contains("skipped 1 role: a privilege is missing"), "{report}");
    // One for each metric, and one that is common to them.
    let templates = kumon_schema::all().len() + 1;
    assert!(report.contains(&format!("kept {templates} component templates")), "{report}");
    assert!(setup.run(&[]).contains("created role kumon_reader"));

    // The disk estimate is of the rate at which rows arrive.
    let since = (chrono::Utc::now() - chrono::TimeDelta::hours(2)).to_rfc3339();
    let recent =
        format!("{{\"create\":{{}}}}\n{{\"@timestamp\":\"{since}\",\"host.id\":\"a\"}}\n").repeat(25);
    assert_eq!(node.request("POST", "logs-kumon.exec-default/_bulk?refresh=true", recent).0, 200);
    let counted = setup.run(&[&admin[..], &["--only", "ilm"]].concat());
    assert!(counted.contains("of 1 node(s), at the rate of the last 2 hours in this cluster"), "{counted}");
    let exec = counted.lines().find(|line| line.trim().starts_with("exec")).unwrap();
    assert!(exec.contains(" 90d ") && (exec.contains(" 300 ") || exec.contains(" 299 ")), "{exec}");

    let reader = "Basic cmVhZGVyOnJlYWRlci1wYXNzd29yZA==";
    let (_, found) = node.request_as(reader, "GET", "logs-kumon.*/_count", Value::Null);
    assert_eq!(found["count"], 27, "{found}");
    assert_refused(
        &node,
        reader,
        &[
            ("POST", "logs-kumon.exec-default/_doc", row()),
            ("POST", "logs-kumon.exec-default/_delete_by_query", json!({"query": {"match_all": {}}})),
            ("GET", "logs-other-default/_search", Value::Null),
            ("GET", "kumon-setup/_search", Value::Null),
            ("GET", "_cluster/settings", Value::Null),
        ],
    );
    assert!(
        setup
            .run(&[&admin[..], &["--remove", "--only", "templates"]].concat())
            .contains("removed index template")
    );
    // Of keys, the admin may revoke its own; and no role.
    let superusers = setup.path("superusers-key");
    setup.run(&["--only", "roles", "--create-api-key", superusers.to_str().unwrap()]);
    let superusers = format!("ApiKey {}", fs::read_to_string(&superusers).unwrap().trim());
    let removed = setup.output(&[&admin[..], &["--remove", "--only", "roles"]].concat());
    let report = String::from_utf8(removed.stdout).unwrap();
    assert_eq!(removed.status.code(), Some(1), "{report}");
    assert!(report.contains("revoked API key kumon-"), "{report}");
    assert!(report.contains("skipped API keys that others made: a privilege is missing"), "{report}");
    let status = |who: &str| node.request_as(who, "GET", "_security/_authenticate", Value::Null).0;
    assert_eq!((status(&key), status(&superusers)), (401, 200), "{report}");
}
