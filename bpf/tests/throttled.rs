//! Waits that a CPU quota makes, and those beside it, of groups whose quota the test sets.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, Quota, Row, cpu_time_now, with_budget};
use kumon_bpf::Settings;
use kumon_testing::{Child, load_size, require_bpf, time_scale, wait_for};

const SPIN: [&str; 2] = ["-c", "while :; do :; done"];

fn settings(processes: &[&Child]) -> Settings {
    let pids: Vec<u32> = processes.iter().map(|process| process.id()).collect();
    let of_them: kumon_collect::Filter = serde_json::from_str(&format!(r#"{{"pid": {pids:?}}}"#)).unwrap();
    let mut settings = with_budget(Settings { ring_buffer_bytes: 4 << 20, ..Settings::default() }, 0);
    settings.sched.runqslower.threshold = Duration::from_nanos(1);
    settings.sched.runqslower.filter = of_them.clone();
    settings.sched.runqlat.filter = of_them;
    settings
}

fn waits_of(collected: &Collected, process: &Child) -> Vec<Row> {
    let mut rows = collected.rows("runqslower");
    rows.retain(|row| row.text("pid") == process.id().to_string());
    rows
}

fn throttled(rows: &[Row]) -> Vec<Row> {
    rows.iter().filter(|row| row.text("throttled") == "true").cloned().collect()
}

fn sum(rows: &[Row], column: &str) -> i64 {
    rows.iter().map(|row| row.number(column)).sum()
}

fn wait_for_periods(quota: &Quota, periods: i64) {
    let before = quota.times_used_up();
    wait_for("the quota to be used up", Duration::from_secs(120), || {
        quota.times_used_up() >= before + periods
    });
}

#[test]
fn waits_of_who_used_up_its_quota_are_told_apart_and_those_for_a_cpu_are_not() {
    if !require_bpf() {
        return;
    }
    let Some(quota) = Quota::new("used-up", 2_000) else { return };
    let spinning = Child::spawn(&mut quota.command("sh", &SPIN));
    let other = Child::spawn(Command::new("sh").args(SPIN));
    wait_for_periods(&quota, 2);
    let collecting = Collecting::start("sched", settings(&[&spinning, &other]));
    let (times, used_up) = (quota.times_used_up(), quota.used_up());
    wait_for_periods(&quota, 60);
    let (times, used_up) = (quota.times_used_up() - times, quota.used_up() - used_up);
    let collected = collecting.stop();

    let rows = throttled(&waits_of(&collected, &spinning));
    // Who ran too long, until a timer tick, pays for it with the next period too: then one wait lasts for two of them.
    let count = rows.len() as i64;
    assert!((5..=times + 2).contains(&count), "{count} waits in {times} periods");
    // While it can't run for lack of quota it waits. On a busy machine some of that is a wait for a CPU: since Linux 6.18 who
    // was preempted first has to get one before it is put off. Two waits may have been cut by the readings of the quota.
    let all = waits_of(&collected, &spinning);
    let (waited, longest) =
        (sum(&all, "wait"), all.iter().map(|row| row.number("wait")).max().unwrap_or_default());
    assert!(waited >= used_up - 2 * longest, "{waited} of {used_up} ns: {rows:?}");
    assert!(throttled(&waits_of(&collected, &other)).is_empty());

    let node = collected.rows("runqlat");
    assert_eq!(sum(&node, "throttled_count"), rows.len() as i64);
    assert_eq!(sum(&node, "throttled_sum"), sum(&rows, "wait"));
    let all: i64 =
        [&spinning, &other].iter().map(|process| sum(&waits_of(&collected, process), "wait")).sum();
    assert_eq!(sum(&node, "sum") + sum(&node, "throttled_sum"), all);
    let buckets: i64 = sum(&collected.rows("runqlat_hist"), "count");
    assert_eq!(buckets, sum(&node, "count"), "those for quota are in no bucket");
}

#[test]
fn who_wakes_up_while_its_quota_is_used_up_waits_for_it() {
    if !require_bpf() {
        return;
    }
    let Some(quota) = Quota::new("woken", 2_000) else { return };
    let spinning = Child::spawn(&mut quota.command("sh", &SPIN));
    // Nearly always it is woken in the 48 ms in which nobody of the group may run.
    let sleeping = "import time\nwhile True: time.sleep(0.007)";
    let sleeper = Child::spawn(Command::new("/usr/bin/python3").args(["-S", "-c", sleeping]));
    wait_for("Python to start", Duration::from_secs(60), || waits(&sleeper) >= 50);
    quota.take_in(sleeper.id());
    let collecting = Collecting::start("sched", settings(&[&spinning, &sleeper]));
    // What began before the quota was seen to be used up isn't known on older kernels.
    wait_for("the first wait for quota", Duration::from_secs(60), || {
        !throttled(&collecting.rows("runqslower")).is_empty()
    });
    let begun = collecting.rows("runqslower").len();
    let long_ones_of_sleeper = |mut rows: Vec<Row>| {
        rows.drain(..begun);
        rows.retain(|row| row.text("pid") == sleeper.id().to_string() && row.number("wait") >= 20_000_000);
        rows
    };
    wait_for("long waits of the sleeper", Duration::from_secs(60), || {
        long_ones_of_sleeper(collecting.rows("runqslower")).len() >= load_size(30)
    });
    let long = long_ones_of_sleeper(collecting.stop().rows("runqslower"));
    // Some are for a CPU, where others keep all of them busy.
    let of_quota = throttled(&long);
    assert!(of_quota.len() * 2 >= long.len(), "{} of {}: {long:?}", of_quota.len(), long.len());
}

#[test]
fn a_quota_that_is_not_used_up_makes_no_waits() {
    // An emulated processor may let it run for a whole period and longer before it looks at the quota.
    if !require_bpf() || time_scale() > 1 {
        return;
    }
    let Some(quota) = Quota::new("enough", 49_000) else { return };
    // On the CPU of the one that has the quota runs another one, so that it gets but half of it.
    let pinned = ["--cpu-list", "0", "sh", "-c", SPIN[1]];
    let limited = Child::spawn(&mut quota.command("taskset", &pinned));
    let others = [(); 2].map(|()| Child::spawn(Command::new("taskset").args(pinned)));
    let collecting = Collecting::start("sched", settings(&[&limited, &others[0], &others[1]]));
    let begin = cpu_time_now(limited.id());
    wait_for("it to run", Duration::from_secs(60), || cpu_time_now(limited.id()) >= begin + 500_000_000);
    let collected = collecting.stop();
    let rows = waits_of(&collected, &limited);
    assert!(rows.len() >= 10, "{rows:?}");
    assert_eq!(quota.times_used_up(), 0);
    assert_eq!(throttled(&collected.rows("runqslower")).len(), 0);
    assert_eq!(sum(&collected.rows("runqlat"), "throttled_count"), 0);
}

/// How often a process was switched in after a wait.
fn waits(process: &Child) -> i64 {
    let account = std::fs::read_to_string(format!("/proc/{}/schedstat", process.id())).unwrap();
    account.split_whitespace().nth(2).unwrap().parse().unwrap()
}
