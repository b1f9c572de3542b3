//! Alerts for those who evaluate them instead of KuMon: Elasticsearch's Watcher and Kibana's rules.

mod kibana;
mod painless;
mod watcher;

use kumon_query::{Fields, SearchRequest, to_elasticsearch};
use serde_json::Value;

pub use kibana::{Connector, RuleSettings, Service, Unsupported, has_rule, own_connectors, rule, rule_id};
pub use watcher::{Form, WatchEmail, WatchSlack, WatcherSettings, watch};

use crate::alert::Alert;

/// The data streams of all namespaces.
fn indices(alert: &Alert) -> String {
    match kumon_schema::builtin(&alert.metric) {
        Some(schema) => schema.data_stream("*"),
        None => format!("{}-{}-*", kumon_schema::Kind::Event.stream_type(), alert.metric),
    }
}

/// Elasticsearch's form of the alert's query.
fn query(alert: &Alert) -> Value {
    let request = SearchRequest {
        metric: alert.metric.clone(),
        query: alert.query.clone(),
        since: None,
        until: None,
        limit: Some(0),
        aggs: None,
    };
    // An alert's query was understood when it was read.
    to_elasticsearch(&request, &Fields::of_metric(&alert.metric))
        .map_or(Value::Null, |mut body| body["query"].take())
}
