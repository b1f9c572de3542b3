//! What Kibana's rules ask, answered by a real Elasticsearch. Kibana itself is not to be had here: its aggregations are
//! those of `fetch_es_query.ts` of its 8.12.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kumon_alerts::render::{rule, rule_id};
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
    let rule = rule(&slow, Duration::from_secs(60)).unwrap();
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
fn the_id_of_a_rule_is_a_uuid_that_stays() {
    assert_eq!(rule_id("disk-latency"), rule_id("disk-latency"));
    assert_ne!(rule_id("disk-latency"), rule_id("node-silent"));
    assert_eq!(rule_id("disk-latency").get_version_num(), 5);
}
