//! `kumon/kumon.yml`, the configuration that is shipped.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs};

use serde_json::Value;

use super::Config;
use super::file::parse;

/// What stands before the collectors' own keys; they end at the next empty line.
const COLLECTORS: &str = "  # Made from the settings.yml of each collector:\n";

fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn committed() -> String {
    fs::read_to_string(repository().join("kumon/kumon.yml")).unwrap()
}

/// The file with what the collectors of all crates have beside their code.
static SHIPPED: LazyLock<String> = LazyLock::new(|| {
    let committed = committed();
    let (before, rest) = committed.split_once(COLLECTORS).unwrap();
    let (_, behind) = rest.split_once("\n\n").unwrap();
    let files = glob::glob(repository().join("*/src/*/settings.yml").to_str().unwrap()).unwrap();
    let texts: Vec<String> = files.map(|file| fs::read_to_string(file.unwrap()).unwrap()).collect();
    let lines: Vec<String> =
        texts.iter().flat_map(|text| text.lines()).map(|line| format!("  {line}\n")).collect();
    let made = format!("{before}{COLLECTORS}{}\n{behind}", lines.concat());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(repository().join("kumon/kumon.yml"), &made).unwrap();
    }
    made
});

#[test]
fn the_shipped_file_has_what_stands_beside_the_collectors() {
    let is_fresh = *SHIPPED == committed();
    assert!(is_fresh, "kumon/kumon.yml is stale: run UPDATE_DOCS=1 cargo test --workspace --lib --bins");
}

#[test]
fn the_shipped_file_holds_the_defaults() {
    assert_eq!(parse(&SHIPPED).unwrap(), Config::default());
    // Every key of it that is commented out is valid too.
    let keys: Vec<&str> = SHIPPED.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect();
    let all = parse(&keys.join("\n")).unwrap();
    let (output, outputs) = (all.output.as_ref().unwrap(), all.outputs.as_ref().unwrap());
    assert!(output.elasticsearch.is_some() && outputs.len() == 2 && all.inputs.len() == 2, "{all:?}");
}

/// The names that serde expects beside one that nobody knows.
fn expected_keys(mut tree: Value, pointer: &str) -> Vec<String> {
    let object = tree.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
    object.insert("?".into(), Value::Null);
    let error = serde_json::from_value::<Config>(tree).unwrap_err().to_string();
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// Where the tree's objects are, as JSON pointers.
fn objects(tree: &Value, pointer: String, found: &mut Vec<String>) {
    match tree {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| objects(value, format!("{pointer}/{key}"), found));
            found.push(pointer);
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(number, value)| objects(value, format!("{pointer}/{number}"), found));
        }
        _ => {}
    }
}

#[test]
fn the_shipped_file_names_every_key() {
    let text = SHIPPED.replace("#: ", "");
    let tree: Value = serde_saphyr::from_str(&text).unwrap();
    let mut pointers = Vec::new();
    objects(&tree, String::new(), &mut pointers);
    assert!(pointers.len() > 12, "{pointers:?}");
    // Their keys are names that the user gives; the store's output has none.
    pointers
        .retain(|pointer| !["/alerts/override", "/channels", "/outputs/1/store"].contains(&pointer.as_str()));
    for pointer in pointers {
        let expected = expected_keys(tree.clone(), &pointer);
        assert!(!expected.is_empty(), "{pointer}");
        for key in expected {
            assert!(text.contains(&format!("{key}:")), "kumon.yml doesn't name {pointer}/{key}");
            let optional =
                ["/inputs", "/output/elasticsearch", "/outputs/", "/kibana", "/alerts/", "/channels/"]
                    .iter()
                    .any(|of| pointer.starts_with(of));
            let present = tree.pointer(&format!("{pointer}/{key}")).is_some();
            assert!(present || optional, "kumon.yml has no {pointer}/{key}");
        }
    }
}
