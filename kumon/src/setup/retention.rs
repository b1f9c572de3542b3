//! How long rows are kept: an ILM policy for each data stream.

use anyhow::Result;
use kumon_schema::Kind;
use serde_json::Value;

use super::object::{self, Object};
use super::stream::streams;
use crate::config::Config;

/// The policies.
pub(super) fn objects(config: &Config) -> Result<Vec<Object>> {
    let policy = |kind| -> Result<Value> {
        Ok(serde_json::from_str(match kind {
            Kind::Event => include_str!("../../../elk/ilm/events.json"),
            Kind::Summary => include_str!("../../../elk/ilm/summaries.json"),
        })?)
    };
    let streams = streams(config)?.into_iter();
    streams
        .map(|stream| Ok(Object::new(object::Kind::Policy, stream.dataset, policy(stream.kind)?)))
        .collect()
}
