//! Several outputs at once: each gets every row once, however the others are, and whatever the list becomes.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use common::{Node, PATIENCE};
use kumon_schema::rows::Exec;
use kumon_schema::{Common, SubjectFields};
use kumon_spool::{Limits, RowBatch, Spool};
use kumon_testing::{
    Elasticsearch, free_port, repetitions, require_elasticsearch, require_elasticsearch_8, wait_for,
};
use serde_json::{Value, json};

/// A node whose shipper reads the spool and an application's log; what it writes is its own.
struct Place {
    node: Node,
    namespace: String,
}

impl Place {
    /// `name` tells its streams from those of the other tests.
    fn new(name: &str) -> Place {
        Place { node: Node::new(""), namespace: format!("{name}{}", std::process::id()) }
    }

    /// `outputs` is `output: …` or `outputs: …`.
    fn configure(&self, outputs: &str) {
        let (log, namespace) = (self.node.path("app.ndjson"), &self.namespace);
        let inputs = format!("inputs: [{{ paths: ['{}'], format: ndjson, dataset: app }}]\n", log.display());
        self.node.configure(&format!("namespace: {namespace}\n{inputs}{outputs}\n"));
    }

    /// An entry of the list `outputs`.
    fn entry(&self, name: &str, elasticsearch: &Elasticsearch) -> String {
        let output = self.node.output(elasticsearch);
        let section = output.trim_start_matches("output: {").trim_end().trim_end_matches('}');
        format!("{{ name: {name}, {section} }}")
    }

    /// Rows of exec and of the log, of these numbers, each row of exec in a file of its own that is closed.
    fn write(&self, numbers: Range<u64>) {
        let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
        let mut spool = Spool::open(&self.node.spool(), limits).unwrap();
        for number in numbers {
            self.append_to_log(&format!("{{\"n\":{number}}}"));
            let mut batch = RowBatch::new(Arc::new(Common::default()));
            let subject = SubjectFields { pid: Some(number), name: b"a", ..SubjectFields::default() };
            batch.append(&Exec { timestamp: 1_790_000_000_000_000_000, ..Exec::default() }, &subject);
            spool.append(&mut batch);
            spool.flush().unwrap();
        }
        spool.close().unwrap();
    }

    fn append_to_log(&self, line: &str) {
        let mut log =
            OpenOptions::new().create(true).append(true).open(self.node.path("app.ndjson")).unwrap();
        writeln!(log, "{line}").unwrap();
    }

    /// What an output has, as `kumon query` finds it, in order; nothing while it can't be asked.
    fn numbers(&self, output: &str, metric: &str) -> Vec<u64> {
        let ended = self.node.run(&["query", metric, "", "--format", "json", "--output", output]);
        let rows = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut numbers: Vec<u64> =
            rows.filter_map(|row| row[if metric == "app" { "n" } else { "process.pid" }].as_u64()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Waits until an output has exactly these rows, each once.
    fn expect(&self, output: &str, numbers: Range<u64>) {
        for metric in ["exec", "app"] {
            let count = numbers.end - numbers.start;
            wait_for(&format!("{metric} in {output}"), PATIENCE, || {
                self.numbers(output, metric).len() as u64 >= count
            });
            assert_eq!(
                self.numbers(output, metric),
                numbers.clone().collect::<Vec<_>>(),
                "{metric} in {output}"
            );
        }
    }

    /// Ships with this configuration until the outputs have these rows, and ends.
    fn ship_until(&self, outputs: &str, has: &[(&str, Range<u64>)]) {
        self.configure(outputs);
        let agent = self.node.start_agent(&["ship"]);
        has.iter().for_each(|(output, numbers)| self.expect(output, numbers.clone()));
        agent.terminate().expect(0, &[]);
        // What a stop sends is not doubled either.
        has.iter().for_each(|(output, numbers)| self.expect(output, numbers.clone()));
    }

    fn files(&self) -> usize {
        self.node.files("exec").len()
    }

    fn wait_for_files_to_go(&self) {
        wait_for("the spool's files to go", PATIENCE, || self.files() == 0);
    }
}

/// Makes room for its streams, in which rows are found soon after they were sent.
fn install(place: &Place, elasticsearch: &Elasticsearch) {
    let template = json!({"index_patterns": [format!("*-{}", place.namespace)], "data_stream": {}, "priority": 1000,
        "composed_of": [], "template": {"settings": {"number_of_replicas": 0, "refresh_interval": "100ms"},
        "mappings": {"properties": {"@timestamp": {"type": "date"}}}}});
    let (status, answer) =
        elasticsearch.request("PUT", &format!("_index_template/{}", place.namespace), template);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn each_output_gets_every_row_once_while_the_other_is_away_and_the_shipper_is_killed() {
    if !require_elasticsearch() {
        return;
    }
    let (place, elasticsearch) = (Place::new("away"), Elasticsearch::start());
    let node = &place.node;
    place.configure(&format!("outputs: [{}, {{ store: {{}} }}]", place.entry("far", &elasticsearch)));
    install(&place, &elasticsearch);
    let agent = node.start_agent(&["ship"]);
    place.write(0..20);
    place.expect("store", 0..20);
    place.expect("far", 0..20);
    place.wait_for_files_to_go();
    node.wait_for_status(1, &["far, to the elasticsearch", "store, to the embedded store"]);

    // What one refuses the other may take.
    place.append_to_log("{\"n\":\"x\"}");
    let letters = |output: &str| node.run(&["dead-letters", "list", "--output", output, "--format", "json"]);
    wait_for("the letter", PATIENCE, || letters("far").stdout.lines().count() == 1);
    assert!(letters("far").stdout.contains("failed to parse field [n]"), "{:?}", letters("far"));
    letters("store").expect(1, &["no match"]);
    wait_for("the row", PATIENCE, || node.rows("app", "n:x").len() == 1);
    node.run(&["dead-letters", "replay", "--output", "far"]).expect(1, &[]);
    node.run(&["dead-letters", "drop", "--all", "--output", "far"]).expect(0, &[]);

    elasticsearch.stop();
    place.write(20..40);
    place.expect("store", 0..40);
    assert_eq!(place.files(), 20, "what one output lacks stays");
    wait_for("the status of both", PATIENCE, || {
        let outputs = &node.status_file("ship")["outputs"];
        let (far, store) = (&outputs["far"], &outputs["store"]);
        let halts = far["halted"].is_string() && far["lag"].as_u64() > Some(0);
        halts && store["halted"].is_null() && store["lag"] == 0 && store["rows"]["kumon.exec"] == 40
    });

    agent.kill();
    let agent = node.start_agent(&["ship"]);
    place.write(40..60);
    place.expect("store", 0..60);
    agent.kill();
    elasticsearch.start_again();
    let agent = node.start_agent(&["ship"]);
    place.expect("far", 0..60);
    place.wait_for_files_to_go();
    agent.terminate().expect(0, &[]);
    place.expect("far", 0..60);
    place.expect("store", 0..60);
}

#[test]
fn two_clusters_get_every_row_once_while_one_of_them_is_away() {
    // A second cluster takes another gigabyte and half a minute.
    if repetitions(0, 1) == 0 || !require_elasticsearch() || !require_elasticsearch_8() {
        return;
    }
    let place = Place::new("clusters");
    let (near, far) = (Elasticsearch::shared(), Elasticsearch::start_8());
    let clusters = [("near", near), ("far", &far)];
    let entries = clusters.map(|(name, cluster)| place.entry(name, cluster));
    place.configure(&format!("outputs: [{}]", entries.join(", ")));
    clusters.iter().for_each(|(_, cluster)| install(&place, cluster));
    let agent = place.node.start_agent(&["ship"]);
    place.write(0..10);
    place.expect("near", 0..10);
    place.expect("far", 0..10);
    place.wait_for_files_to_go();

    far.stop();
    place.write(10..20);
    place.expect("near", 0..20);
    assert_eq!(place.files(), 10, "what one cluster lacks stays");
    far.start_again();
    place.write(20..30);
    place.expect("far", 0..30);
    place.expect("near", 0..30);
    place.wait_for_files_to_go();
    agent.terminate().expect(0, &[]);
    place.expect("far", 0..30);
}

#[test]
fn from_one_output_to_several_and_back_nothing_is_lost_or_doubled() {
    if !require_elasticsearch() {
        return;
    }
    let (place, elasticsearch) = (Place::new("back"), Elasticsearch::shared());
    let single = place.node.output(elasticsearch);
    let (far, store) = (place.entry("far", elasticsearch), "{ store: {} }");
    place.configure(&single);
    install(&place, elasticsearch);
    place.write(0..10);
    place.ship_until(&single, &[("elasticsearch", 0..10)]);
    // One that comes later begins with what is in the spool, and with the first line of the log.
    place.write(10..20);
    place.configure(&format!("outputs: [{store}, {far}]"));
    let agent = place.node.start_agent(&["ship"]);
    place.expect("far", 0..20);
    wait_for("the log in the store", PATIENCE, || place.numbers("store", "app").len() == 20);
    assert_eq!(place.numbers("store", "exec"), (10..20).collect::<Vec<_>>());
    agent.terminate().expect(0, &[]);
    // The order of the list is nothing.
    place.write(20..30);
    place.ship_until(&format!("outputs: [{far}, {store}]"), &[("far", 0..30)]);
    assert_eq!(place.numbers("store", "app"), (0..30).collect::<Vec<_>>());
    place.write(30..40);
    place.ship_until(&single, &[("elasticsearch", 0..40)]);
    // The single store goes on where that of the list stood, and gets what came meanwhile.
    place.configure("output: {}");
    let agent = place.node.start_agent(&["ship"]);
    wait_for("the log in the store", PATIENCE, || place.numbers("store", "app").len() == 40);
    agent.terminate().expect(0, &[]);
    assert_eq!(place.numbers("store", "app"), (0..40).collect::<Vec<_>>());
    place.ship_until(&single, &[("elasticsearch", 0..40)]);
}

#[test]
fn one_that_is_removed_holds_no_files() {
    let place = Place::new("removed");
    let nobody = format!("{{ elasticsearch: {{ hosts: ['http://127.0.0.1:{}'] }} }}", free_port());
    place.configure(&format!("outputs: [{{ store: {{}} }}, {nobody}]"));
    let agent = place.node.start_agent(&["ship"]);
    place.write(0..10);
    place.expect("store", 0..10);
    assert_eq!(place.files(), 10);
    // Taken in while it runs.
    place.configure("outputs: [{ store: {} }]");
    agent.wait_for_log(&["kumon.yml: loaded"]);
    place.wait_for_files_to_go();
    place.write(10..20);
    place.expect("store", 0..20);
    agent.terminate().expect(0, &[]);
    place.ship_until("", &[("store", 0..20)]);
}

#[test]
fn who_is_meant_is_said_where_there_is_a_choice() {
    let place = Place::new("choice");
    let es = |name: &str| format!("{{ name: {name}, elasticsearch: {{ hosts: ['http://127.0.0.1:1'] }} }}");
    place.configure(&format!("outputs: [{}, {}, {{ store: {{}} }}]", es("near"), es("far")));
    let node = &place.node;
    node.run(&["dead-letters", "list"]).expect(2, &["several outputs", "--output: near, far, store"]);
    node.run(&["dead-letters", "list", "--output", "far"]).expect(1, &["no match"]);
    node.run(&["setup", "--dry-run"]).expect(2, &["--output: near, far\n"]);
    node.run(&["setup", "--output", "store"]).expect(2, &["'store' is none"]);
    node.run(&["query", "exec", "--output", "fr"]).expect(2, &["no output 'fr'", "near, far, store"]);
    node.run(&["query", "exec", "--output", "far"]).expect(1, &["http://127.0.0.1:1"]);
    // Without a name it is the store, which nobody has made yet.
    node.run(&["query", "exec"]).expect(1, &["there is nothing to ask"]);

    place.configure("output: {}\noutputs: [{ store: {} }]");
    node.run(&["ship"]).expect(2, &["outputs: there is 'output' beside it"]);
    place.configure("outputs: [{ store: {} }, { name: other, store: {} }]");
    node.run(&["ship"]).expect(2, &["outputs[1]: there is one embedded store already"]);
}

#[test]
fn a_store_that_cannot_be_opened_keeps_no_other_output_from_shipping() {
    if !require_elasticsearch() {
        return;
    }
    let (place, elasticsearch) = (Place::new("locked"), Elasticsearch::shared());
    let node = &place.node;
    fs::create_dir_all(node.state().join("store")).unwrap();
    let lock = File::create(node.state().join("store/lock")).unwrap();
    lock.lock().unwrap();
    install(&place, elasticsearch);
    place.write(0..10);
    // Where nothing else ships it is an error as before.
    place.configure("outputs: [{ store: {} }]");
    node.run(&["ship"]).expect(1, &["store", "is being written by process"]);

    place.configure(&format!("outputs: [{{ store: {{}} }}, {}]", place.entry("far", elasticsearch)));
    let agent = node.start_agent(&["ship"]);
    place.expect("far", 0..10);
    node.wait_for_status(1, &["store, to the embedded store", "failed: the store", "it is tried again at"]);
    let outputs = &node.status_file("ship")["outputs"];
    assert!(outputs["store"]["failed"]["reason"].is_string() && outputs["far"]["failed"].is_null());
    assert_eq!(place.files(), 10, "what the store lacks stays");

    drop(lock);
    place.expect("store", 0..10);
    place.write(10..20);
    place.expect("store", 0..20);
    place.expect("far", 0..20);
    place.wait_for_files_to_go();
    assert!(node.status_file("ship")["outputs"]["store"]["failed"].is_null());
    agent.terminate().expect(0, &[]);
}

#[test]
fn messages_name_the_output_of_the_list() {
    let place = Place::new("messages");
    let es =
        |host: &str, more: &str| format!("{{ name: far, elasticsearch: {{ hosts: ['{host}']{more} }} }}");
    let list = |output: String| format!("outputs: [{{ store: {{}} }}, {output}]");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    // A mistake in the configuration ends the start also where others could ship.
    place.configure(&list(es(&nobody, ", ca_file: /nowhere/ca.crt")));
    place
        .node
        .run(&["ship"])
        .expect(2, &["outputs[1].elasticsearch.ca_file: reading /nowhere/ca.crt failed"]);
    place.configure(&list(es("es1:9200", "")));
    place.node.run(&["ship"]).expect(2, &["outputs[1].elasticsearch.hosts: 'es1:9200'"]);

    place.configure(&list(es(&nobody, "")));
    let agent = place.node.start_agent(&["ship"]);
    place.write(0..1);
    place.node.wait_for_status(1, &["can't be reached", "is outputs[1].elasticsearch.hosts right?"]);
    agent.terminate().expect(0, &[]);
}
