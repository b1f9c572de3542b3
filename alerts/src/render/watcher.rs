//! An alert as a watch of Elasticsearch's Watcher.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::painless;
use crate::alert::Alert;
use crate::evaluate::aggs;

/// Where watches keep what fired last, one document for each alert.
const STATE: &str = "kumon-alerts";
const FIRING: &str = "return ctx.payload.firing.size() > 0";
const RECOVERED: &str = "return ctx.payload.recovered.size() > 0";

/// Whose Watcher it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Elasticsearch 6.8, which the tests execute.
    Six,
    /// Elasticsearch 8 and 9.
    Current,
}

/// Further actions, which only work where elasticsearch.yml has the accounts: without them Watcher refuses the watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatcherSettings {
    pub email: Option<WatchEmail>,
    pub slack: Option<WatchSlack>,
}

/// `xpack.notification.email.account.<account>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchEmail {
    pub account: String,
    pub to: Vec<String>,
}

/// `xpack.notification.slack.account.<account>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSlack {
    pub account: String,
    pub to: Vec<String>,
}

/// The body of `PUT _watcher/watch/kumon-<name>`; evaluated every `interval`, over all nodes.
pub fn watch(alert: &Alert, interval: Duration, settings: &WatcherSettings, form: Form) -> Value {
    let seconds = interval.as_secs().max(1);
    let script = |source: String| json!({"script": {"lang": "painless", "source": source}});
    json!({
        "metadata": {
            "managed_by": "kumon",
            "title": alert.title,
            "severity": alert.severity.name(),
            "condition": alert.condition(),
            "description": alert.description,
            "threshold": alert.threshold.value,
        },
        "trigger": {"schedule": {"interval": format!("{seconds}s")}},
        "input": {"chain": {"inputs": [
            {"now": search(&super::indices(alert), &rows(alert))},
            {"before": search(STATE, &json!({"size": 1, "query": {"ids": {"values": [alert.name]}}}))},
        ]}},
        "condition": script(painless::condition(alert, seconds)),
        "transform": script(painless::transform(alert, seconds)),
        "actions": actions(alert, settings, form),
    })
}

fn search(indices: &str, body: &Value) -> Value {
    json!({"search": {"request": {
        "indices": [indices],
        "rest_total_hits_as_int": true,
        "indices_options": {"ignore_unavailable": true, "allow_no_indices": true},
        "body": body,
    }}})
}

fn rows(alert: &Alert) -> Value {
    let window = format!("now-{}s", alert.window.as_secs().max(1));
    let mut query = super::query(alert);
    if let Some(filter) = query["bool"]["filter"].as_array_mut() {
        filter.push(json!({"range": {"@timestamp": {"gte": window, "lt": "now"}}}));
    }
    let mut body = json!({"size": 0, "query": query});
    let aggs = aggs(alert);
    if aggs.as_object().is_some_and(|aggs| !aggs.is_empty()) {
        body["aggs"] = aggs;
    }
    body
}

/// What fires is told at most once in the throttle's time, its end at once. The state is no news and never throttled.
fn actions(alert: &Alert, settings: &WatcherSettings, form: Form) -> Value {
    let mut actions = Map::new();
    let mut add = |name: &str, kind: &str, firing: Value, recovered: Value| {
        let throttle = format!("{}s", alert.throttle.as_secs().max(1));
        actions.insert(format!("{name}_firing"), action(FIRING, &throttle, kind, firing));
        if alert.recovery {
            actions.insert(format!("{name}_recovered"), action(RECOVERED, "1s", kind, recovered));
        }
    };
    let firing = text("{{ctx.metadata.severity}}: {{ctx.metadata.title}}", "firing");
    let recovered = text("recovered: {{ctx.metadata.title}}", "recovered");
    add(
        "log",
        "logging",
        json!({"level": "warn", "text": firing}),
        json!({"level": "info", "text": recovered}),
    );
    if let Some(WatchEmail { account, to }) = &settings.email {
        let mail = |word: &str, text: &str| {
            let subject = format!("[KuMon] {word}: {}", alert.title);
            json!({"account": account, "to": to, "subject": subject, "body": {"text": text}})
        };
        add("email", "email", mail(alert.severity.name(), &firing), mail("recovered", &recovered));
    }
    if let Some(WatchSlack { account, to }) = &settings.slack {
        let message = |text: &str| json!({"account": account, "message": {"to": to, "text": text}});
        add("slack", "slack", message(&firing), message(&recovered));
    }
    let mut state = json!({"index": STATE, "doc_id": alert.name, "refresh": "true"});
    if form == Form::Six {
        state["doc_type"] = "doc".into();
    }
    actions.insert("state".into(), json!({"throttle_period": "1s", "index": state}));
    Value::Object(actions)
}

fn action(condition: &str, throttle: &str, kind: &str, body: Value) -> Value {
    json!({
        "throttle_period": throttle,
        "condition": {"script": {"lang": "painless", "source": condition}},
        kind: body,
    })
}

fn text(headline: &str, groups: &str) -> String {
    format!(
        "{headline}: {{{{#ctx.payload.{groups}}}}}{{{{group}}}} {{{{text}}}}; {{{{/ctx.payload.{groups}}}}}\
         ({{{{ctx.metadata.condition}}}}; alert {{{{ctx.payload.alert}}}})"
    )
}
