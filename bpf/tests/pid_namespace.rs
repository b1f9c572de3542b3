//! Inside of a pid namespace the kernel lists only the tasks that are in it too; its programs see all of them.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Collecting, cpu_time_now, with_budget};
use kumon_bpf::Settings;
use kumon_testing::{Child, require_bpf, wait_for};

/// A test of this program that runs in a namespace of its own. The two talk by lines.
struct Inside {
    process: std::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Inside {
    fn start(test: &str) -> Inside {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(std::env::current_exe().unwrap());
        unshare.args(["--ignored", "--exact", "--nocapture", test]);
        let mut process = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Inside { process, lines }
    }

    /// What follows these words in the next line that has them; the test's name may stand before them.
    fn hear(&mut self, words: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find_map(|line| Some(line.split_once(words)?.1.trim().to_owned())).unwrap()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn end(mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

/// Whether this is the process that [`Inside::start`] made: the first one of its namespace.
fn is_inside() -> bool {
    std::os::unix::process::parent_id() == 0
}

fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn spin() -> Child {
    Child::spawn(Command::new("sh").args(["-c", "while :; do :; done"]))
}

#[test]
fn waits_of_processes_outside_are_told_too() {
    if !require_bpf() {
        return;
    }
    // With fewer CPUs than that most of these are waiting at any time.
    let spinning: [Child; 6] = std::array::from_fn(|_| spin());
    let mut inside = Inside::start("collects_waits");
    inside.hear("collecting");
    let used = || spinning.each_ref().map(|child| cpu_time_now(child.id()));
    let before = used();
    wait_for("each of them to run", Duration::from_secs(30), || {
        used().iter().zip(before).all(|(now, before)| now - before >= 50_000_000)
    });
    inside.tell("stop");
    let told: BTreeSet<u32> = inside.hear("told").split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(spinning.iter().all(|child| told.contains(&child.id())), "{told:?}");
    inside.end();
}

#[test]
#[ignore = "a process that another test starts"]
fn collects_waits() {
    if !is_inside() {
        return;
    }
    let mut settings = with_budget(Settings { ring_buffer_bytes: 4 << 20, ..Settings::default() }, 0);
    settings.sched.runqslower.threshold = Duration::from_micros(1);
    let collecting = Collecting::start("sched", settings);
    println!("collecting");
    hear();
    let rows = collecting.stop().rows("runqslower");
    println!("told {}", rows.iter().map(|row| row.text("pid")).collect::<Vec<_>>().join(" "));
}

#[test]
fn of_processes_outside_cputime_tells_only_what_it_knows() {
    if !require_bpf() {
        return;
    }
    let mut inside = Inside::start("collects_cpu_time");
    inside.hear("collecting");
    // It spans two readings, so how much of its time was before the last one nobody knows.
    let mut long = spin();
    inside.tell("read");
    inside.hear("read twice");
    long.kill().unwrap();
    // Of those that are shorter than an interval a few may span a reading.
    let short: Vec<u32> = (0..20)
        .map(|_| {
            let mut child = Command::new("sh").args(["-c", ":"]).spawn().unwrap();
            child.wait().unwrap();
            child.id()
        })
        .collect();
    inside.tell("stop");
    let told: BTreeSet<u32> = inside.hear("told").split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(!told.contains(&long.id()), "{told:?}");
    assert!(short.iter().any(|pid| told.contains(pid)), "{short:?} of {told:?}");
    inside.end();
}

#[test]
#[ignore = "a process that another test starts"]
fn collects_cpu_time() {
    if !is_inside() {
        return;
    }
    let mut settings = Settings::default();
    settings.sched.cputime.interval = Duration::from_secs(1);
    let collecting = Collecting::start("sched", settings);
    // So that each interval has a row.
    let _spinning = spin();
    let readings = || {
        collecting.rows("cputime").iter().map(|row| row.text("timestamp").to_owned()).collect::<BTreeSet<_>>()
    };
    println!("collecting");
    hear();
    let before = readings().len();
    wait_for("two readings", Duration::from_secs(60), || readings().len() >= before + 2);
    println!("read twice");
    hear();
    let rows = collecting.stop().rows("cputime");
    let pids = rows.iter().map(|row| row.text("pid")).filter(|pid| !pid.is_empty());
    println!("told {}", pids.collect::<Vec<_>>().join(" "));
}
