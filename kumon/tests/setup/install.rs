//! What is put there, what is kept, and what is taken out.

use std::fs;

use kumon_schema::{FieldType, Schema};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Map, Value, json};

use super::support::Setup;

/// A row with a value in every column.
fn sample(schema: &Schema) -> Value {
    let value = |field: &kumon_schema::Field| match field.value_type() {
        FieldType::Datetime => json!("2026-11-21T02:00:00.123456Z"),
        FieldType::Integer => json!(7),
        FieldType::Number => json!(0.5),
        FieldType::Boolean => json!(true),
        FieldType::String if field.elasticsearch["type"] == "ip" => json!("2001:db8::1"),
        FieldType::String | FieldType::List => json!("make all"),
    };
    schema.fields.iter().map(|field| (field.ecs.clone(), value(field))).collect::<Map<_, _>>().into()
}

#[test]
fn every_metric_gets_its_data_stream_with_the_schemas_types() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let setup = Setup::new(&node, "");
    let first = setup.run(&[]);
    let policies = kumon_schema::all().len();
    let skipped = format!("skipped {policies} ILM policies: there is no such API there");
    assert!(first.contains(&skipped), "{first}");
    assert!(first.contains("created index template logs-kumon.exec\n"), "{first}");
    let second = setup.run(&[]);
    let objects = 3 + 1 + 3 * kumon_schema::all().len();
    assert!(second.contains(&format!("0 created, 0 changed, {objects} kept as they were")), "{second}");

    for schema in kumon_schema::all() {
        let stream = schema.data_stream("default");
        let mut row = sample(schema);
        row["kumon.unknown"] = json!("kept, but no field");
        let (status, created) = node.request("POST", &format!("{stream}/_doc?refresh=true"), row);
        assert_eq!(status, 201, "{created}");
        let index = created["_index"].as_str().unwrap();

        for field in &schema.fields {
            // Only a value that was indexed as its type is found by it.
            let query = json!({"query": {"exists": {"field": field.ecs}}});
            let (_, found) = node.request("POST", &format!("{stream}/_count"), query);
            assert_eq!(found["count"], 1, "{stream}: {} is not searchable", field.ecs);
        }
        let fields = "_field_caps?fields=kumon.*,process.*,user.*,source.*,destination.*,host.*";
        let (_, caps) = node.request("GET", &format!("{stream}/{fields}"), Value::Null);
        assert!(caps["fields"]["kumon.unknown"].is_null(), "{stream}: dynamic mapping is on");
        for field in &schema.fields {
            if let Some(caps) = caps["fields"].get(&field.ecs) {
                let wanted = field.elasticsearch["type"].as_str().unwrap();
                assert!(caps.get(wanted).is_some(), "{stream}: {} should be {wanted}: {caps}", field.ecs);
            }
        }
        let (_, settings) = node.request("GET", &format!("{index}/_settings"), Value::Null);
        let settings = &settings[index]["settings"]["index"];
        assert_eq!(settings["lifecycle"]["name"], json!(schema.dataset()));
        assert_eq!((&settings["mode"], &settings["codec"]), (&json!("standard"), &json!("best_compression")));
    }

    let removed = setup.run(&["--remove"]);
    assert!(removed.contains("left index template logs-kumon.exec: in use"), "{removed}");
}

#[test]
fn a_changed_schema_begins_a_new_index_and_remove_leaves_nothing_behind() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let schema_file = |setup: &Setup, fields: Value| {
        fs::write(setup.path("export.json"), json!({"fields": fields}).to_string()).unwrap();
    };
    let setup = Setup::new(&node, "");
    let config = fs::read_to_string(setup.path("kumon.yml")).unwrap();
    let inputs = format!(
        "inputs:\n  - {{ paths: ['/srv/export/*.csv'], format: csv, dataset: export, schema: {} }}\n  \
         - {{ paths: ['/srv/app/*.ndjson'], format: ndjson, dataset: app.events }}\n",
        setup.path("export.json").display()
    );
    fs::write(setup.path("kumon.yml"), config + &inputs).unwrap();
    schema_file(&setup, json!([{"name": "amount", "type": "integer"}]));
    setup.run(&[]);
    let removed = setup.run(&["--remove"]);
    assert!(!removed.contains("left"), "{removed}");
    for path in ["_index_template/*kumon*", "_component_template/*kumon*", "_component_template/logs-export*"]
    {
        let (_, left) = node.request("GET", path, Value::Null);
        let left = left.as_object().and_then(|answer| answer.values().next().cloned());
        assert!(left.as_ref().is_none_or(|list| list == &json!([])), "{path}: {left:?}");
    }

    setup.run(&[]);
    let row =
        |amount: Value| json!({"@timestamp": "2026-11-21T02:00:00Z", "amount": amount, "log.offset": 1});
    assert_eq!(node.request("POST", "logs-export-default/_doc", row(json!(1))).0, 201);
    assert_eq!(node.request("POST", "logs-export-default/_doc", row(json!("one"))).0, 400);
    let unchanged = setup.run(&[]);
    assert!(!unchanged.contains("rolled over"), "{unchanged}");

    schema_file(&setup, json!([{"name": "amount", "type": "string"}]));
    let changed = setup.run(&[]);
    assert!(changed.contains("changed component template logs-export@mappings"), "{changed}");
    assert!(changed.contains("rolled over logs-export-default"), "{changed}");
    assert_eq!(node.request("POST", "logs-export-default/_doc?refresh=true", row(json!("one"))).0, 201);
    assert!(!setup.run(&[]).contains("rolled over"));

    // Without a schema every name becomes a field, strings as wholes and by their words.
    let row = json!({"@timestamp": "2026-11-21T02:00:00Z", "message": "disk is full", "code": 7});
    assert_eq!(node.request("POST", "logs-app.events-default/_doc?refresh=true", row).0, 201);
    let query = json!({"query": {"match": {"message.text": "FULL"}}});
    let (_, found) = node.request("POST", "logs-app.events-default/_count", query);
    assert_eq!(found["count"], 1);
}

#[test]
fn what_somebody_changed_or_made_is_left_shown_and_overwritten_only_by_force() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let own = json!({"index_patterns": ["logs-kumon.exec-*"], "data_stream": {}, "priority": 501});
    assert_eq!(node.request("PUT", "_index_template/logs-kumon.exec", own).0, 200);
    let setup = Setup::new(&node, "");
    let first = setup.run(&[]);
    assert!(first.contains("left index template logs-kumon.exec: setup did not put it there"), "{first}");
    assert!(first.contains("created index template logs-kumon.exit"), "{first}");

    let changed = json!({"template": {"settings": {"index": {"codec": "default", "mode": "standard"}}}});
    assert_eq!(node.request("PUT", "_component_template/kumon@settings", changed).0, 200);
    let second = setup.run(&[]);
    assert!(
        second.contains("left component template kumon@settings: it was changed since setup put it there"),
        "{second}"
    );
    assert!(second.contains("0 created, 0 changed"), "{second}");
    assert!(second.contains("2 left because they are not as setup put them"), "{second}");
    let settings = || node.request("GET", "_component_template/kumon@settings", Value::Null).1.to_string();
    assert!(settings().contains(r#""codec":"default""#), "{}", settings());

    let dry = setup.run(&["--dry-run"]);
    let line = r##"#   since then template.settings.index.codec: "best_compression" → "default""##;
    assert!(dry.contains(line), "{dry}");
    assert!(!dry.contains("PUT _component_template"), "nothing but policies is to be sent: {dry}");
    assert!(setup.run(&["--dry-run", "--force"]).contains("PUT _component_template/kumon@settings"));

    let ilm = setup.run(&["--force", "--only", "ilm"]);
    assert!(!ilm.contains("template"), "{ilm}");
    let removed = setup.run(&["--remove"]);
    assert!(removed.contains("left component template kumon@settings"), "{removed}");
    assert!(removed.contains("left index template logs-kumon.exec: setup did not put it there"), "{removed}");
    let forced = setup.run(&["--force"]);
    assert!(forced.contains("changed component template kumon@settings"), "{forced}");
    assert!(forced.contains("changed index template logs-kumon.exec"), "{forced}");
    assert!(settings().contains("best_compression"), "{}", settings());
    assert!(!setup.run(&["--remove"]).contains("left"));
}

#[test]
fn an_interrupted_setup_is_completed_and_a_deleted_object_comes_back() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let setup = Setup::new(&node, "");
    setup.run(&[]);
    // As a kill leaves it between putting the object and noting what the cluster made of it; and the lock held.
    let interrupted = json!({"doc": {"installed": null}});
    let path = "kumon-setup/_update/index template:logs-kumon.exit".replace(' ', "%20");
    assert_eq!(node.request("POST", &path, interrupted).0, 200);
    assert_eq!(node.request("PUT", "kumon-setup/_doc/lock", json!({"holder": "a dead node"})).0, 201);
    assert_eq!(node.request("DELETE", "_index_template/logs-kumon.exec", Value::Null).0, 200);
    let again = setup.run(&[]);
    assert!(again.contains("changed index template logs-kumon.exit"), "{again}");
    assert!(again.contains("created index template logs-kumon.exec"), "{again}");
    assert!(setup.run(&[]).contains("0 created, 0 changed"));
    setup.run(&["--remove"]);
}

#[test]
fn eight_nodes_at_once_do_it_once() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let setup = Setup::new(&node, "");
    let at_once = || -> Vec<String> {
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| setup.run(&[]))).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        })
    };
    let number = |report: &str, word: &str| -> u64 {
        let end = report.lines().find(|line| line.contains(" created, ")).unwrap();
        let part = end.split(", ").find(|part| part.contains(word)).unwrap();
        part.split_once(' ').unwrap().0.parse().unwrap()
    };
    let reports = at_once();
    let mut created: Vec<u64> = reports.iter().map(|report| number(report, "created")).collect();
    created.sort_unstable();
    let objects = 3 + 1 + 3 * kumon_schema::all().len() as u64;
    assert_eq!(created, [0, 0, 0, 0, 0, 0, 0, objects], "{reports:?}");
    assert!(reports.iter().all(|report| number(report, "changed") == 0), "{reports:?}");

    // One roll-over, not eight.
    let row = json!({"@timestamp": "2026-11-21T02:00:00Z"});
    let (_, created) = node.request("POST", "logs-kumon.exec-default/_doc", row);
    let older = json!({"_meta": {"kumon": {"fingerprint": "older"}}});
    let index = created["_index"].as_str().unwrap();
    assert_eq!(node.request("PUT", &format!("{index}/_mapping"), older).0, 200);
    let rolled = at_once().iter().filter(|report| report.contains("rolled over")).count();
    assert_eq!(rolled, 1);
}
