//! New fields reach a data stream with its next index only.

use std::io::Write;

use anyhow::{Context, Result};
use kumon_shipper::elasticsearch::{Client, Method};
use serde_json::Value;

use super::super::install::Outcome;
use super::super::object::{Kind, Object};
use super::component_name;

/// Begins a new index in each data stream whose index was made by another mapping than the template's, where the
/// template's is KuMon's own: what somebody changed there is theirs to roll over.
pub(in crate::setup) fn roll_over(
    client: &Client,
    outcomes: &[(&Object, Outcome)],
    out: &mut impl Write,
) -> Result<()> {
    let is_own = |outcome: &Outcome| matches!(outcome, Outcome::Created | Outcome::Changed | Outcome::Kept);
    let own: Vec<&Object> = outcomes.iter().filter(|(_, o)| is_own(o)).map(|(object, _)| *object).collect();
    for template in own.iter().filter(|object| object.kind == Kind::Template) {
        let component = component_name(&template.name);
        if let Some(component) = own.iter().find(|object| object.name == component) {
            roll_over_streams(client, &template.name, &component.body["template"]["mappings"], out)?;
        }
    }
    Ok(())
}

fn roll_over_streams(client: &Client, template: &str, wanted: &Value, out: &mut impl Write) -> Result<()> {
    let answer = client.request(Method::GET, &format!("_resolve/index/{template}-*"), None)?;
    let resolved = client.ok(answer)?.json();
    for stream in resolved["data_streams"].as_array().into_iter().flatten() {
        let (Some(name), Some(index)) = (stream["name"].as_str(), write_index(stream)) else { continue };
        let answer = client.request(Method::GET, &format!("{index}/_mapping"), None)?;
        let installed = client.ok(answer)?.json();
        if installed[index]["mappings"]["_meta"]["kumon"] == wanted["_meta"]["kumon"] {
            continue;
        }
        let answer = client.request(Method::POST, &format!("{name}/_rollover"), None)?;
        client.ok(answer).with_context(|| format!("the data stream '{name}' was not rolled over"))?;
        writeln!(out, "rolled over {name}: its mapping changed; rows written before keep the old one")?;
    }
    Ok(())
}

fn write_index(stream: &Value) -> Option<&str> {
    stream["backing_indices"].as_array()?.last()?.as_str()
}
