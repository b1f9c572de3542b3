//! Who may do what: roles with no more than shipping, looking and setting up need.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::object::{Kind, Object};
use super::records::{self, Records};
use super::stream::streams;
use crate::config::Config;

/// In the files under `elk/roles/`: the data streams that KuMon writes to with this configuration.
const STREAMS: &str = "STREAMS";
/// In the same files: Kibana's space that the dashboards are put into.
const SPACE: &str = "SPACE";
/// KuMon's own data streams, in any namespace: nodes of one cluster may have different ones.
const OWN: [&str; 2] = ["logs-kumon.*-*", "metrics-kumon.*-*"];

/// The roles.
pub(super) fn objects(config: &Config) -> Result<Vec<Object>> {
    let roles = [
        ("kumon_shipper", SHIPPER),
        ("kumon_reader", include_str!("../../../elk/roles/reader.json")),
        ("kumon_admin", include_str!("../../../elk/roles/admin.json")),
    ];
    roles
        .into_iter()
        .map(|(name, text)| Ok(Object::new(Kind::Role, name.into(), role(config, text)?)))
        .collect()
}

const SHIPPER: &str = include_str!("../../../elk/roles/shipper.json");

/// What an agent that ships may do: the body of its role.
pub(super) fn shipper(config: &Config) -> Result<Value> {
    role(config, SHIPPER)
}

/// Adds what setup gave these roles on other nodes: the streams of their inputs, and their spaces. One cluster has one
/// role for all of them.
pub(super) fn add_others(objects: &mut [Object], records: &Records) -> Result<()> {
    let mut recorded = records.of(objects)?;
    for object in objects {
        if let Some(theirs) = recorded.remove(&records::id(object)).and_then(|record| record.installed) {
            for (list, key) in [("indices", "names"), ("applications", "resources")] {
                if let Some(ours) = object.body.get_mut(list) {
                    add(ours, &theirs[list], key);
                }
            }
        }
    }
    Ok(())
}

/// Adds the values of the list `key` of each object in `theirs` to the same one's in `ours`.
fn add(ours: &mut Value, theirs: &Value, key: &str) {
    let (Some(ours), Some(theirs)) = (ours.as_array_mut(), theirs.as_array()) else { return };
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        let (Some(known), Some(more)) = (ours[key].as_array_mut(), theirs[key].as_array()) else { continue };
        let more = more.iter().filter(|value| !known.contains(value)).cloned().collect::<Vec<_>>();
        known.extend(more);
        // In one order, whoever was first.
        known.sort_by_cached_key(|value| (OWN.iter().all(|own| value != own), value.to_string()));
    }
}

fn role(config: &Config, text: &str) -> Result<Value> {
    let mut role: Value = serde_json::from_str(text)?;
    let patterns = patterns(config)?;
    for indices in role["indices"].as_array_mut().context("a role without indices")? {
        let names = &mut indices["names"];
        if names[0] == STREAMS {
            *names = patterns.clone();
        }
    }
    let space = config.kibana.as_ref().and_then(|kibana| kibana.space.as_deref()).unwrap_or("default");
    // Not each role has any.
    let applications = role.get_mut("applications").and_then(Value::as_array_mut);
    for application in applications.into_iter().flatten() {
        if application["resources"][0] == SPACE {
            application["resources"][0] = format!("space:{space}").into();
        }
    }
    Ok(role)
}

fn patterns(config: &Config) -> Result<Value> {
    let foreign = streams(config)?.into_iter().filter(|stream| stream.foreign.is_some());
    let foreign: BTreeSet<String> = foreign.map(|stream| format!("{}-*", stream.name)).collect();
    Ok(OWN.map(str::to_owned).into_iter().chain(foreign).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::add;

    #[test]
    fn what_other_nodes_need_is_added_in_one_order() {
        let role = |inputs: &[&str]| {
            let names = [&["logs-kumon.*-*", "metrics-kumon.*-*"], inputs].concat();
            json!([{"names": names}, {"names": ["kumon-setup"]}])
        };
        let (mut first, mut second) = (role(&["logs-b-*"]), role(&["logs-a-*"]));
        add(&mut second, &first.clone(), "names");
        assert_eq!(second, role(&["logs-a-*", "logs-b-*"]));
        add(&mut first, &second, "names");
        assert_eq!(first, second);
        add(&mut first, &json!(null), "names");
        assert_eq!(first, second);
    }
}
