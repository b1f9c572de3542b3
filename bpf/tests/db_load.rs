//! dbslower under many long statements. Alone in its process, whose memory it measures.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::time::Duration;

use common::{Collecting, with_budget};
use databases::{Database, kinds};
use kumon_bpf::Settings;
use kumon_testing::load_size;

/// What clients and other servers on the machine do meanwhile.
const OTHERS: u64 = 100;

/// A value of /proc/self/status, bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn ten_thousand_statements_are_each_told_or_counted_and_none_is_kept() {
    // Of the whole 40 MB (8 MB where the processor is emulated, which say little) no more stays than a poll needs: the ring
    // buffer of 2 MiB, a batch of 256 events, 1 MiB in a vector that doubles as it grows, and the spool's buffers; and for a
    // moment, two seconds after the start, the symbols of an executable that may be a server.
    const MEMORY: u64 = 12 << 20;
    let statements = load_size(10_000) as u64;
    let measured: Vec<_> = kinds()
        .into_iter()
        .map(|kind| {
            let database = Database::shared(kind);
            let text = "x".repeat(4_000);
            let script: String =
                (0..statements).map(|i| format!("SELECT {} {i}, '{text}';\n", database.mark())).collect();
            let mut settings = with_budget(Settings::default(), 0);
            settings.db.dbslower.threshold = Duration::ZERO;
            settings.db.dbslower.mask = false;
            let collecting = Collecting::start("db", settings);
            let before = memory("VmRSS");
            // Makes VmHWM begin anew (proc(5)).
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            database.script(&script);
            (database, memory("VmHWM").saturating_sub(before), collecting.stop())
        })
        .collect();
    // Rows are read behind all that is measured: what they leave in the allocator would hide growth.
    for (database, grown, collected) in measured {
        let (rows, mark) = (collected.rows("dbslower"), database.mark());
        let told = rows.iter().filter(|row| row.text("statement").contains(&mark)).count() as u64;
        let lost = collected.lost("dbslower");
        assert!(told <= statements, "{told} told");
        assert!((statements..=statements + OTHERS).contains(&(told + lost)), "{told} told, {lost} lost");
        assert!(grown <= MEMORY, "{:?}: {grown} bytes more", database.kind);
    }
}
