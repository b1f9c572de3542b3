//! An alert as a rule of Kibana's, which the free licence has; with the connectors that it has, too.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::Alert;
use crate::expression::Aggregation;

/// Kibana's own limit of groups is 1000.
const MAX_GROUPS: u32 = 100;

/// A connector of Kibana's that rules notify through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    pub id: String,
    pub service: Service,
}

/// What a connector notifies with: those of Kibana's types that a message is enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Email,
    /// Documents for an index of Elasticsearch's.
    Index,
    PagerDuty,
    /// Kibana's log.
    ServerLog,
    Slack,
    Teams,
    Webhook,
}

/// What rules do beside being evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSettings {
    pub connectors: Vec<Connector>,
    /// Whom connectors for mail write to.
    pub to: Vec<String>,
}

impl Service {
    pub const ALL: [Service; 7] = [
        Service::Email,
        Service::Index,
        Service::PagerDuty,
        Service::ServerLog,
        Service::Slack,
        Service::Teams,
        Service::Webhook,
    ];

    /// Kibana's `connector_type_id`.
    pub fn type_id(self) -> &'static str {
        match self {
            Service::Email => ".email",
            Service::Index => ".index",
            Service::PagerDuty => ".pagerduty",
            Service::ServerLog => ".server-log",
            Service::Slack => ".slack",
            Service::Teams => ".teams",
            Service::Webhook => ".webhook",
        }
    }
}

/// KuMon's own connectors, of types that the free licence has, with the body of `POST /api/actions/connector/<id>`. A
/// space beside the default one has its own: Kibana has each id only once.
pub fn own_connectors(space: Option<&str>) -> [(Connector, Value); 2] {
    let connector = |name: &str, service: Service, title: &str, config: Value| {
        let body = json!({
            "name": title, "connector_type_id": service.type_id(), "config": config, "secrets": {},
        });
        (Connector { id: uuid(&format!("connector:{name}"), space), service }, body)
    };
    let of_index = json!({"index": "kumon-rules", "executionTimeField": "@timestamp"});
    [
        connector("log", Service::ServerLog, "KuMon: Kibana's log", json!({})),
        connector("index", Service::Index, "KuMon: the index kumon-rules", of_index),
    ]
}

/// What Kibana's rules can't do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kibana's rules have no {0}; let KuMon or Watcher evaluate this alert")]
pub struct Unsupported(&'static str);

/// What the several fields that an alert groups by are called together in its rule.
const GROUP: &str = "kumon.group";

/// Whether Kibana's rules can express the alert.
pub fn has_rule(alert: &Alert) -> bool {
    rule(alert, alert.window, &RuleSettings::default()).is_ok()
}

/// The id of an alert's rule in a space; none is the default space. Kibana takes UUIDs only.
pub fn rule_id(name: &str, space: Option<&str>) -> String {
    uuid(name, space)
}

/// The same name and space give the same one.
fn uuid(name: &str, space: Option<&str>) -> String {
    /// KuMon's own, made at random once.
    const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9ad2_57c1_4a58_9e0b_3d1f_8a2c_41e7);
    // Neither an alert's name nor a space's has a slash.
    let name = space.map_or_else(|| name.to_owned(), |space| format!("{space}/{name}"));
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

/// The body of `POST /api/alerting/rule/<id>`, see [`rule_id`].
///
/// # Errors
/// When Kibana's rules can't express the alert.
pub fn rule(alert: &Alert, interval: Duration, settings: &RuleSettings) -> Result<Value, Unsupported> {
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
        "actions": actions(alert, group, settings),
    }))
}

/// The values of several fields as one text. Kibana 8.12 can't calculate a value by groups of several fields.
fn joined(fields: &[String]) -> Value {
    let script = "String group = ''; for (field in params.fields) { if (group != '') { group += ', ' } \
        if (doc.containsKey(field) && doc[field].size() > 0) { group += doc[field].value.toString() } } emit(group)";
    json!({"type": "keyword", "script": {"source": script, "params": {"fields": fields}}})
}

fn actions(alert: &Alert, group: &str, settings: &RuleSettings) -> Value {
    let (throttle, unit) = in_units(alert.throttle);
    let frequency = json!({
        "summary": false, "notify_when": "onThrottleInterval", "throttle": format!("{throttle}{unit}"),
    });
    let change = json!({"summary": false, "notify_when": "onActionGroupChange", "throttle": null});
    let mut actions = Vec::new();
    for connector in &settings.connectors {
        let mut add = |group: &str, recovered: bool, frequency: &Value| {
            let params = params(alert, connector.service, recovered, &settings.to);
            actions
                .push(json!({"id": connector.id, "group": group, "params": params, "frequency": frequency}));
        };
        add(group, false, &frequency);
        if alert.recovery {
            add("recovered", true, &change);
        }
    }
    Value::Array(actions)
}

/// What a connector is told, in the form that its type takes. Kibana fills in what stands in braces.
fn params(alert: &Alert, service: Service, recovered: bool, to: &[String]) -> Value {
    let word = if recovered { "recovered" } else { alert.severity.name() };
    let message = format!("{word}: {} ({{{{alert.id}}}}): {}", alert.title, alert.condition());
    let document = json!({
        "alert": alert.name, "severity": alert.severity.name(),
        "state": if recovered { "recovered" } else { "firing" },
        "group": "{{alert.id}}", "value": "{{context.value}}", "condition": alert.condition(),
    });
    match service {
        Service::Email => {
            json!({"to": to, "subject": format!("[KuMon] {word}: {}", alert.title), "message": message})
        }
        Service::Index => json!({"documents": [document]}),
        Service::PagerDuty => json!({
            "eventAction": if recovered { "resolve" } else { "trigger" },
            "dedupKey": "{{rule.id}}:{{alert.id}}", "summary": message, "severity": alert.severity.name(),
        }),
        Service::ServerLog => json!({"level": if recovered { "info" } else { "warn" }, "message": message}),
        Service::Slack | Service::Teams => json!({"message": message}),
        Service::Webhook => json!({"body": document.to_string()}),
    }
}

/// Kibana takes whole numbers of one unit.
fn in_units(duration: Duration) -> (u64, &'static str) {
    let seconds = duration.as_secs().max(1);
    let unit = [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(length, _)| seconds.is_multiple_of(*length));
    unit.map_or((seconds, "s"), |(length, unit)| (seconds / length, unit))
}
