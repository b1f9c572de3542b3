//! What Kibana's rules ask, answered by a real Elasticsearch. Kibana itself is not to be had here: its aggregations are
//! those of `fetch_es_query.ts` of its 8.12.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kumon_alerts::render::{Connector, RuleSettings, Service, own_connectors, rule, rule_id};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::{Value, json};
use support::{alert, row};

#[test]
fn a_rule_groups_by_several_fields() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::clean();
    let schema = kumon_schema::builtin("biolatency").unwrap();
    let mappings = json!({"mappings": {"properties": schema.mapping()}});
    let (status, made) = node.request("PUT", "rules-biolatency", mappings);
    assert_eq!(status, 200, "{made}");
    let request = |host: &str, disk: &str, p99: u64| {
        row(0, &json!({"host.name": host, "kumon.disk.name": disk, "kumon.biolatency.p99": p99}))
    };
    let rows =
        [request("a", "vda", 10), request("a", "vda", 30), request("a", "vdb", 5), request("b", "vda", 7)];
    let bulk: String = rows.iter().map(|row| format!("{{\"index\":{{}}}}\n{row}\n")).collect();
    let (_, sent) = node.request("POST", "rules-biolatency/_bulk?refresh=true", bulk);
    assert_eq!(sent["errors"], false, "{sent}");

    let slow = alert(
        "slow",
        "title: Slow\nmetric: biolatency\naggregation: avg(kumon.biolatency.p99)\nthreshold: '> 1'\n\
         group_by: [host.name, kumon.disk.name]\nseverity: warning\n",
    );
    let rule = rule(&slow, Duration::from_secs(60), &RuleSettings::default()).unwrap();
    let params = &rule["params"];
    let query: Value = serde_json::from_str(params["esQuery"].as_str().unwrap()).unwrap();
    let search = json!({
        "size": 0, "query": query["query"], "runtime_mappings": query["runtime_mappings"],
        "aggs": {"groupAgg": {
            "terms": {"field": params["termField"], "size": params["termSize"], "order": {"_key": "asc"}},
            "aggs": {"metricAgg": {params["aggType"].as_str().unwrap(): {"field": params["aggField"]}}},
        }},
    });
    let (status, answer) = node.request("POST", "rules-biolatency/_search", search);
    assert_eq!(status, 200, "{answer}");
    let buckets = answer["aggregations"]["groupAgg"]["buckets"].as_array().unwrap().iter();
    let values: Vec<_> = buckets.map(|bucket| (&bucket["key"], &bucket["metricAgg"]["value"])).collect();
    let expected =
        [("a, vda", 20.0), ("a, vdb", 5.0), ("b, vda", 7.0)].map(|(key, value)| (json!(key), json!(value)));
    assert_eq!(values, expected.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>());
}

#[test]
fn a_rule_and_a_connector_have_a_uuid_that_stays_and_is_another_in_each_space() {
    let id = rule_id("disk-latency", None);
    assert_eq!(rule_id("disk-latency", None), id);
    assert_eq!(id.len(), "6f0c9ad2-57c1-5a58-9e0b-3d1f8a2c41e7".len());
    assert_ne!(rule_id("disk-latency", Some("operations")), id);
    assert_ne!(rule_id("node-silent", None), id);
    let [(log, _), (index, _)] = own_connectors(None);
    assert_ne!(log.id, index.id);
    assert_ne!(own_connectors(Some("operations"))[0].0.id, log.id);
}

#[test]
fn each_connector_is_told_of_both_ends_in_the_form_of_its_type() {
    let alert = alert(
        "slow",
        "title: Slow\nmetric: exec\naggregation: count\nthreshold: '> 1'\nseverity: warning\nrecovery: true\n",
    );
    for (service, keys) in [
        (Service::Email, &["message", "subject", "to"][..]),
        (Service::Index, &["documents"]),
        (Service::PagerDuty, &["dedupKey", "eventAction", "severity", "summary"]),
        (Service::ServerLog, &["level", "message"]),
        (Service::Slack, &["message"]),
        (Service::Teams, &["message"]),
        (Service::Webhook, &["body"]),
    ] {
        let connectors = vec![Connector { id: "ours".into(), service }];
        let settings = RuleSettings { connectors, to: vec!["ops@example.org".into()] };
        let rule = rule(&alert, Duration::from_secs(60), &settings).unwrap();
        let actions = rule["actions"].as_array().unwrap();
        let groups: Vec<&Value> = actions.iter().map(|action| &action["group"]).collect();
        assert_eq!(groups, ["threshold met", "recovered"], "{service:?}");
        for action in actions {
            assert_eq!(action["id"], "ours");
            let given: Vec<&String> = action["params"].as_object().unwrap().keys().collect();
            assert_eq!(given, keys, "{service:?}");
        }
        assert!(actions[1]["params"].to_string().contains(match service {
            Service::PagerDuty => "resolve",
            _ => "recovered",
        }));
    }
}
