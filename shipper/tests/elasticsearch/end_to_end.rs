//! A shipper at work, from files to a real Elasticsearch, with faults in between.

use std::time::{Duration, Instant};

use kumon_testing::{Elasticsearch, repetitions, require_elasticsearch, wait_for};
use serde_json::{Value, json};

use crate::relay::{Network, Relay};
use crate::shipping::{LIMIT, Shipping};
use crate::support::{Access, count, install_template, roll_over};

fn through(relays: &[&Relay], node: &Elasticsearch) -> Access {
    let mut access = Access::new(relays.iter().map(|relay| relay.url.clone()).collect(), node.password());
    access.options.timeout = Duration::from_secs(1);
    access
}

#[test]
fn no_fault_of_the_network_loses_or_doubles_a_row_even_when_the_stream_rolls_over_meanwhile() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (Elasticsearch::shared(), "faults.network");
    install_template(node, dataset);
    let relay = Relay::to(node);
    let shipping = Shipping::start(&[dataset], &through(&[&relay], node));
    shipping.append(dataset, 0..100);
    shipping.wait_until_all_is_delivered();
    let mut sent = 100;
    for (network, reason) in [
        (Network::Resets, "ended the connection"),
        (Network::Vanishes, "did not answer within 1s"),
        (Network::LosesAnswers, "did not answer within 1s"),
        (Network::ResetsAnswers, "ended the connection"),
    ] {
        relay.set(network);
        shipping.append(dataset, sent..sent + 500);
        shipping.wait_until_halted(&[&relay.url, reason]);
        roll_over(node, dataset);
        relay.set(Network::Works);
        sent += 500;
        shipping.wait_until_all_is_delivered();
        assert_eq!(count(node, dataset), sent, "{network:?}");
    }
    let stats = shipping.stats();
    assert_eq!(stats.datasets[dataset].created, sent);
    assert!(stats.duplicates >= 500, "{stats:?}");
}

#[test]
fn when_a_host_fails_the_next_one_is_used_and_the_first_one_again_when_that_fails() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (Elasticsearch::shared(), "faults.failover");
    install_template(node, dataset);
    let (first, second) = (Relay::to(node), Relay::to(node));
    let shipping = Shipping::start(&[dataset], &through(&[&first, &second], node));
    let mut sent = 0;
    for (up, down, network) in [
        (&first, &second, Network::Works),
        (&second, &first, Network::Resets),
        (&first, &second, Network::Vanishes),
        (&second, &first, Network::LosesAnswers),
    ] {
        up.set(Network::Works);
        down.set(network);
        shipping.append(dataset, sent..sent + 200);
        sent += 200;
        wait_for("the rows", LIMIT, || count(node, dataset) >= sent);
        shipping.wait_until_all_is_delivered();
        assert_eq!(count(node, dataset), sent, "{network:?}");
    }
}

#[test]
fn a_stream_that_takes_nothing_halts_alone_and_goes_on_when_it_is_mended() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    let [good, blocked, missing] = ["alone.good", "alone.blocked", "alone.missing"];
    install_template(node, good);
    install_template(node, blocked);
    let block = |value: Value| {
        let settings = json!({"index.blocks.write": value});
        let (status, answer) = node.request("PUT", &format!("logs-{blocked}-default/_settings"), settings);
        assert_eq!(status, 200, "{answer}");
    };
    let shipping = Shipping::start(&[good, blocked, missing], &Access::of(node));
    shipping.append(blocked, 0..1);
    shipping.wait_until_all_is_delivered();
    block(json!(true));
    // Backlogs of those that can't be delivered, and single rows of the one that can.
    shipping.append(blocked, 1..20_000);
    shipping.append(missing, 0..20_000);
    wait_for("both to be held", LIMIT, || shipping.stats().held.len() == 2);
    let held = shipping.stats().held;
    assert!(
        held[&format!("logs-{blocked}-default")].reason.contains("closed the index for writing"),
        "{held:?}"
    );
    assert!(held[&format!("logs-{missing}-default")].reason.contains("kumon setup"), "{held:?}");
    assert!(shipping.stats().halted.is_none());
    for n in 0..5 {
        shipping.append(good, n..n + 1);
        wait_for("the row", Duration::from_secs(5), || count(node, good) == n + 1);
    }

    install_template(node, missing);
    block(Value::Null);
    shipping.wait_until_all_is_delivered();
    assert_eq!((count(node, blocked), count(node, missing), count(node, good)), (20_000, 20_000, 5));
}

#[test]
fn hundreds_of_thousands_of_lines_arrive_once_each() {
    if !require_elasticsearch() {
        return;
    }
    let lines = repetitions(300_000, 2_000_000) as u64;
    let (node, dataset) = (Elasticsearch::shared(), "very.many");
    install_template(node, dataset);
    let shipping = Shipping::start(&[dataset], &Access::of(node));
    let start = Instant::now();
    for first in (0..lines).step_by(100_000) {
        shipping.append(dataset, first..first + 100_000);
    }
    wait_for("all rows", Duration::from_secs(900), || {
        shipping.stats().datasets.get(dataset).is_some_and(|delivered| delivered.created == lines)
    });
    println!("{lines} lines in {:.0} s", start.elapsed().as_secs_f64());
    assert_eq!(count(node, dataset), lines);
    // Each number once: the sum tells one that is missing from one that is there twice.
    let query = json!({"size": 0, "aggs": {"sum": {"sum": {"field": "n"}}}});
    let (_, answer) = node.request("POST", &format!("logs-{dataset}-default/_search"), query);
    assert_eq!(answer["aggregations"]["sum"]["value"], (lines * (lines - 1) / 2) as f64);
    assert_eq!(shipping.stats().duplicates, 0);
}
