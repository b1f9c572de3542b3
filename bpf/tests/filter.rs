//! Filters and samples against loads whose processes the test knows.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{BusyCpus, Cgroup, Collected, Collecting, NAP, Programs, Row, assert_close, nearly, usage_of};
use kumon_bpf::{Settings, collectors};
use kumon_collect::Filter;
use kumon_testing::{require, require_bpf, wait_for};

const NOBODY: u32 = 65_534;

impl Programs {
    fn run(&self, name: &str) -> u32 {
        end(Command::new(self.copy("/bin/true", name)))
    }
}

/// Runs a command to its end and returns its process id.
fn end(mut command: Command) -> u32 {
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success(), "{command:?}");
    pid
}

fn filter(json: &str) -> Filter {
    serde_json::from_str(json).unwrap()
}

/// A filter of exec and exit.
fn of_processes(json: &str) -> Settings {
    let mut settings = Settings::default();
    settings.process.exec.filter = filter(json);
    settings.process.exit.filter = filter(json);
    settings
}

fn pids(rows: &[Row]) -> BTreeSet<u32> {
    rows.iter().map(|row| row.number("pid") as u32).collect()
}

fn assert_only(collected: &Collected, expected: &[u32]) {
    for metric in ["exec", "exit"] {
        assert_eq!(pids(&collected.rows(metric)), expected.iter().copied().collect(), "{metric}");
    }
}

#[test]
fn names_choose_processes_however_hostile() {
    if !require_bpf() {
        return;
    }
    let programs = Programs::new();
    let collecting =
        Collecting::start("process", of_processes(r#"{"comm": ["kumon-chosen", "a,b\"\n=1+1"]}"#));
    let chosen = ["kumon-chosen", "a,b\"\n=1+1"].map(|name| programs.run(name));
    programs.run("kumon-other");
    // Longer than the chosen name, and shorter.
    programs.run("kumon-chosen2");
    programs.run("kumon");
    assert_only(&collecting.stop(), &chosen);
}

#[test]
fn a_process_has_to_meet_every_key_by_one_of_its_values() {
    if !require_bpf() {
        return;
    }
    let programs = Programs::new();
    let json = format!(r#"{{"uid": [{NOBODY}, 12345], "comm": ["kumon-a", "kumon-b"]}}"#);
    let collecting = Collecting::start("process", of_processes(&json));
    let as_user = |name, uid| {
        let mut command = Command::new(programs.copy("/bin/true", name));
        command.uid(uid);
        end(command)
    };
    let both = [as_user("kumon-a", NOBODY), as_user("kumon-b", 12345)];
    as_user("kumon-c", NOBODY);
    as_user("kumon-a", 0);
    assert_only(&collecting.stop(), &both);
}

#[test]
fn a_pid_chooses_one_process() {
    if !require_bpf() {
        return;
    }
    let programs = Programs::new();
    let (chosen, other) =
        (programs.copy("/bin/true", "kumon-chosen"), programs.copy("/bin/true", "kumon-other"));
    // Shells that wait for a line before they become the programs.
    let waiting = |program: &Path| {
        let mut sh = Command::new("sh");
        sh.args(["-c", "read line; exec \"$0\""]).arg(program);
        sh.stdin(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut shells = [waiting(&chosen), waiting(&other)];
    let pid = shells[0].id();
    let collecting = Collecting::start("process", of_processes(&format!(r#"{{"pid": [{pid}]}}"#)));
    for shell in &mut shells {
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
    assert_only(&collecting.stop(), &[pid]);
}

#[test]
fn cgroups_are_chosen_by_path_or_id_with_all_below_them() {
    if !require_bpf() {
        return;
    }
    let outer = Cgroup::new(&format!("kumon-outer-{}", std::process::id()));
    if !require(outer.is_some(), "a cgroup v2 mount") {
        return;
    }
    let outer = outer.unwrap();
    let name = outer.0.file_name().unwrap().to_str().unwrap().to_owned();
    let middle = Cgroup::new(&format!("{name}/middle")).unwrap();
    let inner = Cgroup::new(&format!("{name}/middle/inner")).unwrap();
    let beside = Cgroup::new(&format!("{name}-beside")).unwrap();
    let folder = middle.0.display();
    for filter in [
        format!(r#"{{"cgroup": ["/{name}/middle"]}}"#),
        format!(r#"{{"cgroup": ["{folder}"]}}"#),
        format!(r#"{{"cgroup": [{}]}}"#, middle.id()),
    ] {
        // The shell that enters the cgroup is not in it yet when it is executed.
        let collecting = Collecting::start("process", of_processes(&filter));
        let inside = [end(middle.command("/bin/true")), end(inner.command("/bin/true"))];
        end(outer.command("/bin/true"));
        end(beside.command("/bin/true"));
        end(Command::new("/bin/true"));
        assert_only(&collecting.stop(), &inside);
    }
}

#[test]
fn a_cgroup_that_comes_later_or_anew_is_found_under_its_path() {
    if !require_bpf() || !require(Cgroup::mount().is_some(), "a cgroup v2 mount") {
        return;
    }
    let name = format!("kumon-later-{}", std::process::id());
    let collecting = Collecting::start("process", of_processes(&format!(r#"{{"cgroup": ["/{name}"]}}"#)));
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let cgroup = Cgroup::new(&name).unwrap();
        ids.insert(cgroup.id());
        let before = collecting.rows("exec").len();
        wait_for("the cgroup to be found", Duration::from_secs(10), || {
            end(cgroup.command("/bin/true"));
            collecting.rows("exec").len() > before
        });
    }
    assert_eq!(ids.len(), 2, "the second cgroup must be another one, or this tests nothing");
    collecting.stop();
}

#[test]
fn a_cgroup_of_v1_is_refused_with_what_to_name_instead() {
    let mount = Cgroup::mount();
    if !require_bpf() || !require(mount.is_some(), "a cgroup v2 mount") {
        return;
    }
    if mount.as_deref() == Some(Path::new("/sys/fs/cgroup")) {
        return; // Nothing there is v1's.
    }
    let settings = of_processes(r#"{"cgroup": ["/sys/fs/cgroup/memory/some"]}"#);
    let collectors = collectors(&settings);
    let process = collectors.iter().find(|collector| collector.name() == "process").unwrap();
    let message = process.start().err().unwrap().to_string();
    let expected = format!(
        "belongs to a cgroup v1 hierarchy; name the cgroup v2 one below {}",
        mount.unwrap().display()
    );
    assert!(message.contains(&expected), "{message}");
}

#[test]
fn one_in_so_many_is_told_and_the_others_are_counted() {
    if !require_bpf() {
        return;
    }
    const PROCESSES: u64 = 800;
    let programs = Programs::new();
    let mut settings = of_processes(r#"{"comm": ["kumon-sampled"]}"#);
    settings.process.exec.sample = serde_json::from_str("4").unwrap();
    let collecting = Collecting::start("process", settings);
    for _ in 0..PROCESSES {
        programs.run("kumon-sampled");
    }
    let collected = collecting.stop();
    let told = collected.rows("exec").len() as u64;
    let sampled_out: u64 = collected
        .losses
        .iter()
        .filter(|loss| loss.metric == "exec" && loss.reason == "sampled out")
        .map(|loss| loss.count)
        .sum();
    assert_eq!(told + sampled_out, PROCESSES);
    // Six standard deviations around a quarter.
    assert!((127..=273).contains(&told), "{told}");
    assert_eq!((collected.rows("exit").len() as u64, collected.lost("exit")), (PROCESSES, 0));
}

/// Starts what runs for so many milliseconds of CPU time under a name.
fn burn(programs: &Programs, name: &str, milliseconds: u64) -> u32 {
    let script = format!("import time\nwhile time.process_time() < {}: pass", milliseconds as f64 / 1000.0);
    let mut python = Command::new(programs.copy("/usr/bin/python3", name));
    python.args(["-c", &script]);
    python.spawn().unwrap().id()
}

#[test]
fn each_metric_of_a_shared_program_has_its_own_filter() {
    if !require_bpf() {
        return;
    }
    let programs = Programs::new();
    let mut settings = Settings::default();
    settings.sched.cputime.filter = filter(r#"{"comm": ["kumon-chosen"]}"#);
    settings.sched.runqlat.filter = filter(r#"{"comm": ["kumon-nobody"]}"#);
    settings.sched.runqslower.threshold = Duration::from_nanos(1);
    settings.sched.runqslower.filter = filter(r#"{"comm": ["kumon-other"]}"#);
    let collecting = Collecting::start("sched", settings);
    let chosen = burn(&programs, "kumon-chosen", 200);
    let used = usage_of(chosen).cpu_time;
    let other = burn(&programs, "kumon-other", 200);
    usage_of(other);
    let collected = collecting.stop();
    let [row] = &collected.rows("cputime")[..] else { panic!("{:?}", collected.rows("cputime")) };
    assert_eq!(row.number("pid") as u32, chosen);
    assert!(row.number("on_cpu") >= 180_000_000, "{row:?}");
    assert_close(row.number("on_cpu"), used, 5);
    assert_eq!(collected.rows("runqlat").len(), 0);
    assert_eq!(pids(&collected.rows("runqslower")), BTreeSet::from([other]));
}

#[test]
fn waits_are_summed_for_the_chosen_processes_only() {
    if !require_bpf() {
        return;
    }
    const NAPS: i64 = 300;
    let programs = Programs::new();
    let mut settings = Settings::default();
    settings.sched.runqlat.filter = filter(r#"{"comm": ["kumon-napper"]}"#);
    let _busy = BusyCpus::keep();
    let collecting = Collecting::start("sched", settings);
    let script = format!("{NAP}nap({NAPS})");
    let mut napper = Command::new(programs.copy("/usr/bin/python3", "kumon-napper"));
    napper.args(["-c", &script]);
    let usage = usage_of(napper.spawn().unwrap().id());
    let rows = collecting.stop().rows("runqlat");
    let waits: i64 = rows.iter().map(|row| row.number("count")).sum();
    // No wait is without a switch before it, but the first one.
    let switches = usage.voluntary_switches + usage.involuntary_switches;
    assert!((nearly(NAPS)..=switches + 1).contains(&waits), "{waits} waits, {switches} switches");
}
