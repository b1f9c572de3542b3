//! runqlat and runqslower against the originals of libbpf-tools, at the same time on the same load.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use common::{Collecting, Original, log2_histogram, percentile_bucket, with_budget};
use kumon_bpf::Settings;
use kumon_testing::{load_size, require_bpf, require_program, time_scale, wait_for};

fn stress(arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut stress = Command::new("stress-ng");
    stress.args(arguments).args(["--quiet", "--temp-path"]).arg(folder.path());
    assert!(stress.status().unwrap().success(), "{stress:?}");
}

#[test]
fn waits_are_distributed_as_runqlat_sees_them() {
    if !require_bpf() || !require_program("runqlat") || !require_program("stress-ng") {
        return;
    }
    let original = Original::start("runqlat");
    wait_for("runqlat to trace", Duration::from_secs(30), || !original.lines().is_empty());
    let mut settings = Settings::default();
    // Many intervals: nothing may get lost between them.
    settings.sched.runqlat.interval = Duration::from_millis(50);
    let collecting = Collecting::start("sched", settings);
    // Four pairs that wake each other, on two CPUs or so: more waiting than running.
    let switches = load_size(500_000).to_string();
    stress(&["--switch", "4", "--switch-ops", &switches, "--switch-method", "pipe"]);
    let collected = collecting.stop();
    let theirs = log2_histogram(&original.stop(), "usecs");

    let mut ours: BTreeMap<u64, u64> = BTreeMap::new();
    for row in collected.rows("runqlat_hist") {
        // Below 2 us the original has one bucket.
        let low = row.number("low") as u64 / 1_000;
        *ours.entry(if low < 2 { 0 } else { low }).or_default() += row.number("count") as u64;
    }
    let (our_total, their_total) = (ours.values().sum::<u64>(), theirs.values().sum::<u64>());
    assert!(their_total > load_size(100_000) as u64, "{theirs:?}");
    assert!(our_total.abs_diff(their_total) * 50 <= their_total, "{ours:?} {theirs:?}");
    for percent in [50, 99] {
        let (our_bucket, their_bucket) =
            (percentile_bucket(&ours, percent), percentile_bucket(&theirs, percent));
        assert!(our_bucket.abs_diff(their_bucket) <= 1, "p{percent}: {ours:?} {theirs:?}");
    }

    let rows = collected.rows("runqlat");
    assert!(rows.len() >= 2, "several intervals: {rows:?}");
    assert_eq!(rows.iter().map(|row| row.number("count") as u64).sum::<u64>(), our_total);
    for row in &rows {
        let [min, p50, p90, p99, max] = ["min", "p50", "p90", "p99", "max"].map(|column| row.number(column));
        assert!([min, p50, p90, p99, max].is_sorted(), "{row:?}");
        assert!(
            row.number("sum") >= min * row.number("count") && row.number("sum") <= max * row.number("count")
        );
    }
    assert_eq!(collected.losses.iter().map(|loss| loss.count).sum::<u64>(), 0);
}

/// Thread and wait (us) of each line `TIME COMM TID LAT(us)` that is about the load.
fn told_by_runqslower(lines: &[String]) -> Vec<(i64, i64)> {
    let told = |line: &String| {
        let mut words = line.split_whitespace().rev();
        let wait = words.next()?.parse().ok()?;
        Some((words.next()?.parse().ok()?, wait))
    };
    lines.iter().filter(|line| line.contains("stress-ng-cpu")).filter_map(told).collect()
}

/// How many waits (us) are how long.
fn by_powers_of_two(waits: &[(i64, i64)]) -> BTreeMap<u64, u64> {
    let mut histogram = BTreeMap::new();
    for (_, wait) in waits {
        *histogram.entry(1 << wait.ilog2()).or_default() += 1;
    }
    histogram
}

/// Each of theirs is one of ours. The original reads the clock at tracepoints a moment after the scheduler has read its own:
/// more than that moment lies between where the hypervisor takes the CPU away in it, which may happen to one in fifty, and
/// for more than 2 ms to one in two hundred. Both are sorted.
fn assert_each_is_told(theirs: &[(i64, i64)], mut ours: Vec<(i64, i64)>) {
    let mut take = |tid: i64, wait: i64, moment: i64| {
        let same = |other: &(i64, i64)| other.0 == tid && (other.1 - wait).abs() <= moment + wait / 50;
        ours.iter().position(same).map(|index| ours.remove(index))
    };
    let apart: Vec<_> = theirs.iter().filter(|(tid, wait)| take(*tid, *wait, 100).is_none()).collect();
    let missing: Vec<_> = apart.iter().filter(|(tid, wait)| take(*tid, *wait, 2_000).is_none()).collect();
    assert!(missing.len() <= 1 + theirs.len() / 200, "missing {missing:?}, left over {ours:?}");
    assert!(apart.len() <= 1 + theirs.len() / 50, "{apart:?} of {}", theirs.len());
}

#[test]
fn long_waits_are_those_that_runqslower_tells() {
    if !require_bpf() || !require_program("runqslower") || !require_program("stress-ng") {
        return;
    }
    const THRESHOLD: Duration = Duration::from_millis(2);
    let original = Original::start(&format!("runqslower {}", THRESHOLD.as_micros()));
    wait_for("runqslower to trace", Duration::from_secs(30), || original.lines().len() >= 2);
    let mut settings = with_budget(Settings::default(), 0);
    settings.sched.runqslower.threshold = THRESHOLD;
    let collecting = Collecting::start("sched", settings);
    // Eight for two CPUs, so that each waits again and again.
    stress(&["--cpu", "8", "--timeout", "4s"]);
    let collected = collecting.stop();
    let rows: Vec<_> = collected.rows("runqslower");
    let mut ours: Vec<(i64, i64)> = rows
        .iter()
        .filter(|row| row.text("thread_name").starts_with("stress-ng-cpu"))
        .map(|row| (row.number("tid"), row.number("wait") / 1_000))
        .collect();
    // It prints long after the event where the processor is slow.
    wait_for("runqslower to print what it saw", Duration::from_secs(30), || {
        told_by_runqslower(&original.lines()).len() * 50 >= ours.len() * 49
    });
    let mut theirs = told_by_runqslower(&original.stop());
    assert!(theirs.len() > 100, "{theirs:?}");
    assert!(ours.len().abs_diff(theirs.len()) * 50 <= theirs.len(), "{} {}", ours.len(), theirs.len());
    for percent in [50, 99] {
        let bucket = |waits: &[(i64, i64)]| percentile_bucket(&by_powers_of_two(waits), percent);
        assert!(bucket(&ours).abs_diff(bucket(&theirs)) <= 1, "p{percent}: {ours:?} {theirs:?}");
    }
    // On an emulated processor milliseconds may pass between the two programs at one event: the other processor's turn.
    if time_scale() == 1 {
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_each_is_told(&theirs, ours);
    }
    let threshold = THRESHOLD.as_nanos() as i64;
    assert!(rows.iter().all(|row| row.number("wait") >= threshold && row.number("cpu") < 4096));
    assert_eq!(collected.lost("runqslower"), 0);
}
