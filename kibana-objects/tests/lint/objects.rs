//! Rules for every object, data views and searches.

use std::collections::{HashMap, HashSet};

use kumon_schema::Schema;
use serde_json::Value;

use crate::{decoded, readable, references};

const KEYS: &[&str] =
    &["type", "id", "attributes", "references", "coreMigrationVersion", "typeMigrationVersion", "managed"];

/// Attributes that each type must have, and may have; Kibana answers 400 to others.
const ATTRIBUTES: &[(&str, &[&str], &[&str])] = &[
    ("tag", &["name", "description", "color"], &[]),
    (
        "index-pattern",
        &["title", "timeFieldName"],
        &[
            "name",
            "fields",
            "fieldAttrs",
            "fieldFormatMap",
            "runtimeFieldMap",
            "sourceFilters",
            "typeMeta",
            "allowNoIndex",
        ],
    ),
    (
        "search",
        &["title", "columns", "sort", "kibanaSavedObjectMeta"],
        &["description", "grid", "hideChart", "isTextBasedQuery", "timeRestore", "rowHeight", "rowsPerPage"],
    ),
    (
        "dashboard",
        &["title", "description", "panelsJSON", "optionsJSON", "kibanaSavedObjectMeta", "timeRestore"],
        &["timeFrom", "timeTo", "refreshInterval", "controlGroupInput", "version"],
    ),
];

pub(crate) fn lint(objects: &[Value], findings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    let known: HashSet<(&str, &str)> = objects.iter().map(identity).collect();
    for object in objects {
        let (r#type, id) = identity(object);
        let mut find = |what: String| findings.push(format!("{type}/{id}: {what}"));
        if !seen.insert((r#type, id)) {
            find("the id stands twice".into());
        }
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.len() < 3 || !id.chars().all(kebab) || id.starts_with('-') {
            find("the id is not in lower-case words joined by hyphens".into());
        }
        for key in object.as_object().unwrap().keys().filter(|key| !KEYS.contains(&key.as_str())) {
            find(format!("unknown key {key}"));
        }
        lint_stamps(object, r#type, &mut find);
        lint_attributes(object, r#type, &mut find);
        for [r#type, id, name] in references(object) {
            if !known.contains(&(r#type, id)) {
                find(format!("the reference {name} leads to nothing: {type}/{id}"));
            }
        }
        lint_reference_names(object, &mut find);
    }
}

fn identity(object: &Value) -> (&str, &str) {
    (object["type"].as_str().unwrap_or_default(), object["id"].as_str().unwrap_or_default())
}

/// A newer stamp than Kibana's own is refused with the whole file; none at all is an internal error.
fn lint_stamps(object: &Value, r#type: &str, find: &mut impl FnMut(String)) {
    let expected = if r#type == "dashboard" { "8.9.0" } else { "8.0.0" };
    if object["coreMigrationVersion"] != "8.8.0" {
        find(format!("coreMigrationVersion is {}, not 8.8.0", object["coreMigrationVersion"]));
    }
    if object["typeMigrationVersion"] != expected {
        find(format!("typeMigrationVersion is {}, not {expected}", object["typeMigrationVersion"]));
    }
}

fn lint_attributes(object: &Value, r#type: &str, find: &mut impl FnMut(String)) {
    let Some((_, must, may)) = ATTRIBUTES.iter().find(|(name, ..)| *name == r#type) else {
        return find("an unknown type".into());
    };
    let attributes = object["attributes"].as_object().unwrap();
    for missing in must.iter().filter(|key| !attributes.contains_key(**key)) {
        find(format!("the attribute {missing} is missing"));
    }
    for key in attributes.keys().filter(|key| !must.contains(&key.as_str()) && !may.contains(&key.as_str())) {
        find(format!("unknown attribute {key}"));
    }
    if let Some(meta) = attributes.get("kibanaSavedObjectMeta") {
        match decoded(&meta["searchSourceJSON"]) {
            Err(e) => find(format!("searchSourceJSON {e}")),
            Ok(source) if !source["index"].is_null() => find("the search source names its data view".into()),
            Ok(source) => readable::query_bar(&source["query"], find),
        }
    }
    for key in ["fieldFormatMap", "runtimeFieldMap", "fieldAttrs", "fields", "sourceFilters", "typeMeta"] {
        if let Some(Err(e)) = attributes.get(key).map(decoded) {
            find(format!("{key} {e}"));
        }
    }
    let color = attributes.get("color").and_then(Value::as_str);
    if color.is_some_and(|color| color.len() != 7 || !color[1..].chars().all(|c| c.is_ascii_hexdigit())) {
        find("the colour is not #RRGGBB".into());
    }
}

fn lint_reference_names(object: &Value, find: &mut impl FnMut(String)) {
    let mut names = HashSet::new();
    for [r#type, id, name] in references(object) {
        if !names.insert(name) {
            find(format!("the reference name {name} stands twice"));
        }
        if r#type == "tag" && name != format!("tag-ref-{id}") {
            find(format!("the reference to a tag is named {name}, not tag-ref-{id}"));
        }
    }
}

pub(crate) fn lint_search(search: &Value, objects: &[Value], findings: &mut Vec<String>) {
    let source =
        decoded(&search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"]).unwrap_or_default();
    let name = source["indexRefName"].as_str().unwrap_or_default();
    let Some([_, data_view, _]) = references(search).into_iter().find(|[_, _, known]| *known == name) else {
        return findings.push("the search has no data view".into());
    };
    let Some(fields) = fields(data_view, objects) else { return };
    for column in search["attributes"]["columns"].as_array().into_iter().flatten() {
        if !fields.contains(column.as_str().unwrap()) {
            findings.push(format!("the column {column} is no field of {data_view}"));
        }
    }
    if search["attributes"]["sort"] != serde_json::json!([["@timestamp", "desc"]]) {
        findings.push("the newest rows don't come first".into());
    }
    readable::search(search, &mut |what| findings.push(what));
}

/// Whether a data view shows summaries.
pub(crate) fn is_of_summaries(data_view: &str, objects: &[Value]) -> bool {
    let view = objects.iter().find(|object| identity(object) == ("index-pattern", data_view));
    view.and_then(|view| view["attributes"]["title"].as_str())
        .is_some_and(|title| title.starts_with("metrics-"))
}

/// The fields that a data view shows, by the schemas of the data streams that its pattern matches.
pub(crate) fn fields(data_view: &str, objects: &[Value]) -> Option<HashSet<String>> {
    let fields = schemas(data_view, objects)?.into_iter().flat_map(|schema| &schema.fields);
    Some(fields.map(|field| field.ecs.clone()).collect())
}

/// The data streams that a data view's pattern matches.
pub(crate) fn streams(data_view: &str, objects: &[Value]) -> Vec<String> {
    let schemas = schemas(data_view, objects).unwrap_or_default();
    schemas.into_iter().map(|schema| schema.data_stream("default")).collect()
}

fn schemas(data_view: &str, objects: &[Value]) -> Option<Vec<&'static Schema>> {
    let view = objects.iter().find(|object| identity(object) == ("index-pattern", data_view))?;
    let patterns: Vec<&str> = view["attributes"]["title"].as_str()?.split(',').collect();
    let matches = |stream: &str| {
        let fits = |pattern: &&str| stream.starts_with(pattern.trim_end_matches('*'));
        patterns.iter().any(fits)
    };
    Some(kumon_schema::all().iter().filter(|schema| matches(&schema.data_stream("default"))).collect())
}

/// The type of a field in Elasticsearch.
pub(crate) fn field_types() -> HashMap<String, String> {
    let fields = kumon_schema::all().iter().flat_map(|schema| &schema.fields);
    fields
        .map(|field| (field.ecs.clone(), field.elasticsearch["type"].as_str().unwrap().to_owned()))
        .collect()
}
