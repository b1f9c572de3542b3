//! Maps that are too small: what finds no room is in the row `other`, or counted as lost.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{BusyCpus, Cgroup, Collected, Collecting, Disk, NAP, Programs, Row, assert_close, usage_of};
use kumon_bpf::Settings;
use kumon_testing::{require, require_bpf};

/// A row sums up the whole test.
const LONG: Duration = Duration::from_secs(60);

fn sum(rows: &[Row], column: &str) -> i64 {
    rows.iter().map(|row| row.number(column)).sum()
}

fn of(rows: &[Row], column: &str, value: &str) -> Vec<Row> {
    rows.iter().filter(|row| row.text(column) == value).cloned().collect()
}

fn lost_for(collected: &Collected, metric: &str, reason: &str) -> i64 {
    let of = collected.losses.iter().filter(|loss| loss.metric == metric && loss.reason == reason);
    of.map(|loss| loss.count as i64).sum()
}

fn full(collected: &Collected, metric: &str) -> i64 {
    lost_for(collected, metric, "map full")
}

#[test]
fn cgroups_beyond_the_room_for_them_are_in_the_row_other() {
    let cgroups = [0, 1, 2].map(|n| Cgroup::new(&format!("kumon-full-{}-{n}", std::process::id())));
    if !require_bpf() || !require(cgroups[0].is_some(), "a cgroup v2 mount") {
        return;
    }
    let mut settings = Settings::default();
    settings.sched.runqlat.per_cgroup = true;
    settings.sched.runqlat.max_cgroups = 1;
    settings.sched.runqlat.interval = LONG;
    settings.sched.runqlat.filter = serde_json::from_str(r#"{"comm": ["kumon-napper"]}"#).unwrap();
    let programs = Programs::new();
    let napper = programs.copy("/usr/bin/python3", "kumon-napper");
    let _busy = BusyCpus::keep();
    let collecting = Collecting::start("sched", settings);
    for cgroup in cgroups.iter().flatten() {
        let mut python = cgroup.command(&napper);
        python.args(["-c", &format!("{NAP}nap(100)")]);
        assert!(python.status().unwrap().success());
    }
    let collected = collecting.stop();
    let rows = collected.rows("runqlat");
    let keys: Vec<&str> = rows.iter().map(|row| row.text("key")).collect();
    assert_eq!(keys, ["all", "cgroup", "other"], "{rows:?}");
    assert!(rows[2].number("count") >= 200, "{rows:?}");
    assert_eq!(rows[1].number("count") + rows[2].number("count"), rows[0].number("count"));
    assert_eq!(full(&collected, "runqlat"), 0);
}

#[test]
fn ended_processes_beyond_the_room_for_them_are_in_the_row_other() {
    if !require_bpf() {
        return;
    }
    let mut settings = Settings::default();
    settings.sched.cputime.max_ended = 2;
    settings.sched.cputime.interval = LONG;
    settings.sched.cputime.filter = serde_json::from_str(r#"{"comm": ["kumon-burner"]}"#).unwrap();
    let programs = Programs::new();
    let burner = programs.copy("/usr/bin/python3", "kumon-burner");
    let collecting = Collecting::start("sched", settings);
    let script = "import time\nwhile time.process_time() < 0.1: pass";
    let mut used = 0;
    for _ in 0..8 {
        used += usage_of(Command::new(&burner).args(["-c", script]).spawn().unwrap().id()).cpu_time;
    }
    let collected = collecting.stop();
    let rows = collected.rows("cputime");
    let other = of(&rows, "pid", "");
    assert_eq!((rows.len(), other.len(), other[0].text("name")), (3, 1, "other"), "{rows:?}");
    // Six of the eight.
    assert!(other[0].number("on_cpu") >= 600_000_000, "{rows:?}");
    assert_close(sum(&rows, "on_cpu"), used, 5);
    assert_eq!(full(&collected, "cputime"), 0);
}

#[test]
fn disks_and_processes_beyond_the_room_for_them_are_in_the_row_other() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let mut settings = Settings::default();
    settings.block.biolatency.max_keys = 1;
    settings.block.biolatency.interval = LONG;
    settings.block.biolatency.filter = serde_json::from_str(r#"{"comm": ["kumon-a", "kumon-b"]}"#).unwrap();
    settings.block.bitesize.max_processes = 1;
    settings.block.bitesize.interval = LONG;
    settings.block.bitesize.filter = settings.block.biolatency.filter.clone();
    let collecting = Collecting::start("block", settings);
    disk.read("kumon-a", "64k", 100);
    disk.write("kumon-b", "64k", 200);
    let collected = collecting.stop();
    for (metric, column) in [("biolatency", "disk"), ("bitesize", "name")] {
        let rows = collected.rows(metric);
        let other = of(&rows, column, "other");
        assert_eq!((rows.len(), other.len()), (2, 1), "{metric}: {rows:?}");
        // A few foreign requests that interrupts issue in their names.
        assert!((300..330).contains(&sum(&rows, "count")), "{metric}: {rows:?}");
        assert_eq!(full(&collected, metric), 0);
    }
}

#[test]
fn requests_beyond_the_room_for_them_are_counted_as_lost() {
    if !require_bpf() {
        return;
    }
    const REQUESTS: u32 = 1_000;
    let Some(disk) = Disk::make() else { return };
    let mut settings = Settings::default();
    settings.block.biolatency.max_requests = 1;
    settings.block.biolatency.interval = LONG;
    settings.block.biolatency.filter = serde_json::from_str(r#"{"comm": ["kumon-reader"]}"#).unwrap();
    // Its program is copied before several run it at a time: a copy that is being written can't be executed.
    disk.read("kumon-reader", "64k", 1);
    let collecting = Collecting::start("block", settings);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| disk.read("kumon-reader", "64k", REQUESTS));
        }
    });
    let collected = collecting.stop();
    let (told, lost) = (sum(&collected.rows("biolatency"), "count"), full(&collected, "biolatency"));
    assert!(lost > 0, "the map must be full, or this tests nothing");
    let missed = lost_for(&collected, "biolatency", "missed run");
    let all = i64::from(4 * REQUESTS);
    assert!(
        (all..all + all / 20).contains(&(told + lost + missed)),
        "{told} told, {lost} lost, {missed} missed"
    );
}

#[test]
fn requests_of_which_it_is_not_kept_who_made_them_are_told_and_counted() {
    if !require_bpf() {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    if !require(disk.schedule("mq-deadline"), "the I/O scheduler mq-deadline") {
        return;
    }
    let mut settings = Settings::default();
    settings.block.biolatency.max_requests = 1;
    settings.block.bitesize.interval = LONG;
    let collecting = Collecting::start("block", settings);
    // Each read is cut into more requests than the driver takes at a time, so that some wait.
    std::fs::write(format!("/sys/block/{}/queue/max_sectors_kb", disk.name), "64").unwrap();
    disk.read("kumon-reader", "16M", 4);
    let collected = collecting.stop();
    let bytes = sum(&collected.rows("bitesize"), "sum");
    assert!(bytes >= 64 << 20, "{bytes} bytes told");
    assert!(full(&collected, "bitesize") > 0);
}
