//! Rows as other programs write them, whose fields meet those that KuMon adds and maps, or have names that
//! Elasticsearch can't take.

use std::path::Path;
use std::time::Duration;

use kumon_schema::Common;
use kumon_shipper::elasticsearch::ElasticsearchSink;
use kumon_shipper::{Dialect, Encoding, Format, Input, Options, Shipper, Times};
use kumon_testing::{Elasticsearch, require_elasticsearch, wait_for};
use serde_json::{Value, json};

use crate::shipping::LIMIT;
use crate::support::{Access, count};

/// The rows' file and how many rows are in it.
const FILES: [(&str, u64); 9] = [
    ("docker.ndjson", 2),
    ("gelf.ndjson", 2),
    ("nginx.ndjson", 2),
    ("logstash.ndjson", 3),
    ("journald.ndjson", 2),
    ("kubernetes.ndjson", 2),
    ("ours.ndjson", 15),
    ("names.ndjson", 11),
    ("pandas.csv", 2),
];

fn dataset(name: &str) -> String {
    format!("names.{}", name.split('.').next().unwrap())
}

fn input(name: &str) -> Input {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rows").join(name);
    Input {
        paths: vec![path.to_str().unwrap().to_owned()],
        format: if name.ends_with(".csv") { Format::Csv } else { Format::Ndjson },
        schema: None,
        dataset: dataset(name),
        timestamp_field: None,
        times: Times::default(),
        encoding: Encoding::default(),
        dialect: Dialect::default(),
        max_record: None,
    }
}

/// With the template that `kumon setup` makes for inputs.
#[test]
fn rows_whose_fields_meet_ours_or_have_odd_names_all_arrive() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    let inputs: Value = serde_json::from_str(include_str!("../../../elk/templates/inputs.json")).unwrap();
    let template = json!({
        "index_patterns": ["logs-names.*-*"], "data_stream": {}, "priority": 500, "template": inputs["template"],
    });
    // A node that has just started, or is busy, may be slow to take it.
    wait_for("the template to be taken", Duration::from_secs(60), || {
        node.request("PUT", "_index_template/names", template.clone()).0 == 200
    });

    let (access, folder) = (Access::of(node), tempfile::tempdir().unwrap());
    let options = Options {
        spool: folder.path().join("spool"),
        state: folder.path().join("state"),
        inputs: FILES.iter().map(|(name, _)| input(name)).collect(),
        namespace: "default".into(),
        common: Common { host_name: "node-1".into(), ..Common::default() },
        batch_bytes: 5_000_000,
        dead_letter_bytes: 1 << 20,
        retry_initial: Duration::from_millis(50),
        retry_max: Duration::from_millis(500),
    };
    let sink = ElasticsearchSink::new(access.options.clone()).unwrap();
    let (shipper, handle) = Shipper::new(options, Box::new(sink)).unwrap();
    let thread = std::thread::spawn(move || shipper.run());
    wait_for("all files", LIMIT, || {
        let stats = handle.stats();
        stats.lag == 0 && stats.files == FILES.len()
    });
    handle.stop(LIMIT);
    thread.join().unwrap();
    let letters = folder.path().join("state/dead-letters");
    let letters: Vec<String> = std::fs::read_dir(letters)
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
        .collect();
    for (name, rows) in FILES {
        assert_eq!(count(node, &dataset(name)), rows, "{name}: {letters:?}");
    }

    // Whose value stands where.
    for (dataset, query, rows) in [
        ("names.docker", "log.value:*ready*", 1),
        ("names.docker", "host.name:node-1", 2),
        ("names.gelf", "host.value:web01 AND host.name:node-1 AND _exists_:log.offset", 1),
        ("names.gelf", "_id_:reserved AND _index_:x", 1),
        ("names.gelf", "_order.value:a AND _order.id:a\\-1", 1),
        ("names.logstash", "host.name:web01", 2),
        ("names.logstash", "log.level:WARN AND log.offset:5", 1),
        ("names.kubernetes", "kubernetes.labels.app.value:shop", 1),
        ("names.kubernetes", "kubernetes.labels.app:shop", 1),
        ("names.kubernetes", "kubernetes.labels.app.kubernetes.io\\/name:shop", 1),
        ("names.ours", "host.value:text AND log.value:text", 1),
        ("names.ours", "host.name_.first:x", 2),
        ("names.names", "a.value:1 AND a.b:2", 1),
        ("names.pandas", "_:0 AND a.value:1 AND a.value_2:3 AND a.b:2 AND __2:last", 1),
    ] {
        let path = format!("logs-{dataset}-default/_count");
        let (_, answer) = node.request("POST", &path, json!({"query": {"query_string": {"query": query}}}));
        assert_eq!(answer["count"], rows, "{dataset}: {query}: {answer}");
    }
}
