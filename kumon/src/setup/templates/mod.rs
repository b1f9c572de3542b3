//! What Elasticsearch has to know of a data stream before rows arrive: its mapping and its settings.

mod rollover;

use anyhow::Result;
use serde_json::{Value, json};

use super::object::{Kind, Object, fingerprint};
use super::stream::{Stream, streams};
use crate::config::Config;
pub(super) use rollover::roll_over;

/// Above the priority of Elastic's own templates for `logs-*-*` and `metrics-*-*` (100) and of its integrations (200).
const PRIORITY: u32 = 500;
/// Settings of all data streams.
const SETTINGS: &str = "kumon@settings";
/// The operator's own settings and mappings, over KuMon's; setup never writes it.
const CUSTOM: &str = "kumon@custom";

/// Component templates before the index templates that refer to them.
pub(super) fn objects(config: &Config) -> Result<Vec<Object>> {
    let settings = serde_json::from_str(include_str!("../../../../elk/templates/settings.json"))?;
    let mut objects = vec![Object::new(Kind::Component, SETTINGS.into(), settings)];
    for stream in streams(config)? {
        objects.push(component(&stream)?);
        objects.push(index_template(&stream));
    }
    Ok(objects)
}

fn component(stream: &Stream) -> Result<Object> {
    let mut mappings = mappings(stream)?;
    // In every index it tells by which mapping the index was made, see `rollover`.
    mappings["_meta"] = json!({"kumon": {
        "schema_version": stream.schema.as_ref().map(|schema| schema.version),
        "fingerprint": fingerprint(&mappings),
    }});
    let mut template = json!({"mappings": mappings});
    if stream.foreign.is_some() {
        template["settings"] = inputs()?["settings"].take();
    }
    Ok(Object::new(Kind::Component, component_name(&stream.name), json!({"template": template})))
}

fn component_name(stream: &str) -> String {
    format!("{stream}@mappings")
}

fn mappings(stream: &Stream) -> Result<Value> {
    if stream.foreign.is_none()
        && let Some(schema) = &stream.schema
    {
        // What no schema knows is kept in the row, but not made a field by guessing.
        return Ok(json!({"dynamic": false, "properties": schema.mapping()}));
    }
    let mut mappings = inputs()?["mappings"].take();
    if let Some(schema) = &stream.schema {
        mappings["dynamic"] = false.into();
        for (field, mapping) in schema.mapping().as_object().into_iter().flatten() {
            mappings["properties"][field] = mapping.clone();
        }
    }
    Ok(mappings)
}

/// What the streams of all inputs have in common.
fn inputs() -> Result<Value> {
    let mut file: Value = serde_json::from_str(include_str!("../../../../elk/templates/inputs.json"))?;
    Ok(file["template"].take())
}

fn index_template(stream: &Stream) -> Object {
    let body = json!({
        "index_patterns": [format!("{}-*", stream.name)],
        "data_stream": {},
        "priority": PRIORITY,
        "composed_of": [SETTINGS, component_name(&stream.name), CUSTOM],
        "ignore_missing_component_templates": [CUSTOM],
        "template": {"settings": {"index.lifecycle.name": stream.dataset}},
    });
    Object::new(Kind::Template, stream.name.clone(), body)
}
