//! Alerts that others evaluate than the agents: Elasticsearch's Watcher, or Kibana's rules.

use anyhow::Result;
use kumon_alerts::Alert;
use kumon_alerts::render::{Form, own_connectors, rule, rule_id, watch};

use super::Step;
use super::kibana::Target;
use super::object::{Kind, Object};
use super::records::{Author, Records};
use crate::alerts;
use crate::config::{Config, EvaluatedBy};

const NO_WATCHES: &str = "no watches: 'alerts: { evaluated_by: watcher }' has Elasticsearch's Watcher evaluate alerts, \
     where the licence has it (docs/alerts.md)";

const NO_RULES: &str =
    "no rules: 'alerts: { evaluated_by: kibana }' has Kibana evaluate alerts (docs/alerts.md)";

const OF_THE_FIRST: &str =
    "no watches: those are in the first Elasticsearch of 'outputs', so that nothing is told twice";

/// Why a step's alerts are not to be there: somebody else evaluates them.
pub(super) fn why_unwanted(step: Step, config: &Config, is_first: bool) -> Option<&'static str> {
    match (step, config.alerts.evaluated_by) {
        (Step::Watches, EvaluatedBy::Watcher) => (!is_first).then_some(OF_THE_FIRST),
        (Step::Watches, _) => Some(NO_WATCHES),
        (Step::Rules, EvaluatedBy::Kibana) => None,
        (Step::Rules, _) => Some(NO_RULES),
        _ => None,
    }
}

/// Those of an earlier configuration of this node, which would go on: of alerts that are off or gone, or of all where
/// somebody else evaluates now. What another node's setup put there is its own.
pub(super) fn unwanted(
    step: Step,
    wanted: &[Object],
    target: &Target,
    records: &Records,
) -> Result<Vec<Object>> {
    let put = records.of_kinds(step.kinds())?.into_iter();
    let is_own = |author: &Option<Author>| author.as_ref().is_none_or(|a| a.node == records.author().node);
    let own = put.filter(|(object, author)| is_own(author) && target.has(object)).map(|(object, _)| object);
    Ok(own.filter(|object| wanted.iter().all(|wanted| wanted.name != object.name)).collect())
}

/// A watch for each alert that is on.
pub(super) fn watches(config: &Config) -> Result<Vec<Object>> {
    let object = |alert: Alert| {
        let body = watch(&alert, config.alerts.interval, &config.alerts.watcher, Form::Current);
        Object::new(Kind::Watch, format!("kumon-{}", alert.name), body)
    };
    Ok(alerts_on(config)?.map(object).collect())
}

/// A rule for each alert that is on and that rules can express, behind the connectors that the rules notify through where
/// those are KuMon's own.
pub(super) fn rules(config: &Config, target: &Target) -> Result<Vec<Object>> {
    let space = target.space.as_deref();
    let own = own_connectors(space).into_iter().filter(|(own, _)| target.rules.connectors.contains(own));
    let connectors = own.map(|(connector, body)| Object::new(Kind::Connector, connector.id, body));
    let rules = alerts_on(config)?.filter_map(|alert| {
        let body = rule(&alert, config.alerts.interval, &target.rules).ok()?;
        Some(Object::new(Kind::Rule, rule_id(&alert.name, space), body))
    });
    Ok(connectors.chain(rules).map(|object| object.in_space(space)).collect())
}

fn alerts_on(config: &Config) -> Result<impl Iterator<Item = Alert>> {
    Ok(alerts::load_all(config)?.into_iter().filter(|alert| alert.enabled))
}
