//! The metric memory beside `free`, `vmstat -s` and a load of known numbers.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, compare, number, output, share};
use kumon_proc::Settings;
use kumon_testing::require_program;

/// What `free -b` and /proc/vmstat itself tell, and `vmstat -s` of swapping.
fn source() -> Numbers {
    let mut numbers = Numbers::new();
    let free = output("free", &["-bw"]);
    let mut lines = free.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let names = lines.next().unwrap();
    for line in lines {
        for (name, number) in names.iter().zip(&line[1..]) {
            numbers.insert(format!("{} {name}", line[0]), number.parse().unwrap());
        }
    }
    for line in output("cat", &["/proc/vmstat"]).lines().chain(output("vmstat", &["-s"]).lines()) {
        let (one, other) = line.trim().split_once(' ').unwrap();
        match (one.parse(), other.parse()) {
            (Ok(number), _) => numbers.insert(other.to_owned(), number),
            (_, Ok(number)) => numbers.insert(one.to_owned(), number),
            _ => None,
        };
    }
    numbers
}

#[test]
fn sizes_and_counts_are_those_of_free_and_vmstat() {
    if !["free", "vmstat"].into_iter().all(require_program) {
        return;
    }
    const PAGES: u64 = 5_000;
    let page = rustix::param::page_size() as u64;
    let compared = compare("memory", &Settings::default(), source, || {
        // Each page faults once.
        std::hint::black_box(vec![1u8; (PAGES * page) as usize]);
    });
    let [row] = compared.rows.as_slice() else { panic!("{:?}", compared.rows) };
    for (column, name) in [("paged_in", "K paged in"), ("paged_out", "K paged out")] {
        compared.assert_added(row, column, name, 1024);
    }
    compared.assert_added(row, "swapped_in", "pages swapped in", page);
    compared.assert_added(row, "swapped_out", "pages swapped out", page);
    for (column, name) in [
        ("pages_freed", "pgfree"),
        ("page_faults", "pgfault"),
        ("major_page_faults", "pgmajfault"),
        ("pages_reused", "pgreuse"),
        ("oom_kills", "oom_kill"),
    ] {
        compared.assert_added(row, column, name, 1);
    }
    assert!(number(row, "page_faults") >= PAGES / 512, "at least huge ones: {row:?}");

    compared.assert_stands(row, "total", "Mem: total", 1, 0);
    compared.assert_stands(row, "swap_total", "Swap: total", 1, 0);
    // Others take and give memory while they are asked.
    let moved = number(row, "total") / 20;
    for (column, name) in [
        ("free", "Mem: free"),
        ("available", "Mem: available"),
        ("buffers", "Mem: buffers"),
        ("shared", "Mem: shared"),
        ("used", "Mem: used"),
        ("swap_used", "Swap: used"),
    ] {
        compared.assert_stands(row, column, name, 1, moved);
    }
    for (column, name) in [
        ("active_anon", "nr_active_anon"),
        ("inactive_anon", "nr_inactive_anon"),
        ("active_file", "nr_active_file"),
        ("inactive_file", "nr_inactive_file"),
        ("mapped", "nr_mapped"),
    ] {
        compared.assert_stands(row, column, name, page, moved);
    }
    let used = number(row, "used") as f64 / number(row, "total") as f64;
    assert!((share(row, "used_pct") - used).abs() < 0.0001, "{row:?}");
}
