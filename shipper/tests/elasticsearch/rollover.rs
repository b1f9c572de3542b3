//! Exactly once across a rollover, where Elasticsearch's own uniqueness ends.

use std::sync::Arc;

use kumon_shipper::{Outcome, Sink};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::Value;

use crate::relay::{Network, Relay};
use crate::support::{Access, batch, count, install_template, roll_over};

#[test]
fn what_arrived_before_a_kill_does_not_double_when_the_stream_rolled_over_since() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    let dataset = "rollover.kill";
    install_template(node, dataset);
    let access = Access::of(node);
    let mut killed = access.sink();
    killed.send(&batch(dataset, "old", (0..10).map(Value::from))).unwrap();
    roll_over(node, dataset);
    killed.send(&batch(dataset, "recent", (0..10).map(Value::from))).unwrap();
    // Its checkpoint was never written.
    drop(killed);
    roll_over(node, dataset);

    let mut restarted = access.sink();
    let outcome = restarted.send(&batch(dataset, "old", (0..20).map(Value::from))).unwrap();
    assert_eq!(outcome, Outcome { created: 10, duplicates: 10, ..Outcome::default() });
    let outcome = restarted.send(&batch(dataset, "recent", (0..20).map(Value::from))).unwrap();
    assert_eq!(outcome, Outcome { created: 10, duplicates: 10, ..Outcome::default() });
    assert_eq!(count(node, dataset), 40);
}

/// A shard had no room for the first rows of a batch and took those behind them; then the connection is lost.
#[test]
fn what_is_missing_in_the_middle_does_not_make_what_follows_new() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (Elasticsearch::shared(), "rollover.middle");
    install_template(node, dataset);
    let rows = |numbers: std::ops::Range<u64>| {
        let mut rows = Arc::into_inner(batch(dataset, "g", numbers.clone().map(Value::from))).unwrap();
        rows.documents.iter_mut().zip(numbers).for_each(|(document, n)| document.offset = n);
        Arc::new(rows)
    };
    let relay = Relay::to(node);
    let mut sink = Access::new(vec![relay.url.clone()], node.password()).sink();
    sink.send(&rows(5..10)).unwrap();
    relay.set(Network::Resets);
    sink.send(&rows(0..10)).unwrap_err();
    relay.set(Network::Works);
    roll_over(node, dataset);

    // Batches may end elsewhere when they are sent again.
    assert_eq!(sink.send(&rows(0..5)).unwrap().created, 5);
    let outcome = sink.send(&rows(5..15)).unwrap();
    assert_eq!(outcome, Outcome { created: 5, duplicates: 5, ..Outcome::default() });
    assert_eq!(count(node, dataset), 15);
}
