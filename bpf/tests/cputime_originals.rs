//! cputime against cpudist and offcputime of libbpf-tools, at the same time on the same load.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{BusyCpus, Collecting, Original, Row, log2_histogram};
use kumon_bpf::Settings;
use kumon_testing::{Child, require_bpf, require_program, wait_for};

/// How often the kernel switches the load out as it sleeps.
const SLEEPS: i64 = 2_000;

/// A process that sleeps for about a millisecond with some work between, until it was switched out [`SLEEPS`] times. Not
/// each sleep does that: where a machine has its CPU taken away, a sleep's time may be up before it began.
fn sleeping() -> String {
    let switches = r"sub switches {
        open my $status, '<', '/proc/self/status' or die;
        join('', <$status>) =~ /^voluntary_ctxt_switches:\s*(\d+)/m or die;
        return $1;
    }";
    let hundred = "for (1..100) { select(undef, undef, undef, 0.001); my $x = 0; $x += $_ for 1..2000 }";
    format!("{switches} my $enough = switches() + {SLEEPS}; while (switches() < $enough) {{ {hundred} }}")
}

/// One that only computes.
const COMPUTING: &str = "my $x = 0; $x += $_ for 1..30_000_000";

/// Perl on the first CPU.
fn perl(script: &str) -> Command {
    let mut perl = Command::new("taskset");
    perl.args(["--cpu-list", "0", "perl", "-e", script]).stdin(Stdio::piped());
    perl
}

/// Runs a load beside `original`, and gives the row of cputime that tells of it and the original's lines.
/// The time the load waited for its line comes last.
fn beside(load: &str, original: impl FnOnce(u32) -> Original) -> (Row, Vec<String>, Duration) {
    let mut settings = Settings::default();
    settings.sched.cputime.interval = Duration::from_secs(600);
    // It begins once it has read a line.
    let mut load = Child::spawn(&mut perl(&format!("<STDIN>; {load}")));
    let pid = load.id();
    let begin = Instant::now();
    let collecting = Collecting::start("sched", settings);
    let original = original(pid);
    let waited = begin.elapsed();
    load.inner().stdin.take().unwrap().write_all(b"\n").unwrap();
    load.wait(Duration::from_secs(60));
    let lines = original.stop();
    let rows = collecting.stop().rows("cputime");
    let mut of_load = rows.into_iter().filter(|row| row.text("pid") == pid.to_string());
    (of_load.next().unwrap(), lines, waited)
}

#[test]
fn a_process_is_preempted_as_often_as_cpudist_sees() {
    if !require_bpf() || !require_program("cpudist") {
        return;
    }
    let mut rival = Child::spawn(&mut perl("1 while 1"));
    // It counts a time on the CPU where it ends although the process would go on.
    let (row, lines, _) = beside(COMPUTING, |pid| {
        let original = Original::start(&format!("cpudist -p {pid}"));
        wait_for("cpudist to trace", Duration::from_secs(30), || !original.lines().is_empty());
        original
    });
    rival.kill().unwrap();
    let theirs: u64 = log2_histogram(&lines, "usecs").values().sum();
    let ours = row.number("involuntary_switches") as u64;
    assert!(theirs >= 50, "{lines:?}");
    // What happened before the original looked, and the end.
    assert!(ours.abs_diff(theirs) <= theirs / 50 + 2, "{ours} {theirs}");
}

#[test]
fn a_process_is_off_the_cpu_as_long_as_cpudist_sees() {
    if !require_bpf() || !require_program("cpudist") {
        return;
    }
    let _busy = BusyCpus::keep();
    let (row, lines, waited) = beside(&sleeping(), |pid| {
        let original = Original::start(&format!("cpudist -O -p {pid}"));
        wait_for("cpudist to trace", Duration::from_secs(30), || !original.lines().is_empty());
        original
    });
    // It tells a distribution, no sum: between the buckets' lower and upper bounds.
    let theirs = log2_histogram(&lines, "usecs");
    let least: u64 = theirs.iter().map(|(low, count)| low * count).sum();
    let most: u64 = theirs.iter().map(|(low, count)| (2 * low).max(2) * count).sum();
    let times: u64 = theirs.values().sum();
    // On a busy machine it misses up to one in a hundred.
    assert!(times as i64 >= SLEEPS * 98 / 100, "{lines:?}");
    // It counts each return to the CPU; what happened before it looked, and the end, are not among them.
    let switches = (row.number("voluntary_switches") + row.number("involuntary_switches")) as u64;
    assert!(switches.abs_diff(times) <= times / 50 + 2, "{switches} {times}");
    // The first sleep, for the line that starts the load, began before the original looked.
    let ours = row.number("off_cpu") as u64 / 1_000;
    assert!(ours >= least && ours <= most + waited.as_micros() as u64, "{ours} us, {theirs:?}");
}
