//! cputime against what the load itself did.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{BusyCpus, Collected, Collecting, NAP, Row, assert_close, cpu_time_now, nearly, usage_of};
use kumon_bpf::Settings;
use kumon_testing::{Child, require_bpf, time_scale, wait_for};

/// Runs until it has used so many ns of CPU time or so.
fn burn(milliseconds: u64) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    let script = format!("import time\nwhile time.process_time() < {}: pass", milliseconds as f64 / 1000.0);
    python.args(["-c", &script]);
    python
}

/// Runs without ever sleeping.
fn spin() -> Child {
    Child::spawn(Command::new("sh").args(["-c", "while :; do :; done"]))
}

fn rows_of(collected: &Collected, pid: u32) -> Vec<Row> {
    let mut rows = collected.rows("cputime");
    rows.retain(|row| row.text("pid") == pid.to_string());
    rows
}

fn sum(rows: &[Row], column: &str) -> i64 {
    rows.iter().map(|row| row.number(column)).sum()
}

fn settings(interval: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.sched.cputime.interval = interval;
    settings.sched.cputime.top = 1_000;
    settings.sched.runqlat.interval = interval;
    settings
}

#[test]
fn a_process_that_ended_has_the_cpu_time_that_wait4_tells() {
    if !require_bpf() {
        return;
    }
    let collecting = Collecting::start("sched", settings(Duration::from_millis(300)));
    let pid = burn(1_000).spawn().unwrap().id();
    let used = usage_of(pid).cpu_time;
    let collected = collecting.stop();
    let rows = rows_of(&collected, pid);
    assert!(rows.len() > 2, "several intervals: {rows:?}");
    assert_close(sum(&rows, "on_cpu"), used, 2);
    assert_eq!(rows.last().unwrap().text("name"), "python3");
    assert_eq!(collected.losses.iter().map(|loss| loss.count).sum::<u64>(), 0);
}

#[test]
fn a_process_that_never_sleeps_has_its_cpu_time_in_each_interval() {
    if !require_bpf() {
        return;
    }
    let mut child = spin();
    let interval = Duration::from_millis(500) * time_scale();
    let (before, begin) = (cpu_time_now(child.id()), Instant::now());
    let collecting = Collecting::start("sched", settings(interval));
    let (started, start) = (cpu_time_now(child.id()), Instant::now());
    wait_for("four intervals of spinning", Duration::from_secs(30), || start.elapsed() >= interval * 4);
    let (stopping, least) = (cpu_time_now(child.id()), start.elapsed().as_nanos() as i64);
    let collected = collecting.stop();
    let (after, most) = (cpu_time_now(child.id()), begin.elapsed().as_nanos() as i64);
    child.kill().unwrap();

    let rows = rows_of(&collected, child.id());
    assert!(rows.len() >= 4, "{rows:?}");
    // Between the CPU time while it surely collected and all of it; /proc/pid/stat counts in ticks of 10 ms.
    let (ours, tick) = (sum(&rows, "on_cpu"), 10_000_000);
    assert!(ours * 102 / 100 + tick >= stopping - started, "{ours} of {}", stopping - started);
    assert!(ours * 98 / 100 - tick <= after - before, "{ours} of {}", after - before);
    // All the time is told: on or off the CPU. Not to the interval, because a busy machine may let the collector wait
    // between looking at the clock and reading the task.
    let told = ours + sum(&rows, "off_cpu");
    assert!((least - tick..=most + tick).contains(&told), "{told} of {least} to {most}: {rows:?}");
    let intervals = sum(&rows, "interval");
    assert!((least..=most).contains(&intervals), "{intervals} of {least} to {most}: {rows:?}");
}

#[test]
fn ended_threads_and_short_processes_are_folded_in() {
    if !require_bpf() {
        return;
    }
    let collecting = Collecting::start("sched", settings(Duration::from_secs(60)));
    // Ten threads one after the other, 50 ms each; and processes far shorter than the interval.
    let script = "import threading, time\n\
        def burn():\n end = time.thread_time() + 0.05\n while time.thread_time() < end: pass\n\
        for i in range(10):\n thread = threading.Thread(target=burn)\n thread.start()\n thread.join()";
    let threads = Command::new("/usr/bin/python3").args(["-c", script]).spawn().unwrap().id();
    let used = usage_of(threads).cpu_time;
    let short: Vec<(u32, i64)> = (0..20)
        .map(|_| {
            let pid = burn(20).spawn().unwrap().id();
            (pid, usage_of(pid).cpu_time)
        })
        .collect();
    let collected = collecting.stop();
    assert!(used > 500_000_000);
    assert_close(sum(&rows_of(&collected, threads), "on_cpu"), used, 2);
    let ours = short.iter().map(|(pid, _)| sum(&rows_of(&collected, *pid), "on_cpu")).sum();
    assert_close(ours, short.iter().map(|(_, used)| used).sum(), 2);
}

#[test]
fn a_sleeper_is_off_the_cpu_and_switches_voluntarily() {
    if !require_bpf() {
        return;
    }
    let collecting = Collecting::start("sched", settings(Duration::from_secs(60)));
    // It tells how long it slept with what lies between, ns.
    let script = format!(
        "{NAP}begin = time.monotonic_ns()\nnap(50)\n\
        while time.monotonic_ns() < begin + 500_000_000: time.sleep(0.01)\n\
        print(time.monotonic_ns() - begin)"
    );
    let begin = Instant::now();
    let (told, out) = std::io::pipe().unwrap();
    let pid = Command::new("/usr/bin/python3").args(["-c", &script]).stdout(out).spawn().unwrap().id();
    let used = usage_of(pid).cpu_time;
    let slept: i64 = std::io::read_to_string(told).unwrap().trim().parse().unwrap();
    let rows = rows_of(&collecting.stop(), pid);
    let most = begin.elapsed().as_nanos() as i64;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.number("voluntary_switches") >= 50, "{row:?}");
    let lived = row.number("on_cpu") + row.number("off_cpu");
    assert!((slept..=most).contains(&lived), "{slept} to {most}: {row:?}");
    assert_close(row.number("on_cpu"), used, 5);
}

#[test]
fn what_is_below_the_top_is_summed_in_the_row_other() {
    if !require_bpf() {
        return;
    }
    let mut limited = settings(Duration::from_secs(60));
    limited.sched.cputime.top = 3;
    let collecting = Collecting::start("sched", limited);
    let pids: Vec<u32> = (0..8).map(|_| burn(200).spawn().unwrap().id()).collect();
    let used: i64 = pids.iter().map(|&pid| usage_of(pid).cpu_time).sum();
    let rows = collecting.stop().rows("cputime");

    let (other, top): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.text("pid").is_empty());
    let [other] = other.as_slice() else { panic!("{other:?}") };
    assert_eq!((other.text("name"), other.text("entity_id")), ("other", ""));
    assert_eq!(top.len(), 3);
    assert!(top.iter().all(|row| row.number("on_cpu") > 100_000_000), "{top:?}");
    assert!(sum(&top, "on_cpu") + other.number("on_cpu") >= used);
}

#[test]
fn a_process_that_renames_itself_comes_back_byte_by_byte() {
    if !require_bpf() {
        return;
    }
    const HOSTILE: &[u8] = b"a,b\"\n=1+1";
    let mut settings = settings(Duration::from_secs(60));
    settings.sched.runqslower.threshold = Duration::from_nanos(1);
    // Else the waits of all the others may fill the ring buffer.
    settings.sched.runqslower.filter = serde_json::from_str(r#"{"comm": ["a,b\"\n=1+1"]}"#).unwrap();
    let _busy = BusyCpus::keep();
    let collecting = Collecting::start("sched", settings);
    // prctl(PR_SET_NAME) of the main thread names the process.
    let script = format!(
        "{NAP}import ctypes\n\
        ctypes.CDLL(None).prctl(15, b'a,b\"\\n=1+1', 0, 0, 0)\n\
        nap(50)"
    );
    let pid = Command::new("/usr/bin/python3").args(["-c", &script]).spawn().unwrap().id();
    usage_of(pid);
    let collected = collecting.stop();
    let rows = rows_of(&collected, pid);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row.bytes("name"), HOSTILE);
    let mut waits = collected.rows("runqslower");
    waits.retain(|row| row.text("pid") == pid.to_string() && row.bytes("name") == HOSTILE);
    assert!(
        waits.len() as i64 >= nearly(50) && waits.iter().all(|row| row.bytes("thread_name") == HOSTILE),
        "{waits:?}"
    );
}

#[test]
fn tasks_that_end_while_they_are_read_are_accounted_once() {
    if !require_bpf() {
        return;
    }
    // Reads as often as it can, while threads come and go.
    let mut settings = settings(Duration::from_nanos(1));
    (settings.sched.runqlat.enabled, settings.sched.runqslower.enabled) = (false, false);
    let collecting = Collecting::start_polling("sched", settings, Duration::from_micros(100));
    const THREADS: i64 = 20_000;
    let script = format!(
        "import threading\n\
         for i in range({THREADS}):\n thread = threading.Thread(target=lambda: None)\n thread.start()\n thread.join()"
    );
    let pid = Command::new("/usr/bin/python3").args(["-c", &script]).spawn().unwrap().id();
    let usage = usage_of(pid);
    let rows = rows_of(&collecting.stop(), pid);
    assert!(rows.len() > 20, "many readings: {}", rows.len());
    // wait4 leaves out the last switch of each thread.
    let (ours, theirs) = (sum(&rows, "voluntary_switches"), usage.voluntary_switches + THREADS + 1);
    // A thread may sleep once more on its way out, after wait4's account is closed.
    assert!(
        (ours - theirs).abs() * 1_000 <= theirs,
        "{ours} switches, wait4 tells {theirs} with the last ones"
    );
    let (ours, theirs) = (sum(&rows, "involuntary_switches"), usage.involuntary_switches);
    assert!((ours - theirs).abs() <= theirs / 50 + 2, "{ours} preemptions, wait4 tells {theirs}");
}
