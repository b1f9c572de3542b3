//! A linter for what Kibana imports, and for each of its rules something broken that it must find.
//!
//! Kibana imports a broken dashboard without a word and shows it broken, or refuses the whole file. The rules are what
//! Kibana 8.12 demands of saved objects; the fields come from the schemas.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dashboard;
mod lens;
mod mutations;
mod objects;
mod readable;

use kumon_dashboards::kibana::{ndjson, render};
use kumon_dashboards::{Catalog, builtin};
use serde_json::Value;

/// The file's objects.
fn rendered() -> Vec<Value> {
    let file = ndjson(&render(builtin(), Catalog::builtin()));
    file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What is wrong, each with its object.
fn lint(objects: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    objects::lint(objects, &mut findings);
    for object in objects {
        let mut of_object = Vec::new();
        match object["type"].as_str().unwrap_or_default() {
            "dashboard" => dashboard::lint(object, objects, &mut of_object),
            "search" => objects::lint_search(object, objects, &mut of_object),
            "index-pattern" => readable::data_view(object, objects, &mut |what| of_object.push(what)),
            _ => {}
        }
        let name = format!("{}/{}", object["type"], object["id"]).replace('"', "");
        findings.extend(of_object.into_iter().map(|finding| format!("{name}: {finding}")));
    }
    findings
}

/// Reads an attribute that is JSON within a string.
fn decoded(text: &Value) -> Result<Value, String> {
    let text = text.as_str().ok_or("is not a string of JSON")?;
    serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"))
}

/// The references of an object as (type, id, name).
fn references(object: &Value) -> Vec<[&str; 3]> {
    let references = object["references"].as_array().map(Vec::as_slice).unwrap_or_default();
    references.iter().map(|r| ["type", "id", "name"].map(|key| r[key].as_str().unwrap_or_default())).collect()
}

#[test]
fn the_rendered_objects_have_nothing_to_find() {
    let findings = lint(&rendered());
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn each_mutation_is_found() {
    let unbroken = rendered();
    for (what, mutate, expected) in mutations::ALL {
        let mut objects = unbroken.clone();
        mutate(&mut objects);
        assert!(objects != unbroken, "'{what}' changes nothing");
        let findings = lint(&objects);
        assert!(
            findings.iter().any(|finding| finding.contains(expected)),
            "'{what}' is not found as '{expected}': {findings:#?}"
        );
    }
}
