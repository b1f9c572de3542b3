//! What has to be known of a space before it can be said what belongs there.

use anyhow::{Result, anyhow, bail, ensure};
use kumon_alerts::render::{Connector, RuleSettings, Service, own_connectors};
use kumon_dashboards::kibana::TAG;
use kumon_query::did_you_mean;
use serde_json::Value;

use super::super::object::{Kind, Object};
use super::super::place::{Place, Refused};
use super::client::Kibana;
use crate::config::{AlertsConfig, EvaluatedBy};

/// How objects are named in a space, and whom its rules notify.
pub(in crate::setup) struct Target {
    /// The space whose objects have names of their own; none in the default space.
    pub(in crate::setup) space: Option<String>,
    pub(in crate::setup) rules: RuleSettings,
}

impl Target {
    /// The default space, where no Kibana is asked.
    pub(in crate::setup) fn unseen() -> Target {
        Target { space: None, rules: own(None) }
    }

    /// Whether a recorded object is one of this space's, or is not in Kibana at all.
    pub(in crate::setup) fn has(&self, object: &Object) -> bool {
        !object.kind.is_of_kibana() || object.space == self.space
    }
}

impl Kibana {
    /// Looks at the space.
    ///
    /// # Errors
    /// When it can't be asked, or lacks a connector that the configuration names.
    pub(in crate::setup) fn target(&self, alerts: &AlertsConfig) -> Result<Target> {
        let space = self.space().filter(|space| *space != "default");
        let space = if space.is_some() && self.has_plain_names()? { None } else { space };
        let wanted = &alerts.kibana;
        let rules = if alerts.evaluated_by != EvaluatedBy::Kibana || wanted.connectors.is_empty() {
            own(space)
        } else {
            let connectors = self.connectors(&wanted.connectors)?;
            let mails = connectors.iter().any(|connector| connector.service == Service::Email);
            ensure!(
                !mails || !wanted.to.is_empty(),
                "alerts.kibana: a connector for mail needs 'to' beside it"
            );
            RuleSettings { connectors, to: wanted.to.clone() }
        };
        Ok(Target { space: space.map(str::to_owned), rules })
    }

    /// Earlier versions gave the objects of every space the names of the default space. Where they are, they stay.
    fn has_plain_names(&self) -> Result<bool> {
        match Place::read(self, &Object::named(Kind::Tag, TAG.to_owned())) {
            Ok(found) => Ok(found.is_some()),
            // What may not be looked at is told with each object.
            Err(Refused::Missing(_)) => Ok(false),
            Err(Refused::Failed(failure)) => Err(failure.into()),
            Err(Refused::Rejected(reason)) => bail!("looking for KuMon's tag in Kibana failed: {reason}"),
            Err(Refused::InUse) => bail!("looking for KuMon's tag in Kibana failed: it is in use"),
        }
    }

    /// The connectors of these ids or names.
    fn connectors(&self, wanted: &[String]) -> Result<Vec<Connector>> {
        let answer = self.get("api/actions/connectors")?;
        if answer.status != 200 {
            return Err(anyhow!(self.refusal(&answer)).context("reading Kibana's connectors failed"));
        }
        let known: Vec<Value> = serde_json::from_str(&answer.text)?;
        wanted.iter().map(|wanted| connector(wanted, &known)).collect()
    }
}

fn connector(wanted: &str, known: &[Value]) -> Result<Connector> {
    let found = known.iter().find(|known| known["id"] == wanted).or_else(|| {
        let mut named = known.iter().filter(|known| known["name"] == wanted);
        named.next().filter(|_| named.next().is_none())
    });
    let names = || known.iter().filter_map(|known| known["name"].as_str());
    let Some(found) = found else {
        let hint = match names().filter(|name| *name == wanted).count() {
            0 => did_you_mean(wanted, names())
                .unwrap_or_else(|| format!("it has: {}", names().collect::<Vec<_>>().join(", "))),
            _ => "it has several of this name: name it by its id".to_owned(),
        };
        bail!("alerts.kibana.connectors: Kibana's space has no connector '{wanted}'; {hint}");
    };
    let (id, r#type) = (found["id"].as_str().unwrap_or(wanted), found["connector_type_id"].as_str());
    let service = Service::ALL.into_iter().find(|service| Some(service.type_id()) == r#type);
    let Some(service) = service else {
        let usable = Service::ALL.map(Service::type_id).join(", ");
        let r#type = r#type.unwrap_or("none");
        bail!("alerts.kibana.connectors: '{wanted}' has the type {type}; rules can use {usable}");
    };
    Ok(Connector { id: id.to_owned(), service })
}

/// KuMon's own connectors.
fn own(space: Option<&str>) -> RuleSettings {
    RuleSettings { connectors: own_connectors(space).map(|(own, _)| own).into(), to: Vec::new() }
}
