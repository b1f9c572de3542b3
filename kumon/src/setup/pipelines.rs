//! For those who ship with Filebeat or Logstash: ingest pipelines that make the shipper's documents of the same files.

use anyhow::Result;
use kumon_schema::{Field, FieldType, Schema};
use serde_json::{Value, json};

use super::object::{Kind, Object};
use super::stream::streams;
use crate::config::Config;

/// Whether a line is one of an NDJSON file: a CSV row begins with its time.
const IS_DOCUMENT: &str = "ctx.message.startsWith('{')";
const SCRIPT: &str = include_str!("../../../elk/pipelines/row.painless");

/// A pipeline for each metric. Foreign files are not of KuMon's making, nor are their pipelines.
pub(super) fn objects(config: &Config) -> Result<Vec<Object>> {
    let own = streams(config)?.into_iter().filter(|stream| stream.foreign.is_none());
    let pipeline = |name: String, schema: &Schema| {
        // The files' names carry the version too: an older file goes through the pipeline it was made for.
        Object::new(Kind::Pipeline, format!("{name}@v{}", schema.version), pipeline(schema))
    };
    Ok(own.filter_map(|stream| Some(pipeline(stream.name, &stream.schema?))).collect())
}

fn pipeline(schema: &Schema) -> Value {
    // Columns' names need no escape in Painless.
    let header = schema.header().trim_end().to_owned();
    // Flat names under one object of their own: the csv processor takes a dot for an object's.
    let targets: Vec<String> =
        schema.fields.iter().map(|field| format!("kumon_row.{}", field.name)).collect();
    // What a row must have is of interest to whoever makes rows; here it tells a row from another text.
    let text: Value = serde_json::from_str(&schema.text).unwrap_or_default();
    let is_required = |index: usize| text["fields"][index]["constraints"]["required"] == true;
    let fields = schema.fields.iter().enumerate();
    let columns: Vec<Value> = fields.map(|(index, field)| column(field, is_required(index))).collect();
    json!({
        "description": format!("{}: the rows of KuMon's files, from Filebeat or Logstash", schema.title),
        "processors": [
            {"drop": {"if": format!("ctx.message == '' || ctx.message == '{header}'")}},
            {"json": {"if": IS_DOCUMENT, "field": "message", "target_field": "kumon_document"}},
            {"csv": {"if": format!("!({IS_DOCUMENT})"), "field": "message", "target_fields": targets, "trim": false}},
            {"script": {"lang": "painless", "source": SCRIPT, "params": {"columns": columns}}},
        ],
    })
}

/// How the shipper reads the column, see its decoder.
fn column(field: &Field, required: bool) -> Value {
    let is_keyword = field.elasticsearch["type"] == "keyword";
    let r#type = match field.value_type() {
        FieldType::Integer if is_keyword => "text",
        FieldType::Integer => "integer",
        FieldType::Number => "number",
        FieldType::Boolean => "boolean",
        FieldType::String | FieldType::Datetime | FieldType::List => "text",
    };
    json!({"name": field.name, "field": field.ecs, "type": r#type, "required": required})
}
