//! The section `alerts`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kumon_alerts::render::{WatcherSettings, has_rule};
use kumon_alerts::{Alert, Override, Selection};
use serde::Deserialize;

use super::{ConfigError, file};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AlertsConfig {
    /// Whether this node's agent evaluates.
    pub(crate) enabled: bool,
    pub(crate) scope: Scope,
    pub(crate) evaluated_by: EvaluatedBy,
    #[serde(deserialize_with = "file::duration")]
    pub(crate) interval: Duration,
    pub(crate) folder: PathBuf,
    pub(crate) disabled: Vec<String>,
    pub(crate) r#override: BTreeMap<String, Override>,
    pub(crate) watcher: WatcherSettings,
    pub(crate) kibana: RulesConfig,
}

/// Whose rows an agent evaluates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Its own node's: every node tells for itself, and none twice.
    #[default]
    Node,
    /// All that are in Elasticsearch; for one node, which then also sees others fall silent.
    All,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EvaluatedBy {
    #[default]
    Kumon,
    Watcher,
    /// Kibana's rules; what those can't express is still evaluated by the agents.
    Kibana,
}

/// The section `alerts.kibana`: whom rules notify.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RulesConfig {
    /// Connectors of Kibana's by id or name; empty: KuMon's own, which setup makes.
    pub(crate) connectors: Vec<String>,
    /// Addresses that connectors for mail write to.
    pub(crate) to: Vec<String>,
}

impl Default for AlertsConfig {
    fn default() -> AlertsConfig {
        let Selection { folder, disabled, r#override } = Selection::default();
        AlertsConfig {
            enabled: true,
            scope: Scope::default(),
            evaluated_by: EvaluatedBy::default(),
            interval: Duration::from_secs(60),
            folder,
            disabled,
            r#override,
            watcher: WatcherSettings::default(),
            kibana: RulesConfig::default(),
        }
    }
}

impl AlertsConfig {
    /// Who evaluates an alert.
    pub(crate) fn evaluator(&self, alert: &Alert) -> EvaluatedBy {
        match self.evaluated_by {
            EvaluatedBy::Kibana if !has_rule(alert) => EvaluatedBy::Kumon,
            evaluated_by => evaluated_by,
        }
    }

    /// Which alerts there are.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            folder: self.folder.clone(),
            disabled: self.disabled.clone(),
            r#override: self.r#override.clone(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, what: &str| {
            Err(ConfigError::Value { key: format!("alerts.{key}"), what: what.to_owned() })
        };
        if self.interval < Duration::from_secs(1) {
            return wrong("interval", "must be at least 1s");
        }
        if !self.folder.is_absolute() {
            return wrong("folder", "must be absolute");
        }
        Ok(())
    }
}
