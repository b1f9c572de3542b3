//! Alerts as watches of Elasticsearch's Watcher.

use anyhow::Result;
use kumon_alerts::render::{Form, watch};

use super::Step;
use super::object::{Kind, Object};
use super::records::{Author, Records};
use crate::alerts;
use crate::config::{Config, EvaluatedBy};

/// Why there are none.
const BY_KUMON: &str = "no watches: each agent evaluates its own node's alerts; where the licence has \
     Watcher, 'alerts: { evaluated_by: watcher }' has Elasticsearch do it (docs/alerts.md)";

const OF_THE_FIRST: &str =
    "no watches: those are in the first Elasticsearch of 'outputs', so that nothing is told twice";

/// Why there are to be none, where the step is the watches': the agents evaluate, or another Elasticsearch does.
pub(super) fn why_unwanted(step: Step, config: &Config, is_first: bool) -> Option<&'static str> {
    match config.alerts.evaluated_by {
        _ if step != Step::Watches => None,
        EvaluatedBy::Kumon => Some(BY_KUMON),
        EvaluatedBy::Watcher => (!is_first).then_some(OF_THE_FIRST),
    }
}

/// Those of an earlier configuration of this node, which would go on: of alerts that are off or gone, or of all where
/// the agents evaluate now. What another node's setup put there is its own.
pub(super) fn unwanted(wanted: &[Object], records: &Records) -> Result<Vec<Object>> {
    let put = records.of_kinds(&[Kind::Watch])?.into_iter();
    let is_own = |author: &Option<Author>| author.as_ref().is_none_or(|a| a.node == records.author().node);
    let own = put.filter(|(_, author)| is_own(author)).map(|(object, _)| object);
    Ok(own.filter(|object| wanted.iter().all(|wanted| wanted.name != object.name)).collect())
}

/// A watch for each alert that is on.
pub(super) fn objects(config: &Config) -> Result<Vec<Object>> {
    let alerts = alerts::load_all(config)?.into_iter().filter(|alert| alert.enabled);
    let object = |alert: kumon_alerts::Alert| {
        let body = watch(&alert, config.alerts.interval, &config.alerts.watcher, Form::Current);
        Object::new(Kind::Watch, format!("kumon-{}", alert.name), body)
    };
    Ok(alerts.map(object).collect())
}
