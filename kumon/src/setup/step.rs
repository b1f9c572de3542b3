//! The steps of setup, in their order: what comes later refers to what came before.

use anyhow::Result;
use clap::ValueEnum;

use super::kibana::Target;
use super::object::{Kind, Object};
use super::{alerting, kibana, pipelines, retention, roles, templates};
use crate::config::Config;

/// A part of setup that can be done alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Who may ship, look and set up
    Roles,
    /// Retention policies
    Ilm,
    /// Component and index templates
    Templates,
    /// Ingest pipelines for Filebeat and Logstash
    Pipelines,
    /// Dashboards, searches and data views
    Kibana,
    /// Alerts that Elasticsearch's Watcher evaluates
    Watches,
    /// Alerts as rules of Kibana's
    Rules,
}

impl Step {
    /// All, in the order in which they have to be done.
    pub(super) const ALL: [Step; 7] =
        [Step::Roles, Step::Ilm, Step::Templates, Step::Pipelines, Step::Kibana, Step::Watches, Step::Rules];

    /// The kinds of what the step puts there.
    pub(super) fn kinds(self) -> &'static [Kind] {
        match self {
            Step::Roles => &[Kind::Role],
            Step::Ilm => &[Kind::Policy],
            Step::Templates => &[Kind::Component, Kind::Template],
            Step::Pipelines => &[Kind::Pipeline],
            Step::Kibana => &[Kind::Tag, Kind::DataView, Kind::Search, Kind::Dashboard],
            Step::Watches => &[Kind::Watch],
            Step::Rules => &[Kind::Connector, Kind::Rule],
        }
    }

    /// Whether Kibana is where it is put.
    pub(super) fn is_of_kibana(self) -> bool {
        self.kinds().iter().all(|kind| kind.is_of_kibana())
    }

    /// What the step puts there, in this order.
    pub(super) fn objects(self, config: &Config, target: &Target) -> Result<Vec<Object>> {
        match self {
            Step::Roles => roles::objects(config),
            Step::Ilm => retention::objects(config),
            Step::Templates => templates::objects(config),
            Step::Pipelines => pipelines::objects(config),
            Step::Kibana => kibana::objects(config, target),
            Step::Watches => alerting::watches(config),
            Step::Rules => alerting::rules(config, target),
        }
    }
}
