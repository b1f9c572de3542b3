//! Exactly once across a rollover, where Elasticsearch's own uniqueness ends.

use kumon_shipper::{Outcome, Sink};
use kumon_testing::{Elasticsearch, require_elasticsearch};
use serde_json::Value;

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
