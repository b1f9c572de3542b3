//! biolatency and bitesize against what the load itself did, and against the originals of libbpf-tools.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::Duration;

use common::{Cgroup, Collected, Collecting, Disk, Original, Row, log2_histogram, nearly, percentile_bucket};
use kumon_bpf::Settings;
use kumon_testing::{Child, require, require_bpf, require_program, wait_for};

const BLOCK: i64 = 64 << 10;

fn settings(interval: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.block.bitesize.interval = interval;
    settings.block.biolatency.interval = interval;
    settings
}

fn of(rows: Vec<Row>, column: &str, value: &str) -> Vec<Row> {
    rows.into_iter().filter(|row| row.text(column) == value).collect()
}

fn sum(rows: &[Row], column: &str) -> i64 {
    rows.iter().map(|row| row.number(column)).sum()
}

/// Every request is told, but for those of a missed run (where an interrupt of another disk comes in between, the kernel
/// leaves out the program, and that is counted) and those for which the kernel had no memory at once: they are in `other`.
#[track_caller]
fn assert_counted(collected: &Collected, metric: &str, rows: &[Row], expected: i64) {
    let missed = collected.losses.iter().filter(|loss| loss.metric == metric && loss.reason == "missed run");
    let missed: i64 = missed.map(|loss| loss.count as i64).sum();
    let name = if metric == "biolatency" { "disk" } else { "name" };
    let others = sum(&of(collected.rows(metric), name, "other"), "count");
    let told = sum(rows, "count");
    assert!(
        (nearly(expected) - missed - others..=expected).contains(&told) && missed + others < 10,
        "{told} of {expected}, {missed} missed, {others} in the row other: {rows:?}"
    );
}

/// Rows of a metric for a process, those of its own sizes only: an interrupt may issue foreign requests in its name.
fn sizes(collected: &Collected, name: &str, low: i64) -> Vec<Row> {
    of(of(collected.rows("bitesize_hist"), "name", name), "low", &low.to_string())
}

#[test]
fn every_request_of_a_marked_process_is_counted_once_across_many_intervals() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    const WRITES: i64 = 3_000;
    let collecting = Collecting::start("block", settings(Duration::from_millis(30)));
    for _ in 0..WRITES / 200 {
        disk.write("kumon-writer", "64k", 200);
    }
    let collected = collecting.stop();
    let buckets = sizes(&collected, "kumon-writer", BLOCK);
    assert!(buckets.len() > 3, "several intervals: {buckets:?}");
    assert_counted(&collected, "bitesize", &buckets, WRITES);
    let mut undisturbed = of(collected.rows("bitesize"), "name", "kumon-writer");
    undisturbed.retain(|row| row.number("min") == row.number("max"));
    for row in undisturbed {
        assert_eq!((row.number("sum"), row.number("p50")), (row.number("count") * BLOCK, BLOCK), "{row:?}");
    }

    let writes = |metric| of(of(collected.rows(metric), "disk", &disk.name), "operation", "write");
    let latencies = writes("biolatency");
    assert_counted(&collected, "biolatency", &latencies, WRITES);
    assert_eq!(sum(&writes("biolatency_hist"), "count"), sum(&latencies, "count"));
    for row in latencies {
        let values = ["min", "p50", "p90", "p99", "max"].map(|column| row.number(column));
        assert!(values.is_sorted() && values[0] > 0, "{row:?}");
    }
    let missed = |loss: &&kumon_collect::Loss| loss.reason == "missed run";
    let others = collected.losses.iter().filter(|loss| !missed(loss));
    assert_eq!(others.map(|loss| loss.count).sum::<u64>(), 0);
}

#[test]
fn reads_are_told_from_writes_and_processes_from_each_other() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let mut settings = settings(Duration::from_secs(60));
    // Where there is a udev it reads a disk that was written to.
    settings.block.biolatency.filter =
        serde_json::from_str(r#"{"comm": ["kumon-reader", "kumon-writer"]}"#).unwrap();
    let collecting = Collecting::start("block", settings);
    disk.read("kumon-reader", "64k", 600);
    disk.write("kumon-writer", "16k", 900);
    let collected = collecting.stop();
    for (name, size, count) in [("kumon-reader", BLOCK, 600), ("kumon-writer", 16 << 10, 900)] {
        assert_counted(&collected, "bitesize", &sizes(&collected, name, size), count);
        let rows = of(collected.rows("bitesize"), "name", name);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.number("p50"), row.number("max")), (size, size));
        // Foreign requests of an interrupt at most.
        assert!((count * size..count * size * 21 / 20).contains(&row.number("sum")), "{row:?}");
    }
    let disks = of(collected.rows("biolatency"), "disk", &disk.name);
    assert_counted(&collected, "biolatency", &of(disks.clone(), "operation", "read"), 600);
    assert_counted(&collected, "biolatency", &of(disks, "operation", "write"), 900);
}

#[test]
fn requests_that_wait_in_a_schedulers_queue_are_those_of_who_made_them() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    // What waits there is issued by a worker of the kernel, or by whoever comes next.
    if !require(disk.schedule("mq-deadline"), "the I/O scheduler mq-deadline") {
        return;
    }
    let cgroups = [0, 1, 2, 3].map(|n| Cgroup::new(&format!("kumon-queue-{}-{n}", std::process::id())));
    if !require(cgroups[0].is_some(), "a cgroup v2 mount") {
        return;
    }
    let mut settings = settings(Duration::from_secs(60));
    settings.block.biolatency.per_cgroup = true;
    let collecting = Collecting::start("block", settings);
    // Each at a place of its own, so that none of their requests are merged.
    let writers = cgroups.iter().flatten().enumerate().map(|(number, cgroup)| {
        let mut dd = cgroup.command("dd");
        dd.args(["if=/dev/zero", "oflag=direct", "bs=64k", "count=200", "status=none"]);
        Child::spawn(dd.args([format!("of={}", disk.device()), format!("seek={}", number * 250)]))
    });
    for mut writer in writers.collect::<Vec<_>>() {
        writer.wait(Duration::from_secs(60));
    }
    let collected = collecting.stop();
    let writes = of(collected.rows("biolatency"), "disk", &disk.name);
    for cgroup in cgroups.iter().flatten() {
        let id = cgroup.id().to_string();
        let sizes = of(of(collected.rows("bitesize_hist"), "cgroup_id", &id), "low", &BLOCK.to_string());
        assert!(sizes.iter().all(|row| row.text("name") == "dd"), "{sizes:?}");
        assert_counted(&collected, "bitesize", &sizes, 200);
        assert_counted(&collected, "biolatency", &of(writes.clone(), "cgroup_id", &id), 200);
    }
}

#[test]
fn a_disk_that_vanished_keeps_its_row() {
    if !require_bpf() {
        return;
    }
    // include/uapi/linux/loop.h
    const LOOP_CTL_ADD: u64 = 0x4C80;
    const LOOP_CTL_REMOVE: u64 = 0x4C81;
    let control = std::fs::File::open("/dev/loop-control").unwrap();
    let number = std::process::id() % 1_000_000 + 1_000;
    // SAFETY: both take a number and no pointer.
    let control = |request| unsafe { libc::ioctl(control.as_raw_fd(), request, number) };
    assert!(control(LOOP_CTL_ADD) >= 0, "{}", std::io::Error::last_os_error());
    let device = format!("/dev/loop{number}");
    let Some(disk) = Disk::make_as(Some(&device)) else { return };
    let name = disk.name.clone();
    let collecting = Collecting::start("block", settings(Duration::from_secs(60)));
    disk.write("kumon-writer", "64k", 100);
    drop(disk);
    // Before 5.14 it gives the disk's number.
    wait_for("the disk to vanish", Duration::from_secs(30), || control(LOOP_CTL_REMOVE) >= 0);
    assert!(!std::path::Path::new("/sys/block").join(&name).exists());
    let collected = collecting.stop();
    let writes = of(collected.rows("biolatency"), "disk", &name);
    assert_counted(&collected, "biolatency", &of(writes, "operation", "write"), 100);
    assert_counted(&collected, "bitesize", &sizes(&collected, "kumon-writer", BLOCK), 100);
}

#[test]
fn hostile_names_come_back_byte_by_byte() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let collecting = Collecting::start("block", settings(Duration::from_secs(60)));
    disk.read("a,b\"\n=1+1", "64k", 100);
    let collected = collecting.stop();
    for metric in ["bitesize", "bitesize_hist"] {
        let mut rows = collected.rows(metric);
        rows.retain(|row| row.bytes("name") == b"a,b\"\n=1+1");
        assert!(sum(&rows, "count") >= 100, "{metric}: {rows:?}");
    }
}

#[test]
fn processes_bear_their_cgroup_and_latencies_are_told_by_it_where_asked_for() {
    if !require_bpf() {
        return;
    }
    let cgroups = ["a", "b"].map(|name| Cgroup::new(&format!("kumon-{name}-{}", std::process::id())));
    if !require(cgroups[0].is_some(), "a cgroup v2 mount") {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let mut settings = settings(Duration::from_secs(60));
    settings.block.biolatency.per_cgroup = true;
    let collecting = Collecting::start("block", settings);
    let counts = [300, 200];
    for (cgroup, count) in cgroups.iter().zip(counts) {
        let mut dd = cgroup.as_ref().unwrap().command("dd");
        dd.args(["of=/dev/null", "iflag=direct", "bs=64k", "status=none"]);
        dd.args([format!("if={}", disk.device()), format!("count={count}")]);
        assert!(dd.status().unwrap().success());
    }
    let collected = collecting.stop();
    let disks = of(collected.rows("biolatency"), "disk", &disk.name);
    for (cgroup, count) in cgroups.iter().zip(counts) {
        let id = cgroup.as_ref().unwrap().id().to_string();
        assert_counted(&collected, "biolatency", &of(disks.clone(), "cgroup_id", &id), count);
        let sizes = of(of(collected.rows("bitesize_hist"), "cgroup_id", &id), "low", &BLOCK.to_string());
        assert_counted(&collected, "bitesize", &sizes, count);
    }
}

#[test]
fn a_filter_leaves_out_other_processes_requests() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let mut settings = settings(Duration::from_secs(60));
    settings.block.biolatency.filter = serde_json::from_str(r#"{"comm": ["kumon-reader"]}"#).unwrap();
    settings.block.bitesize.filter = serde_json::from_str(r#"{"comm": ["kumon-writer"]}"#).unwrap();
    settings.block.bitesize.sample = serde_json::from_str("3").unwrap();
    let collecting = Collecting::start("block", settings);
    disk.read("kumon-reader", "64k", 200);
    disk.write("kumon-writer", "64k", 600);
    let collected = collecting.stop();
    let disks = of(collected.rows("biolatency"), "disk", &disk.name);
    assert_counted(&collected, "biolatency", &of(disks.clone(), "operation", "read"), 200);
    assert_eq!(sum(&of(disks, "operation", "write"), "count"), 0);
    let rows = collected.rows("bitesize");
    assert!(rows.iter().all(|row| row.text("name") == "kumon-writer"), "{rows:?}");
    // On a busy machine it issues other processes' requests too: those that waited for their disk.
    let (taken, all) = (sum(&rows, "count"), sum(&rows, "count") + collected.lost("bitesize") as i64);
    assert!(all >= 600 && (all / 4..all / 2).contains(&taken), "{taken} of {all}: {rows:?}");
}

#[test]
fn what_is_below_the_top_is_summed_in_the_row_other() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let mut limited = settings(Duration::from_secs(60));
    limited.block.bitesize.top = 1;
    let limited = Collecting::start("block", limited);
    let all = Collecting::start("block", settings(Duration::from_secs(60)));
    for (name, count) in [("kumon-a", 200), ("kumon-b", 150), ("kumon-c", 100)] {
        disk.read(name, "64k", count);
    }
    let (all, limited) = (all.stop(), limited.stop());
    let rows = limited.rows("bitesize");
    assert_eq!(rows.len(), 2, "{rows:?}");
    let others = of(rows, "pid", "");
    assert_eq!((others.len(), others[0].text("name")), (1, "other"));
    let blocks = |rows| sum(&of(rows, "low", &BLOCK.to_string()), "count");
    let (some, all) = (blocks(limited.rows("bitesize_hist")), blocks(all.rows("bitesize_hist")));
    assert!(some >= 450 && (some - all).abs() * 50 <= all, "{some} with the limit, {all} without");
}

#[test]
fn sizes_are_those_that_bitesize_tells() {
    if !require_bpf() || !require_program("bitesize") {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    // Only these: interrupts issue foreign requests in the name of whoever runs.
    let original = Original::start(&format!("bitesize -d {}", disk.name));
    wait_for("bitesize to trace", Duration::from_secs(30), || !original.lines().is_empty());
    let collecting = Collecting::start("block", settings(Duration::from_millis(100)));
    let expected = BTreeMap::from([(8, 400), (16, 300), (64, 200)]);
    for (&kilobytes, &count) in &expected {
        disk.read("kumon-sizes", &format!("{kilobytes}k"), count as u32);
    }
    let collected = collecting.stop();
    let lines = original.stop();
    // It tells requests that waited in a queue as those of the kernel's worker that issues them.
    let mut theirs: BTreeMap<u64, u64> = BTreeMap::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("Process Name")) {
        assert!(line.contains("kumon-sizes") || line.contains("kworker/"), "{lines:?}");
        for (kilobytes, count) in
            log2_histogram(&lines[start..], "Kbytes").into_iter().filter(|(_, n)| *n > 0)
        {
            *theirs.entry(kilobytes).or_default() += count;
        }
    }
    assert_eq!(theirs, expected);
    for (kilobytes, count) in theirs {
        let ours = sum(&sizes(&collected, "kumon-sizes", kilobytes as i64 * 1024), "count");
        assert_eq!(ours, count as i64, "{kilobytes} KiB");
    }
}

#[test]
fn latencies_are_distributed_as_biolatency_sees_them() {
    if !require_bpf() || !require_program("biolatency") {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let original = Original::start(&format!("biolatency -d {}", disk.name));
    wait_for("biolatency to trace", Duration::from_secs(30), || !original.lines().is_empty());
    let collecting = Collecting::start("block", settings(Duration::from_millis(100)));
    for _ in 0..4 {
        disk.read("kumon-reader", "4k", 5_000);
        disk.write("kumon-writer", "4k", 5_000);
    }
    let collected = collecting.stop();
    let theirs = log2_histogram(&original.stop(), "usecs");

    let mut ours: BTreeMap<u64, u64> = BTreeMap::new();
    for row in of(collected.rows("biolatency_hist"), "disk", &disk.name) {
        // Below 2 us the original has one bucket.
        let low = row.number("low") as u64 / 1_000;
        *ours.entry(if low < 2 { 0 } else { low }).or_default() += row.number("count") as u64;
    }
    let (our_total, their_total) = (ours.values().sum::<u64>(), theirs.values().sum::<u64>());
    assert!(
        // The kernel may merge neighbouring requests.
        our_total >= 39_000 && our_total.abs_diff(their_total) * 50 <= their_total,
        "{ours:?} {theirs:?}"
    );
    for percent in [50, 99] {
        let (our_bucket, their_bucket) =
            (percentile_bucket(&ours, percent), percentile_bucket(&theirs, percent));
        assert!(our_bucket.abs_diff(their_bucket) <= 1, "p{percent}: {ours:?} {theirs:?}");
    }
}
