//! What Filebeat and Logstash make of KuMon's files, beside what the shipper makes of them.

use std::collections::BTreeMap;
use std::fs;

use kumon_schema::{Field, FieldType, Schema};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Value, json};

use super::support::Setup;

/// Texts that processes, users and statements may choose.
const HOSTILE: [&str; 12] = [
    "make all",
    "a,b\"c\"",
    "line one\nline two\r\n2026-11-21T02:00:00.000000Z,three",
    "=cmd|'/C calc'!A0",
    "{{ctx.message}} ${HOME} %{host.name}",
    "<script>alert(1)</script>",
    " leading and trailing \t",
    "\\xff\\x5cx \\n '",
    "ünïcödé \u{202e}\u{1f980}",
    "null",
    "-",
    "\"",
];

/// The values of a row, in every column or in those alone that must have one.
fn values(schema: &Schema, number: usize) -> Vec<(&Field, Option<String>)> {
    let text: Value = serde_json::from_str(&schema.text).unwrap();
    let value = |(column, field): (usize, &Field)| {
        let required = text["fields"][column]["constraints"]["required"] == true;
        if number % 5 == 4 && !required {
            return None;
        }
        Some(match field.value_type() {
            FieldType::Datetime => format!("2026-11-21T02:00:{number:02}.123456Z"),
            FieldType::Integer => ["0", "1", "9223372036854775807", "4096"][(number + column) % 4].into(),
            FieldType::Number => "0.5".into(),
            FieldType::Boolean => number.is_multiple_of(2).to_string(),
            FieldType::String if field.elasticsearch["type"] == "ip" => "2001:db8::1".into(),
            FieldType::String if column < 4 => "node-1".into(),
            FieldType::String | FieldType::List => match number {
                // Longer than what a keyword indexes.
                13 => "x".repeat(9000),
                _ => HOSTILE[(number + column) % HOSTILE.len()].to_owned(),
            },
        })
    };
    schema.fields.iter().enumerate().map(|(column, field)| (field, value((column, field)))).collect()
}

/// A row as the collecting side writes it to a CSV file.
fn row(schema: &Schema, number: usize) -> String {
    let cell = |(_, value): (&Field, Option<String>)| value.map_or(String::new(), |value| quoted(&value));
    values(schema, number).into_iter().map(cell).collect::<Vec<_>>().join(",")
}

/// A row as the collecting side writes it to an NDJSON file.
fn line(schema: &Schema, number: usize) -> String {
    let given = values(schema, number).into_iter().filter_map(|(field, value)| Some((field, value?)));
    let document = given.map(|(field, value)| {
        let is_text = ["keyword", "ip", "date"].contains(&field.elasticsearch["type"].as_str().unwrap());
        let value = if is_text { Value::from(value) } else { serde_json::from_str(&value).unwrap() };
        (field.ecs.clone(), value)
    });
    Value::Object(document.collect()).to_string()
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// What an agent sends of one line of a file.
fn event(line: &str, path: &str, offset: usize) -> Value {
    json!({"_index": "logs-kumon-default", "_source": {
        "@timestamp": "2026-11-21T05:00:00.000Z",
        "message": line,
        "log": {"offset": offset, "file": {"path": path}},
        "agent": {"name": "node-1", "type": "filebeat", "version": "8.19.13"},
        "ecs": {"version": "8.0.0"},
        "host": {"name": "node-1", "os": {"family": "debian"}},
        "input": {"type": "filestream"},
        "tags": ["beats"],
    }})
}

/// The documents that the pipeline makes of the events, by their ids; what it drops is left out.
fn simulate(node: &Elasticsearch, pipeline: &str, events: &[Value]) -> BTreeMap<String, Value> {
    let path = format!("_ingest/pipeline/{pipeline}/_simulate");
    let (status, answer) = node.request("POST", &path, json!({"docs": events}));
    assert_eq!(status, 200, "{answer}");
    let mut documents = BTreeMap::new();
    for outcome in answer["docs"].as_array().unwrap() {
        assert!(outcome["error"].is_null(), "{outcome}");
        if let Some(id) = outcome["doc"]["_id"].as_str() {
            documents.insert(id.to_owned(), outcome["doc"]["_source"].clone());
        }
    }
    documents
}

#[test]
fn the_pipelines_make_the_shippers_documents_of_the_same_files() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    same_documents(&node);
}

/// Ships files of every metric, and has the pipelines make the same documents of them.
pub(super) fn same_documents(node: &Elasticsearch) {
    let setup = Setup::new(node, "");
    assert!(setup.run(&[]).contains("created ingest pipeline logs-kumon.exec@v"));
    let rows = 2 * HOSTILE.len();
    let mut events: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (number, schema) in kumon_schema::all().iter().enumerate() {
        let folder = setup.path("spool").join(&schema.name);
        fs::create_dir_all(&folder).unwrap();
        let csv =
            std::iter::once(schema.header().trim_end().to_owned()).chain((0..rows).map(|n| row(schema, n)));
        let files =
            [("csv", csv.collect::<Vec<_>>()), ("ndjson", (0..rows).map(|n| line(schema, n)).collect())];
        for (place, (format, lines)) in files.into_iter().enumerate() {
            let number = 2 * number + place;
            let path = folder.join(format!("{}-{number:028x}.v{}.{format}", schema.name, schema.version));
            let mut file = String::new();
            for line in lines {
                let event = event(&line, path.to_str().unwrap(), file.len());
                events.entry(&schema.name).or_default().push(event);
                file += &(line + "\n");
            }
            fs::write(path, file).unwrap();
        }
    }
    let shipped = setup.kumon(&["ship", "--duration", "1s"]);
    assert!(shipped.status.success(), "{}", String::from_utf8_lossy(&shipped.stderr));

    for schema in kumon_schema::all() {
        let stream = schema.data_stream("default");
        node.request("POST", &format!("{stream}/_refresh"), Value::Null);
        let (_, found) = node.request("POST", &format!("{stream}/_search"), json!({"size": 1000}));
        let hits = found["hits"]["hits"].as_array().unwrap().iter();
        let shipped: BTreeMap<String, Value> =
            hits.map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())).collect();
        assert_eq!(shipped.len(), 2 * rows, "{stream}");
        let pipeline = format!("{}@v{}", stream.trim_end_matches("-default"), schema.version);
        assert_eq!(simulate(node, &pipeline, &events[schema.name.as_str()]), shipped, "{stream}");
    }
    // A line that is no row is refused, so that the agent tells of it.
    let version = kumon_schema::builtin("exec").unwrap().version;
    let path = format!("_ingest/pipeline/logs-kumon.exec@v{version}/_simulate");
    for line in ["no row of this metric", "{\"process.pid\":7}", "{\"process.pid\":"] {
        let broken = json!({"docs": [event(line, "/a/exec-b.v1.csv", 7)]});
        let (_, answer) = node.request("POST", &path, broken);
        assert!(!answer["docs"][0]["error"].is_null(), "{answer}");
    }
}
