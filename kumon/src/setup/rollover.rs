//! New fields reach a data stream with its next index only.

use std::io::Write;

use anyhow::{Context, Result};
use kumon_shipper::elasticsearch::{Client, Method};
use serde_json::Value;

use super::objects::Object;

/// Begins a new index in each data stream of a template whose index was made by another mapping than the template's.
pub(super) fn roll_over(
    client: &Client,
    template: &Object,
    objects: &[Object],
    out: &mut impl Write,
) -> Result<()> {
    let mapping = format!("{}@mappings", template.name);
    let Some(wanted) = objects.iter().find(|object| object.name == mapping).and_then(Object::mappings) else {
        return Ok(());
    };
    let answer = client.request(Method::Get, &format!("_resolve/index/{}-*", template.name), None)?;
    let resolved = client.ok(answer)?.json();
    for stream in resolved["data_streams"].as_array().into_iter().flatten() {
        let (Some(name), Some(index)) = (stream["name"].as_str(), write_index(stream)) else { continue };
        let answer = client.request(Method::Get, &format!("{index}/_mapping"), None)?;
        let installed = client.ok(answer)?.json();
        if installed[index]["mappings"]["_meta"]["kumon"] == wanted["_meta"]["kumon"] {
            continue;
        }
        let answer = client.request(Method::Post, &format!("{name}/_rollover"), None)?;
        client.ok(answer).with_context(|| format!("the data stream '{name}' was not rolled over"))?;
        writeln!(out, "rolled over {name}: its mapping changed; rows written before keep the old one")?;
    }
    Ok(())
}

fn write_index(stream: &Value) -> Option<&str> {
    stream["backing_indices"].as_array()?.last()?.as_str()
}
