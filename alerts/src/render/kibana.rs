//! An alert as a rule of Kibana's, which the free licence has; with the connectors that it has, too.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::Alert;
use crate::expression::Aggregation;

/// Kibana's own limit of groups is 1000.
const MAX_GROUPS: u32 = 100;

/// A connector that the rules refer to: `POST /api/actions/connector/<id>`.
#[derive(Debug, Clone, Copy)]
pub struct Connector {
    pub id: &'static str,
    pub name: &'static str,
    pub r#type: &'static str,
}

/// Those of the free licence.
pub const CONNECTORS: [Connector; 2] = [
    Connector { id: "kumon-server-log", name: "KuMon: Kibana's log", r#type: ".server-log" },
    Connector { id: "kumon-index", name: "KuMon: the index kumon-rules", r#type: ".index" },
];

/// What Kibana's rules can't do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kibana's rules have no {0}; let KuMon or Watcher evaluate this alert")]
pub struct Unsupported(&'static str);

impl Connector {
    /// The body of the request that makes it.
    pub fn body(&self) -> Value {
        let config = match self.r#type {
            ".index" => json!({"index": "kumon-rules", "executionTimeField": "@timestamp"}),
            _ => json!({}),
        };
        json!({"name": self.name, "connector_type_id": self.r#type, "config": config, "secrets": {}})
    }
}

/// What the several fields that an alert groups by are called together in its rule.
const GROUP: &str = "kumon.group";

/// The id of an alert's rule, which has to be a UUID. The same name gives the same one.
pub fn rule_id(name: &str) -> Uuid {
    /// KuMon's own, made at random once.
    const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9ad2_57c1_4a58_9e0b_3d1f_8a2c_41e7);
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The body of `POST /api/alerting/rule/<id>`, see [`rule_id`].
///
/// # Errors
/// When Kibana's rules can't express the alert.
pub fn rule(alert: &Alert, interval: Duration) -> Result<Value, Unsupported> {
    let (aggregation, field) = match &alert.aggregation {
        Aggregation::Count => ("count", None),
        Aggregation::Of(function, field) => (function.name(), Some(field)),
        Aggregation::Percentile(..) => return Err(Unsupported("percentile")),
        Aggregation::Ratio(..) => return Err(Unsupported("ratio")),
        Aggregation::Age => return Err(Unsupported("way to see a group that has no rows")),
    };
    let (size, unit) = in_units(alert.window);
    let mut params = json!({
        "index": [super::indices(alert)],
        "timeField": "@timestamp",
        "aggType": aggregation,
        "groupBy": "all",
        "timeWindowSize": size,
        "timeWindowUnit": unit,
        "thresholdComparator": alert.threshold.comparator.sign(),
        "threshold": [alert.threshold.value],
    });
    if let Some(field) = field {
        params["aggField"] = field.as_str().into();
    }
    match alert.group_by.as_slice() {
        [] => {}
        fields => {
            params["groupBy"] = "top".into();
            params["termSize"] = MAX_GROUPS.into();
            params["termField"] = if let [field] = fields { json!(field) } else { json!(GROUP) };
        }
    }
    let simple = alert.query.is_empty() && alert.group_by.len() <= 1;
    let (kind, group) =
        if simple { (".index-threshold", "threshold met") } else { (".es-query", "query matched") };
    if !simple {
        params["searchType"] = "esQuery".into();
        let mut query = json!({"query": super::query(alert)});
        if alert.group_by.len() > 1 {
            query["runtime_mappings"] = json!({GROUP: joined(&alert.group_by)});
        }
        params["esQuery"] = query.to_string().into();
        params["size"] = 10.into();
        // What a rule has counted once still belongs to the window.
        params["excludeHitsFromPreviousRun"] = false.into();
    }
    let (every, every_unit) = in_units(interval);
    Ok(json!({
        "name": format!("[KuMon] {}", alert.title),
        "rule_type_id": kind,
        "consumer": "alerts",
        "enabled": alert.enabled,
        "tags": ["kumon", alert.name, alert.severity.name()],
        "schedule": {"interval": format!("{every}{every_unit}")},
        "params": params,
        "actions": actions(alert, group),
    }))
}

/// The values of several fields as one text. Kibana 8.12 can't calculate a value by groups of several fields.
fn joined(fields: &[String]) -> Value {
    let script = "String group = ''; for (field in params.fields) { if (group != '') { group += ', ' } \
        if (doc.containsKey(field) && doc[field].size() > 0) { group += doc[field].value.toString() } } emit(group)";
    json!({"type": "keyword", "script": {"source": script, "params": {"fields": fields}}})
}

fn actions(alert: &Alert, group: &str) -> Value {
    let (throttle, unit) = in_units(alert.throttle);
    let frequency = json!({
        "summary": false, "notify_when": "onThrottleInterval", "throttle": format!("{throttle}{unit}"),
    });
    let change = json!({"summary": false, "notify_when": "onActionGroupChange", "throttle": null});
    let [log, index] = CONNECTORS;
    let document = |state: &str| {
        json!({"documents": [{
            "alert": alert.name, "severity": alert.severity.name(), "state": state,
            "group": "{{alert.id}}", "value": "{{context.value}}", "condition": alert.condition(),
        }]})
    };
    let line = |state: &str, level: &str| {
        let message = format!("{state}: {} ({{{{alert.id}}}}): {}", alert.title, alert.condition());
        json!({"level": level, "message": message})
    };
    let mut actions = vec![
        json!({"id": log.id, "group": group, "params": line(alert.severity.name(), "warn"), "frequency": frequency}),
        json!({"id": index.id, "group": group, "params": document("firing"), "frequency": frequency}),
    ];
    if alert.recovery {
        actions.push(
            json!({"id": log.id, "group": "recovered", "params": line("recovered", "info"), "frequency": change}),
        );
        actions.push(
            json!({"id": index.id, "group": "recovered", "params": document("recovered"), "frequency": change}),
        );
    }
    Value::Array(actions)
}

/// Kibana takes whole numbers of one unit.
fn in_units(duration: Duration) -> (u64, &'static str) {
    let seconds = duration.as_secs().max(1);
    let unit = [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(length, _)| seconds.is_multiple_of(*length));
    unit.map_or((seconds, "s"), |(length, unit)| (seconds / length, unit))
}
