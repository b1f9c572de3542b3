//! Storms of processes. One that overruns the ring buffer: what came in is what came out and what was counted as lost.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, Row, with_budget};
use kumon_bpf::Settings;
use kumon_collect::Clock;
use kumon_testing::{load_size, require_bpf, time_scale};

fn storm_size() -> u64 {
    load_size(3000) as u64
}

/// The storm's processes bear this name; its own count goes to standard output.
const NAME: &str = "kumon-storm";

/// Forks and execs one process after the other and returns how many it has counted itself.
fn storm(program: &std::path::Path) -> u64 {
    let script = "i=0; while [ $i -lt $1 ]; do \"$0\" && i=$((i+1)); done; echo $i";
    let output =
        Command::new("sh").args(["-c", script]).arg(program).arg(storm_size().to_string()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn stormy(rows: &[Row]) -> u64 {
    rows.iter().filter(|row| row.text("name") == NAME).count() as u64
}

/// Rows of other processes of this machine, and how many of those were close to the window's ends.
fn others(collected: &Collected, metric: &str, window: std::ops::Range<i64>) -> (u64, u64) {
    let time = |row: &Row| {
        let time: chrono::DateTime<chrono::Utc> = row.text("timestamp").parse().unwrap();
        time.timestamp_nanos_opt().unwrap()
    };
    let rows = collected.rows(metric);
    let others: Vec<i64> = rows.iter().filter(|row| row.text("name") != NAME).map(time).collect();
    let inside = others.iter().filter(|time| window.contains(time)).count() as u64;
    (inside, others.len() as u64 - inside)
}

#[test]
fn rows_and_counted_losses_are_what_the_storm_did() {
    if !require_bpf() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(NAME);
    std::fs::copy("/bin/true", &program).unwrap();

    // A second collector with room for all sees what else happens on the machine meanwhile.
    let clock = Clock::new();
    let with_ring = |ring_buffer_bytes| with_budget(Settings { ring_buffer_bytes, ..Settings::default() }, 0);
    let (witness, tiny) = (Collecting::start("process", with_ring(16 << 20)), with_ring(4096));
    let overrun = Collecting::start_polling("process", tiny, Duration::from_millis(200) * time_scale());
    let begin = clock.now();
    let count = storm(&program);
    let end = clock.now();
    let (overrun, witness) = (overrun.stop(), witness.stop());
    assert_eq!(count, storm_size());

    for metric in ["exec", "exit"] {
        assert_eq!(witness.lost(metric), 0);
        assert_eq!(stormy(&witness.rows(metric)), count, "{metric}: each process of the storm has a row");
        assert!(
            overrun.lost(metric) > 0,
            "{metric}: the storm must overrun the ring buffer, or this tests nothing"
        );
        assert!(stormy(&overrun.rows(metric)) > 0, "{metric}: something must come through");
        let (inside, at_the_ends) = others(&witness, metric, begin..end);
        let sum = overrun.rows(metric).len() as u64 + overrun.lost(metric);
        let least = count + inside;
        assert!(
            (least..=least + at_the_ends).contains(&sum),
            "{metric}: rows and losses are {sum}, the storm and others came to {least} to {}",
            least + at_the_ends
        );
    }
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_bounded_fork_bomb_has_an_exit_row_for_each_process_and_costs_no_memory() {
    if !require_bpf() {
        return;
    }
    // Each of them forks again, so that all are there at once: 2, 4, 8, ...
    const GENERATIONS: u32 = 11;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kumon-bomb");
    std::fs::copy("/usr/bin/perl", &program).unwrap();
    let collecting = Collecting::start("process", with_budget(Settings::default(), 0));
    let before = resident();
    let script = format!("fork() // die for 1..{GENERATIONS}; 1 while wait() > 0");
    assert!(Command::new(&program).args(["-e", &script]).status().unwrap().success());
    let grown = resident().saturating_sub(before);
    let collected = collecting.stop();
    let exits = collected.rows("exit").iter().filter(|row| row.text("name") == "kumon-bomb").count();
    assert_eq!((exits, collected.lost("exit")), (1 << GENERATIONS, 0), "{:?}", collected.losses);
    assert!(grown < 32 << 20, "{grown} bytes more");
}
