//! Who may do what: roles with no more than shipping, looking and setting up need.

use anyhow::{Context, Result};
use serde_json::Value;

use super::object::{Kind, Object};
use super::stream::streams;
use crate::config::Config;

/// In the files under `elk/roles/`: the data streams that KuMon writes to with this configuration.
const STREAMS: &str = "STREAMS";

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

fn role(config: &Config, text: &str) -> Result<Value> {
    let mut role: Value = serde_json::from_str(text)?;
    let patterns = patterns(config)?;
    for indices in role["indices"].as_array_mut().context("a role without indices")? {
        let names = &mut indices["names"];
        if names[0] == STREAMS {
            *names = patterns.clone();
        }
    }
    Ok(role)
}

/// In any namespace: nodes of one cluster may have different ones.
fn patterns(config: &Config) -> Result<Value> {
    let own = ["logs-kumon.*-*", "metrics-kumon.*-*"].map(str::to_owned);
    let foreign = streams(config)?.into_iter().filter(|stream| stream.foreign.is_some());
    Ok(own.into_iter().chain(foreign.map(|stream| format!("{}-*", stream.name))).collect())
}
