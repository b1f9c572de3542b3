//! The metric cpu beside `vmstat -s` and a load of known numbers.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use common::{Numbers, compare, number, output, share};
use kumon_proc::Settings;
use kumon_testing::require_program;

/// `123 forks` and the like.
fn vmstat() -> Numbers {
    let text = output("vmstat", &["-s"]);
    let number = |line: &str| {
        let (number, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

/// Programs, and a processor kept busy for a while.
fn load() {
    for _ in 0..50 {
        assert!(Command::new("true").status().unwrap().success());
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(700) {}
    (0..100).for_each(|_| sleep(Duration::from_millis(1)));
}

#[test]
fn times_and_counts_are_those_of_vmstat() {
    if !require_program("vmstat") {
        return;
    }
    let compared = compare("cpu", &Settings::default(), vmstat, load);
    assert_eq!(compared.rows.len(), 1);
    let row = compared.row("cpu", "all");
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    for (column, name) in [
        ("user", "non-nice user cpu ticks"),
        ("nice", "nice user cpu ticks"),
        ("system", "system cpu ticks"),
        ("idle", "idle cpu ticks"),
        ("iowait", "IO-wait cpu ticks"),
        ("irq", "IRQ cpu ticks"),
        ("softirq", "softirq cpu ticks"),
        ("steal", "stolen cpu ticks"),
    ] {
        compared.assert_added(row, column, name, tick);
    }
    compared.assert_added(row, "interrupts", "interrupts", 1);
    compared.assert_added(row, "context_switches", "CPU context switches", 1);
    compared.assert_added(row, "forks", "forks", 1);
    assert!(number(row, "forks") >= 50 && number(row, "context_switches") >= 100, "{row:?}");

    let cores = number(row, "cores");
    assert_eq!(cores, available_parallelism().unwrap().get() as u64);
    // One processor was busy, or its host ran somebody else on it.
    let busy = number(row, "interval") as f64 / 1e9 * share(row, "total_norm_pct") * cores as f64;
    assert!(busy > 0.5, "{busy}: {row:?}");
    assert!(share(row, "total_norm_pct") <= 1.0 && share(row, "user_pct") <= cores as f64, "{row:?}");
}

#[test]
fn the_rows_of_each_cpu_add_up_to_that_of_all() {
    let mut settings = Settings::default();
    settings.cpu.per_cpu = true;
    let compared = compare("cpu", &settings, Numbers::new, load);
    let (all, each): (Vec<_>, Vec<_>) = compared.rows.iter().partition(|row| row["cpu"] == "all");
    assert_eq!((all.len(), each.len() as u64), (1, number(all[0], "cores")));
    for column in ["user", "system", "idle"] {
        let sum: u64 = each.iter().map(|row| number(row, column)).sum();
        // Each is rounded to ticks by itself.
        let ticks = 20_000_000 * each.len() as u64;
        assert!(sum.abs_diff(number(all[0], column)) <= ticks, "{column}: {sum}: {:?}", compared.rows);
    }
}
