//! The spool's files as a contract: what stands in them is what the schemas say, for any reader.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Node, PATIENCE, mark, records, rows};
use kumon_schema::Schema;
use kumon_testing::{free_port, require, require_bpf, wait_for};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Names that break careless readers; none longer than the 15 bytes the kernel keeps.
const HOSTILE_NAMES: [&[u8]; 5] =
    [b"a,b\"\n=1+1", b"=cmd|calc!A0", b"\xff\xc3(\\xff", b"\r\n\"\"", b"  tab\t\x1b[2J"];

#[test]
fn every_file_is_valid_to_frictionless_and_hostile_values_come_back_byte_by_byte() {
    let frictionless = Path::new(ROOT).join(".cache/venv/bin/frictionless");
    if !require_bpf() || !require(frictionless.exists(), "frictionless") {
        return;
    }
    let node = Node::new(
        "collectors: { runqslower: { threshold: 1us }, filelife: { enabled: true }, filegone: { enabled: true }, \
         snapshot_process: { enabled: true }, snapshot_socket: { enabled: true } }\n",
    );
    let agent = node.start_agent(&["collect"]);
    let arguments: [&[u8]; 5] = [b"=1+1", b"two\nlines", b"\xfe\xff", b"\"quoted\",", b"\xe2\x82\xac"];
    let arguments = arguments.map(OsStr::from_bytes);
    for name in HOSTILE_NAMES {
        mark(&node.path(""), OsStr::from_bytes(name), &arguments);
    }
    use_the_network();
    use_the_disk(&node.path("written"));
    agent.terminate().expect(0, &[]);

    for schema in kumon_schema::all() {
        let files = node.files(&schema.name);
        // They take a database server, a container or service, and CAP_NET_ADMIN, which their collectors' own tests have.
        let of = schema.coarse_of.as_deref().unwrap_or(&schema.name);
        let is_optional = ["dbslower", "container", "flow"].contains(&of);
        assert!(!files.is_empty() || is_optional, "{} wrote no file", schema.name);
        for file in files {
            assert!(fs::read(&file).unwrap().starts_with(schema.header().as_bytes()), "{}", file.display());
            assert_valid(&frictionless, &file, &schema.name);
        }
    }

    let executions = rows(&node.files("exec"));
    for name in HOSTILE_NAMES {
        let row = executions.iter().find(|row| kumon_schema::unescape(&row["name"]) == name);
        let row = row.unwrap_or_else(|| panic!("no row of {:?}", OsStr::from_bytes(name)));
        let expected = [&[OsStr::from_bytes(name)], &arguments[..]].concat().join(OsStr::new(" "));
        assert_eq!(OsStr::from_bytes(&kumon_schema::unescape(&row["command_line"])), expected);
    }
}

/// Checks a file as anybody would who found it beside its sidecar.
fn assert_valid(frictionless: &Path, file: &Path, metric: &str) {
    let folder = file.parent().unwrap();
    let sidecar = files_named(folder, "schema-v");
    let source = &kumon_schema::builtin(metric).unwrap().text;
    assert_eq!(
        &fs::read_to_string(folder.join(&sidecar)).unwrap(),
        source,
        "{metric}'s sidecar is not its schema"
    );

    let mut validate = Command::new(frictionless);
    validate.current_dir(folder).args(["validate", "--json", "--encoding", "utf-8", "--schema", &sidecar]);
    let output = validate.arg(file.file_name().unwrap()).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && report["valid"] == true, "{}: {report:#}", file.display());
    assert_eq!(report["tasks"][0]["stats"]["rows"], records(file).len() - 1, "{}", file.display());
}

fn files_named(folder: &Path, start: &str) -> String {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().find(|name| name.starts_with(start)).unwrap()
}

/// One TCP session from end to end, and a connect that is refused.
fn use_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", free_port())).is_err());
    client.write_all(b"hello").unwrap();
    drop((listener.accept().unwrap(), client));
}

/// Bytes that reach the disk now, in a file that is deleted after.
fn use_the_disk(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(&[0; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    fs::remove_file(path).unwrap();
}

/// A column must be added in one place: its schema, beside the collector that fills the generated row.
#[test]
fn no_source_outside_the_schemas_knows_a_metrics_columns() {
    let mut offenders = Vec::new();
    for folder in ["bpf/src", "spool/src", "query/src", "shipper/src", "store/src", "kumon/src"] {
        for path in sources(&Path::new(ROOT).join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
            for schema in kumon_schema::all() {
                let named = |name: &str| code.contains(&format!("\"{name}\""));
                let known =
                    schema.fields.iter().filter(|field| named(&field.name) || named(&field.ecs)).count();
                // A few names are every program's words (name, pid); half of the columns are a list.
                if known * 2 >= schema.fields.len() || code.contains(schema.header().trim_end()) {
                    offenders.push(format!("{}: {known} columns of {}", path.display(), schema.name));
                }
            }
        }
    }
    assert!(offenders.is_empty(), "{offenders:#?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = common::files(folder, "rs");
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(sources(&entry.path()));
        }
    }
    found
}

/// Another release's columns: fewer, renamed, in another order, and one that today's schema doesn't have.
const OLD_SCHEMA: &str = r#"{"name":"exec","version":0,"kind":"event","fields":[
  {"name":"cmd","type":"string","ecs":"process.command_line"},
  {"name":"when","type":"datetime","ecs":"@timestamp"},
  {"name":"comm","type":"string","ecs":"process.name"},
  {"name":"number","type":"integer","ecs":"process.pid"},
  {"name":"moon","type":"string","ecs":"kumon.exec.moon"}]}"#;

#[test]
fn files_of_another_schema_version_ship_after_an_upgrade() {
    let node = Node::new("");
    let folder = node.spool().join("exec");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("schema-v0.json"), OLD_SCHEMA).unwrap();
    let file = folder.join("exec-0123456789abcdef0123456789ab.v0.csv");
    fs::write(&file, "cmd,when,comm,number,moon\n\"ls -l, really\",2026-11-20T10:00:00Z,ls,42,full\n")
        .unwrap();

    node.run(&["ship", "--duration", "1s"]).expect(0, &[]);
    let rows = node.rows("exec", "process.name:ls AND process.pid:42");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["process.command_line"], "ls -l, really");
    assert_eq!(rows[0]["@timestamp"], "2026-11-20T10:00:00Z");
    assert_eq!(rows[0]["kumon.exec.moon"], "full");
    wait_for("the delivered file to go", PATIENCE, || !file.exists());
}

#[test]
fn a_file_whose_schema_is_missing_waits_and_is_named() {
    let node = Node::new("");
    let folder = node.spool().join("exec");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("exec-0123456789abcdef0123456789ab.v99.csv");
    fs::write(&file, "name,pid\nls,42\n").unwrap();

    let agent = node.start_agent(&["ship"]);
    let reported = || node.run(&["status"]);
    wait_for("the status to name the file", PATIENCE, || reported().stdout.contains("exec-0123456789abcdef"));
    let status = reported();
    assert!(status.code == Some(1) && status.stdout.contains("schema-v99.json"), "{status:?}");
    agent.terminate().expect(0, &["schema-v99.json"]);
    assert!(file.exists());
}

#[test]
fn the_shipping_side_never_sheds_what_it_would_not_count() {
    let node = Node::new("spool: { max_bytes: 1 }\n");
    let folder = node.spool().join("exec");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("exec-0123456789abcdef0123456789ab.v99.csv");
    fs::write(&file, "name,pid\nls,42\n").unwrap();

    node.start_agent(&["ship"]).terminate().expect(0, &[]);
    assert!(file.exists());
}

#[test]
fn ndjson_files_hold_the_documents_and_ship_after_a_change_of_the_format() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("spool: { format: { default: ndjson, exit: csv } }\n");
    let agent = node.start_agent(&["collect"]);
    for name in HOSTILE_NAMES {
        mark(&node.path(""), OsStr::from_bytes(name), &[]);
    }
    agent.terminate().expect(0, &[]);
    assert!(!node.files("exit").is_empty(), "exit's rows stand in CSV");
    assert_eq!(node.files("exec"), [] as [PathBuf; 0]);
    let mut executions = Vec::new();
    for schema in kumon_schema::all() {
        for file in common::files(&node.spool().join(&schema.name), "ndjson") {
            for line in fs::read_to_string(&file).unwrap().lines() {
                let document: Value = serde_json::from_str(line).unwrap();
                assert_fits(schema, &document);
                executions.extend((schema.name == "exec").then_some(document));
            }
        }
    }
    for name in HOSTILE_NAMES {
        let has_name =
            |it: &&Value| it["process.name"].as_str().map(kumon_schema::unescape) == Some(name.into());
        assert_eq!(executions.iter().filter(has_name).count(), 1, "{:?}", OsStr::from_bytes(name));
    }

    node.configure("spool: { format: csv }\n");
    let agent = node.start_agent(&["run"]);
    mark(&node.path(""), OsStr::new("afterwards"), &[]);
    wait_for("the rows of both formats", PATIENCE, || {
        !node.rows("exec", "process.name:afterwards").is_empty()
    });
    agent.terminate().expect(0, &[]);
    for document in &executions {
        let id = document["process.entity_id"].as_str().unwrap();
        let time = document["@timestamp"].as_str().unwrap();
        let stored = node.rows("exec", &format!("process.entity_id:\"{id}\" AND @timestamp:\"{time}\""));
        assert_eq!(stored, std::slice::from_ref(document));
    }
    wait_for("the delivered files to go", PATIENCE, || {
        common::files(&node.spool().join("exec"), "ndjson").is_empty()
    });
}

/// The document has the schema's fields, of their types, and all that every row must have.
fn assert_fits(schema: &Schema, document: &Value) {
    let text: Value = serde_json::from_str(&schema.text).unwrap();
    let given = document.as_object().unwrap();
    for (field, said) in schema.fields.iter().zip(text["fields"].as_array().unwrap()) {
        let value = &document[&field.ecs];
        let fits = match field.elasticsearch["type"].as_str().unwrap() {
            _ if value.is_null() => said["constraints"]["required"] != true,
            "long" => value.is_i64(),
            "double" => value.is_f64(),
            "boolean" => value.is_boolean(),
            _ => value.as_str().is_some_and(|text| !text.is_empty()),
        };
        assert!(fits, "{}: {value} in {document}", field.ecs);
    }
    let unknown = given.keys().find(|name| !schema.fields.iter().any(|field| field.ecs == **name));
    assert_eq!(unknown, None, "{document}");
}
