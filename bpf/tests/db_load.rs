//! dbslower under more statements than its buffers hold.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::time::Duration;

use common::{Collected, Collecting};
use databases::{Database, kinds};
use kumon_bpf::Settings;
use kumon_testing::time_scale;

/// What clients and other servers on the machine do meanwhile.
const OTHERS: u64 = 100;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.dbslower.threshold = Duration::ZERO;
    settings.dbslower.mask = false;
    settings
}

/// How many statements the tests run: fewer where the processor is emulated.
fn statements() -> u64 {
    u64::from(10_000 / time_scale())
}

/// Every marked statement has one row or was counted as lost; returns how many were.
fn assert_told_or_lost(collected: &Collected, database: &Database) -> u64 {
    let (rows, mark) = (collected.rows("dbslower"), database.mark());
    let told = rows.iter().filter(|row| row.text("statement").contains(&mark)).count() as u64;
    let lost = collected.lost("dbslower");
    let whole = statements();
    assert!(told <= whole, "{told} told");
    assert!((whole..=whole + OTHERS).contains(&(told + lost)), "{told} told, {lost} lost");
    lost
}

/// A value of /proc/self/status, bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn ten_thousand_statements_are_each_told_or_counted_and_none_is_kept() {
    // Of the whole 40 MB (8 MB where the processor is emulated) no more stays than a poll needs: the ring buffer of
    // 2 MiB, a batch of 256 events, 1 MiB in a vector that doubles as it grows, and the spool's buffers.
    const MEMORY: u64 = 6 << 20;
    for kind in kinds() {
        let database = Database::shared(kind);
        let text = "x".repeat(4_000);
        let script: String =
            (0..statements()).map(|i| format!("SELECT {} {i}, '{text}';\n", database.mark())).collect();
        let collecting = Collecting::start("db", settings());
        let before = memory("VmRSS");
        // Makes VmHWM begin anew (proc(5)).
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        database.script(&script);
        let grown = memory("VmHWM").saturating_sub(before);
        assert_told_or_lost(&collecting.stop(), database);
        assert!(grown <= MEMORY, "{kind:?}: {grown} bytes more");
    }
}

#[test]
fn statements_that_overrun_the_ring_buffer_are_counted() {
    for kind in kinds() {
        let database = Database::shared(kind);
        let mut settings = settings();
        settings.ring_buffer_bytes = 16 << 10;
        let collecting = Collecting::start_polling("db", settings, Duration::from_millis(500) * time_scale());
        database.script(&format!("SELECT {} 1;\n", database.mark()).repeat(statements() as usize));
        let lost = assert_told_or_lost(&collecting.stop(), database);
        assert!(lost > 0, "nothing was lost");
    }
}
