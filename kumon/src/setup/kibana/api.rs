//! Rules and connectors, which have an API of their own: their secrets keep them out of exports.

use serde_json::{Map, Value, json};

use super::super::object::{Kind, Object};
use super::super::place::Refused;
use super::client::Kibana;

/// What people can change. All else that an answer has changes by itself.
const CONTENT: [&str; 9] = [
    "name",
    "rule_type_id",
    "consumer",
    "enabled",
    "tags",
    "schedule",
    "params",
    "actions",
    "connector_type_id",
];

/// What only a new one is given.
const FIXED: [&str; 4] = ["rule_type_id", "consumer", "enabled", "connector_type_id"];

/// What is there under the object's name, if anything.
pub(super) fn read(kibana: &Kibana, object: &Object) -> Result<Option<Value>, Refused> {
    let answer = kibana.get(&object.path)?;
    if answer.status == 404 {
        return Ok(None);
    }
    let mut content: Map<String, Value> =
        serde_json::from_str(&kibana.accepted(answer)?.text).unwrap_or_default();
    content.retain(|key, _| {
        CONTENT.contains(&key.as_str()) || object.kind == Kind::Connector && key == "config"
    });
    Ok(Some(content.into()))
}

/// Creates it, or changes what is there.
pub(super) fn write(kibana: &Kibana, object: &Object) -> Result<(), Refused> {
    let Some(installed) = read(kibana, object)? else { return create(kibana, object) };
    let (wanted, type_key) = (&object.body, type_key(object.kind));
    if installed[type_key] != wanted[type_key] {
        // The type is for good.
        kibana.accepted(kibana.delete(&object.path)?)?;
        return create(kibana, object);
    }
    let mut changed = wanted.clone();
    if let Some(changed) = changed.as_object_mut() {
        changed.retain(|key, _| !FIXED.contains(&key.as_str()));
    }
    kibana.accepted(kibana.put(&object.path, &changed)?)?;
    if installed["enabled"] == wanted["enabled"] {
        return Ok(());
    }
    let switch = if wanted["enabled"] == true { "_enable" } else { "_disable" };
    kibana.accepted(kibana.post(&format!("{}/{switch}", object.path), &json!({}))?).map(drop)
}

fn create(kibana: &Kibana, object: &Object) -> Result<(), Refused> {
    kibana.accepted(kibana.post(&object.path, &object.body)?).map(drop)
}

fn type_key(kind: Kind) -> &'static str {
    if kind == Kind::Rule { "rule_type_id" } else { "connector_type_id" }
}
