//! What a real Elasticsearch says when something is wrong with it, and not with the rows; and with a row alone.

use kumon_testing::{Elasticsearch, require_elasticsearch, wait_for};
use serde_json::{Value, json};

use crate::server_faults::{all_is_there, put, small_node};
use crate::shipping::{LIMIT, Shipping};
use crate::support::{Access, install_template, install_template_with};

/// Closes or opens the index that a dataset's stream writes to.
fn write_index(node: &Elasticsearch, dataset: &str, action: &str) {
    let (_, answer) = node.request("GET", &format!("_resolve/index/logs-{dataset}-default"), Value::Null);
    let index = answer["data_streams"][0]["backing_indices"].as_array().unwrap().last().unwrap().clone();
    let (status, answer) =
        node.request("POST", &format!("{}/{action}", index.as_str().unwrap()), Value::Null);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn what_a_person_has_to_mend_in_the_cluster_pauses_its_stream_and_costs_no_row() {
    if !require_elasticsearch() {
        return;
    }
    let node = small_node();
    let [missing, nested, closed, limit, other] =
        ["errors.missing", "errors.nested", "errors.closed", "errors.limit", "errors.other"];
    let with_pipeline = |pipeline: &str| json!({"number_of_replicas": 0, "index.default_pipeline": pipeline});
    install_template_with(&node, missing, with_pipeline("errors-missing"));
    install_template_with(&node, nested, with_pipeline("errors-outer"));
    put(
        &node,
        "_ingest/pipeline/errors-outer",
        json!({"processors": [{"pipeline": {"name": "errors-inner"}}]}),
    );
    [closed, limit, other].iter().for_each(|dataset| install_template(&node, dataset));
    let datasets = [missing, nested, closed, limit, other];
    let shipping = Shipping::start(&datasets, &Access::of(&node));
    [closed, other].iter().for_each(|dataset| shipping.append(dataset, 0..10));
    all_is_there(&node, &shipping, &[closed, other], 10);
    write_index(&node, closed, "_close");
    let shards = |most: Value| {
        put(&node, "_cluster/settings", json!({"persistent": {"cluster.max_shards_per_node": most}}));
    };
    shards(json!(1));

    [missing, nested, limit].iter().for_each(|dataset| shipping.append(dataset, 0..100));
    [closed, other].iter().for_each(|dataset| shipping.append(dataset, 10..100));
    for (dataset, said) in [
        (missing, "pipeline with id [errors-missing] does not exist"),
        (nested, "non-existent pipeline [errors-inner]"),
        (closed, "index_closed_exception"),
        (limit, "cluster.max_shards_per_node"),
    ] {
        wait_for(&format!("{dataset} to be held"), LIMIT, || {
            let held = shipping.stats().held;
            held.get(&format!("logs-{dataset}-default")).is_some_and(|held| held.reason.contains(said))
        });
    }
    wait_for("the other stream's rows", LIMIT, || {
        shipping.stats().datasets.get(other).is_some_and(|other| other.created == 100)
    });
    shards(Value::Null);
    write_index(&node, closed, "_open");
    for pipeline in ["errors-missing", "errors-inner"] {
        put(&node, &format!("_ingest/pipeline/{pipeline}"), json!({"processors": []}));
    }
    all_is_there(&node, &shipping, &datasets, 100);
    assert!(shipping.stats().datasets.values().all(|dataset| dataset.dead_letters == 0));
}

#[test]
fn a_row_that_a_real_pipeline_fails_on_is_a_dead_letter_and_the_rest_goes_on() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (Elasticsearch::shared(), "errors.fail");
    let processor = json!({"fail": {"if": "ctx.n == 3", "message": "no threes"}});
    put(node, "_ingest/pipeline/errors-fail", json!({"processors": [processor]}));
    let settings = json!({"number_of_replicas": 0, "index.default_pipeline": "errors-fail"});
    install_template_with(node, dataset, settings);
    let shipping = Shipping::start(&[dataset], &Access::of(node));
    shipping.append(dataset, 0..1000);
    wait_for("all rows but one", LIMIT, || {
        let stats = shipping.stats();
        stats.datasets.get(dataset).is_some_and(|it| (it.created, it.dead_letters) == (999, 1))
    });
    let stats = shipping.stats();
    assert!(stats.held.is_empty() && stats.halted.is_none(), "{stats:?}");
}
