//! What setup puts into Kibana: dashboards, searches and data views; alerts as rules.

mod api;
mod client;
mod exchange;
mod place;
mod target;

use std::io::Write;

use anyhow::Result;
use kumon_dashboards::kibana::{SavedObject, SavedObjectType, in_space, render};
use kumon_shipper::elasticsearch::{Client, Method};

use super::Step;
use super::object::{Kind, Object};
use super::place::{Missing, missing};
use crate::config::Config;
use crate::dashboards;

pub(super) use client::Kibana;
pub(super) use target::Target;

const BY_HAND: &str = "skipped dashboards, searches and data views: the configuration has no kibana.url; \
    'kumon setup --dry-run --only kibana > kumon.ndjson' makes the file that Kibana takes under Stack Management, \
    Saved Objects, Import";

const OF_THE_FIRST: &str = "skipped dashboards, searches and data views: kibana.url is that of the first \
    Elasticsearch of 'outputs'";

const NO_RULES: &str = "skipped rules: the configuration has no kibana.url; 'kumon alerts render NAME --as kibana' \
    prints what its API takes";

const RULES_OF_THE_FIRST: &str = "skipped rules: kibana.url is that of the first Elasticsearch of 'outputs'";

/// Why a step is skipped that would put something into Kibana.
pub(super) fn why_not(step: Step, is_first: bool) -> &'static str {
    match (step, is_first) {
        (Step::Rules, true) => NO_RULES,
        (Step::Rules, false) => RULES_OF_THE_FIRST,
        (_, true) => BY_HAND,
        (_, false) => OF_THE_FIRST,
    }
}

/// Everything for the dashboards, in an order in which each stands behind what it refers to.
pub(super) fn objects(config: &Config, target: &Target) -> Result<Vec<Object>> {
    let dashboards = dashboards::load(config)?;
    let mut objects = render(&dashboards.dashboards, &dashboards.catalog);
    if let Some(space) = &target.space {
        objects = in_space(objects, space);
    }
    Ok(objects.into_iter().map(|saved| object(saved).in_space(target.space.as_deref())).collect())
}

fn object(saved: SavedObject) -> Object {
    let kind = match saved.r#type {
        SavedObjectType::Tag => Kind::Tag,
        SavedObjectType::DataView => Kind::DataView,
        SavedObjectType::Search => Kind::Search,
        SavedObjectType::Dashboard => Kind::Dashboard,
    };
    let body = saved.to_json();
    Object::new(kind, saved.id, body)
}

/// Makes the data streams of all metrics that have none yet: Kibana shows a chart without rows as empty, but one whose
/// field no index has as an error, and a collector that is off would never make its stream.
pub(super) fn create_streams(client: &Client, config: &Config, out: &mut impl Write) -> Result<()> {
    let mut created = 0;
    for schema in kumon_schema::all() {
        let stream = schema.data_stream(&config.namespace.0);
        let answer = client.request(Method::PUT, &format!("_data_stream/{stream}"), None)?;
        if let Some(reason) = missing(answer.status, &answer.reason()) {
            let reason = match reason {
                Missing::Api => "this cluster can't make them beforehand".to_owned(),
                reason => reason.to_string(),
            };
            writeln!(
                out,
                "skipped empty data streams: {reason}; charts of metrics without rows show errors"
            )?;
            return Ok(());
        }
        if answer.status == 400 && answer.reason().contains("already_exists") {
            continue;
        }
        client.ok(answer)?;
        created += 1;
    }
    if created > 0 {
        writeln!(out, "created {created} empty data streams")?;
    }
    Ok(())
}
