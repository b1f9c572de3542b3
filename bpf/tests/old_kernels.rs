//! The ways that older kernels need, gone on whatever kernel runs.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, NAP, Row, assert_close, cpu_time_now, usage_of};
use kumon_bpf::Settings;
use kumon_testing::{Child, require_bpf, wait_for};

fn settings() -> Settings {
    Settings { as_on_old_kernels: true, ..Settings::default() }
}

fn lost(collected: &Collected, metric: &str, reason: &str) -> u64 {
    let of = collected.losses.iter().filter(|loss| loss.metric == metric && loss.reason == reason);
    of.map(|loss| loss.count).sum()
}

fn of_pid(rows: Vec<Row>, pid: u32) -> Vec<Row> {
    rows.into_iter().filter(|row| row.text("pid") == pid.to_string()).collect()
}

#[test]
fn a_process_whose_threads_end_together_ends_once_and_its_id_is_free_then() {
    if !require_bpf() {
        return;
    }
    let script = "import threading\nfor i in range(200): threading.Thread(target=lambda: None).start()";
    let mut settings = settings();
    // Enough for those that run at a time; not for all, should ids not be given back.
    settings.process.exit.max_unreaped = 100;
    settings.process.exit.filter = serde_json::from_str(r#"{"comm": ["python3"]}"#).unwrap();
    let collecting = Collecting::start("process", settings);
    let pids: Vec<u32> = (0..150)
        .map(|number| {
            let mut python = Command::new("/usr/bin/python3");
            let mut child =
                python.args(["-S", "-c", if number % 30 == 0 { script } else { "" }]).spawn().unwrap();
            assert!(child.wait().unwrap().success());
            child.id()
        })
        .collect();
    let collected = collecting.stop();
    for pid in pids {
        assert_eq!(of_pid(collected.rows("exit"), pid).len(), 1, "{pid}");
    }
    assert_eq!(collected.lost("exit"), 0);
}

#[test]
fn ends_beyond_the_room_for_them_are_counted() {
    if !require_bpf() {
        return;
    }
    const PROCESSES: u64 = 20;
    let mut settings = settings();
    settings.process.exit.max_unreaped = 4;
    settings.process.exit.filter = serde_json::from_str(r#"{"comm": ["true"]}"#).unwrap();
    let collecting = Collecting::start("process", settings);
    // A parent that reaps none of its children while they end.
    let script = format!(
        "import os, time\n\
         for i in range({PROCESSES}):\n os.posix_spawn('/bin/true', ['true'], {{}})\n\
         while sum(open(f'/proc/{{p}}/stat').read().split(') ')[1][0] == 'Z' for p in open('/proc/self/task/%d/children' % os.getpid()).read().split()) < {PROCESSES}: time.sleep(0.01)"
    );
    assert!(Command::new("/usr/bin/python3").args(["-c", &script]).status().unwrap().success());
    let collected = collecting.stop();
    let (told, full) = (collected.rows("exit").len() as u64, lost(&collected, "exit", "map full"));
    assert!(full > 0, "the map must be full, or this tests nothing");
    // Others may end meanwhile: their losses are counted too.
    assert!(told <= 4 && told + full >= PROCESSES, "{told} told, {full} lost");
}

#[test]
fn without_task_storage_waits_and_cpu_time_are_told_all_the_same() {
    if !require_bpf() {
        return;
    }
    let collecting = Collecting::start("sched", settings());
    let script = format!(
        "{NAP}import threading\n\
        def burn():\n end = time.thread_time() + 0.05\n while time.thread_time() < end: pass\n\
        for i in range(10):\n thread = threading.Thread(target=burn)\n thread.start()\n thread.join()\n\
        nap(100)"
    );
    let pid = Command::new("/usr/bin/python3").args(["-c", &script]).spawn().unwrap().id();
    let used = usage_of(pid).cpu_time;
    let collected = collecting.stop();
    let rows = of_pid(collected.rows("cputime"), pid);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert!(row.number("on_cpu") >= 500_000_000, "{row:?}");
    assert_close(row.number("on_cpu"), used, 5);
    assert!(row.number("voluntary_switches") >= 100, "{row:?}");
    let waits: i64 = collected.rows("runqlat").iter().map(|row| row.number("count")).sum();
    assert!(waits >= 100, "{waits}");
    assert_eq!(lost(&collected, "runqlat", "map full"), 0);
}

#[test]
fn threads_beyond_the_room_for_them_are_counted_but_their_waits_are_told() {
    if !require_bpf() {
        return;
    }
    let mut settings = settings();
    settings.sched.max_waiting_threads = 2;
    let collecting = Collecting::start("sched", settings);
    let mut spinning: Vec<Child> =
        (0..6).map(|_| Child::spawn(Command::new("sh").args(["-c", "while :; do :; done"]))).collect();
    // With fewer CPUs than that most of them are waiting at any time.
    let ran = |child: &Child| cpu_time_now(child.id()) >= 100_000_000;
    wait_for("each of them to run", Duration::from_secs(30), || spinning.iter().all(ran));
    wait_for("a row", Duration::from_secs(30), || !collecting.rows("runqslower").is_empty());
    for child in &mut spinning {
        child.kill().unwrap();
    }
    let collected = collecting.stop();
    assert!(lost(&collected, "cputime", "map full") > 0, "{:?}", collected.losses);
    // A wait is told by what the kernel itself keeps of it.
    for metric in ["runqlat", "runqslower"] {
        assert_eq!(lost(&collected, metric, "map full"), 0, "{metric}: {:?}", collected.losses);
    }
}
