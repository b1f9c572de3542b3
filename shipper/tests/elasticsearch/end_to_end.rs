//! A shipper at work, from files to a real Elasticsearch, with faults in between.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kumon_schema::Common;
use kumon_shipper::elasticsearch::ElasticsearchSink;
use kumon_shipper::{Format, Handle, Input, Options, Shipper};
use kumon_testing::{Elasticsearch, require_elasticsearch, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::relay::{Network, Relay};
use crate::support::{Access, count, install_template};

const LIMIT: Duration = Duration::from_secs(30);

/// A shipper of `<folder>/<dataset>.ndjson`; ends with the test.
struct Shipping {
    folder: TempDir,
    handle: Handle,
}

impl Shipping {
    fn start(datasets: &[&str], access: &Access) -> Shipping {
        let folder = tempfile::tempdir().unwrap();
        let input = |dataset: &&str| Input {
            paths: vec![path(folder.path(), dataset).display().to_string()],
            format: Format::Ndjson,
            schema: None,
            dataset: (*dataset).to_owned(),
            timestamp_field: None,
        };
        let options = Options {
            spool: folder.path().join("spool"),
            state: folder.path().join("state"),
            inputs: datasets.iter().map(input).collect(),
            namespace: "default".into(),
            common: Common::default(),
            batch_bytes: 5_000_000,
            dead_letter_bytes: 1 << 20,
            retry_initial: Duration::from_millis(50),
            retry_max: Duration::from_millis(500),
        };
        let sink = ElasticsearchSink::new(access.options.clone()).unwrap();
        let (shipper, handle) = Shipper::new(options, Box::new(sink)).unwrap();
        std::thread::spawn(move || shipper.run());
        Shipping { folder, handle }
    }

    fn append(&self, dataset: &str, numbers: Range<u64>) {
        let path = path(self.folder.path(), dataset);
        let mut text = String::new();
        numbers.for_each(|n| writeln!(text, "{{\"n\":{n}}}").unwrap());
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn wait_until_all_is_delivered(&self) {
        wait_for("all to be delivered", LIMIT, || {
            let stats = self.handle.stats();
            stats.lag == 0 && stats.files > 0 && stats.halted.is_none() && stats.held.is_empty()
        });
    }

    fn wait_until_halted(&self, parts: &[&str]) {
        wait_for(&format!("a halt with {parts:?}"), LIMIT, || {
            let halted = self.handle.stats().halted;
            halted.is_some_and(|halted| parts.iter().all(|part| halted.reason.contains(part)))
        });
    }
}

impl Drop for Shipping {
    fn drop(&mut self) {
        self.handle.stop(Duration::ZERO);
    }
}

fn path(folder: &Path, dataset: &str) -> PathBuf {
    folder.join(format!("{dataset}.ndjson"))
}

fn port(node: &Elasticsearch) -> u16 {
    node.url().rsplit(':').next().unwrap().parse().unwrap()
}

fn through(relays: &[&Relay], node: &Elasticsearch) -> Access {
    let mut access = Access::new(relays.iter().map(|relay| relay.url.clone()).collect(), node.password());
    access.options.timeout = Duration::from_secs(1);
    access
}

fn roll_over(node: &Elasticsearch, dataset: &str) {
    let (status, answer) = node.request("POST", &format!("logs-{dataset}-default/_rollover"), Value::Null);
    assert_eq!((status, &answer["rolled_over"]), (200, &Value::Bool(true)), "{answer}");
}

#[test]
fn no_fault_of_the_network_loses_or_doubles_a_row_even_when_the_stream_rolls_over_meanwhile() {
    if !require_elasticsearch() {
        return;
    }
    let (node, dataset) = (Elasticsearch::shared(), "faults.network");
    install_template(node, dataset);
    let relay = Relay::to(port(node));
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
    let stats = shipping.handle.stats();
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
    let (first, second) = (Relay::to(port(node)), Relay::to(port(node)));
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
    wait_for("both to be held", LIMIT, || shipping.handle.stats().held.len() == 2);
    let held = shipping.handle.stats().held;
    assert!(
        held[&format!("logs-{blocked}-default")].reason.contains("closed the index for writing"),
        "{held:?}"
    );
    assert!(held[&format!("logs-{missing}-default")].reason.contains("kumon setup"), "{held:?}");
    assert!(shipping.handle.stats().halted.is_none());
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
fn two_million_lines_arrive_once_each() {
    if !require_elasticsearch() {
        return;
    }
    const LINES: u64 = 2_000_000;
    let (node, dataset) = (Elasticsearch::shared(), "two.million");
    install_template(node, dataset);
    let shipping = Shipping::start(&[dataset], &Access::of(node));
    let start = Instant::now();
    for first in (0..LINES).step_by(100_000) {
        shipping.append(dataset, first..first + 100_000);
    }
    wait_for("two million rows", Duration::from_secs(900), || {
        shipping.handle.stats().datasets.get(dataset).is_some_and(|delivered| delivered.created == LINES)
    });
    println!("{LINES} lines in {:.0} s", start.elapsed().as_secs_f64());
    assert_eq!(count(node, dataset), LINES);
    // Each number once: the sum tells one that is missing from one that is there twice.
    let query = json!({"size": 0, "aggs": {"sum": {"sum": {"field": "n"}}}});
    let (_, answer) = node.request("POST", &format!("logs-{dataset}-default/_search"), query);
    assert_eq!(answer["aggregations"]["sum"]["value"], (LINES * (LINES - 1) / 2) as f64);
    assert_eq!(shipping.handle.stats().duplicates, 0);
}
