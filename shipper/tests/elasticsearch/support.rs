//! Batches, and sinks of the node that the tests share.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kumon_schema::Kind;
use kumon_shipper::elasticsearch::{Authentication, BulkEncoder, ElasticsearchSink, Options};
use kumon_shipper::{Batch, RowId, StreamName};
use kumon_testing::Elasticsearch;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What `kumon setup` would have put there: data streams `logs-<dataset>-default` with a number and nothing else.
pub(crate) fn install_template(node: &Elasticsearch, dataset: &str) {
    install_template_with(node, dataset, json!({"number_of_replicas": 0}));
}

/// As [`install_template`], with other settings for the indices that are made from now on.
pub(crate) fn install_template_with(node: &Elasticsearch, dataset: &str, settings: Value) {
    let mapping =
        json!({"dynamic": false, "properties": {"@timestamp": {"type": "date"}, "n": {"type": "long"}}});
    let template = json!({
        "index_patterns": [format!("logs-{dataset}-*")], "data_stream": {}, "priority": 500,
        "template": {"mappings": mapping, "settings": settings},
    });
    let (status, answer) = node.request("PUT", &format!("_index_template/{dataset}"), template);
    assert_eq!(status, 200, "{answer}");
}

/// One batch of one file; `n` is the document's value and its id.
pub(crate) fn batch(dataset: &str, generation: &str, values: impl IntoIterator<Item = Value>) -> Arc<Batch> {
    let stream = Arc::new(StreamName {
        kind: Kind::Event,
        dataset: dataset.to_owned(),
        namespace: "default".to_owned(),
    });
    let generation = Arc::from(generation);
    let mut batch = Batch::new(Box::new(BulkEncoder::default()));
    for (offset, n) in (0..).zip(values) {
        let id = RowId { stream: &stream, generation: &generation, offset: n.as_u64().unwrap_or(offset) };
        let json = json!({"@timestamp": "2026-11-21T02:00:00Z", "n": n}).to_string();
        batch.push_json(0, offset, &id, &json);
    }
    batch.positions.push((generation, batch.documents.len() as u64));
    batch.into()
}

/// The data stream of a dataset writes to a new index from now on.
pub(crate) fn roll_over(node: &Elasticsearch, dataset: &str) {
    let (status, answer) = node.request("POST", &format!("logs-{dataset}-default/_rollover"), Value::Null);
    assert_eq!((status, &answer["rolled_over"]), (200, &Value::Bool(true)), "{answer}");
}

/// How many documents the data stream of a dataset holds, old indices included.
pub(crate) fn count(node: &Elasticsearch, dataset: &str) -> u64 {
    node.request("POST", &format!("logs-{dataset}-default/_refresh"), Value::Null);
    let (_, answer) = node.request("GET", &format!("logs-{dataset}-default/_count"), Value::Null);
    answer["count"].as_u64().unwrap_or_default()
}

/// Options and the files they name.
pub(crate) struct Access {
    pub(crate) options: Options,
    pub(crate) folder: TempDir,
}

impl Access {
    /// Everything is right.
    pub(crate) fn of(node: &Elasticsearch) -> Access {
        Access::new(vec![node.url()], node.password())
    }

    pub(crate) fn new(hosts: Vec<String>, password: &str) -> Access {
        let folder = tempfile::tempdir().unwrap();
        let password_file = write(&folder, "password", password);
        let authentication = Authentication::Basic { username: "elastic".into(), password_file };
        let timeout = Duration::from_secs(20);
        let options = Options {
            section: "output.elasticsearch".into(),
            hosts,
            authentication,
            ca_file: None,
            client_certificate: None,
            gzip: true,
            timeout,
        };
        Access { options, folder }
    }

    pub(crate) fn sink(&self) -> ElasticsearchSink {
        ElasticsearchSink::new(self.options.clone()).unwrap()
    }
}

pub(crate) fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}
