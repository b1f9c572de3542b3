//! Runs a collector by the scheduler that the agent has, and compares its rows with what another program tells.

// Each test file uses its part of it, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kumon_collect::capture::{CapturedRow, rows};
use kumon_collect::{Health, RowSink, Scheduler};
use kumon_proc::{Settings, collectors};
use kumon_spool::RowBatch;
use kumon_testing::wait_for;

/// What a source tells, by its own names.
pub type Numbers = BTreeMap<String, u64>;

pub type Row = CapturedRow;

/// The rows of one interval, and what a source told right before and after it began and ended.
pub struct Compared {
    pub rows: Vec<Row>,
    around_start: [Numbers; 2],
    around_end: [Numbers; 2],
}

/// Collects a metric while `load` runs, in one interval.
pub fn compare(
    metric: &'static str,
    settings: &Settings,
    source: impl Fn() -> Numbers,
    load: impl FnOnce(),
) -> Compared {
    let mut collectors = collectors(settings);
    collectors.retain(|collector| collector.metrics() == [metric]);
    let mut sink = Rows::default();
    let before_start = source();
    let mut scheduler = Scheduler::start(collectors, RowBatch::new(Arc::default())).unwrap();
    wait_for("the collector to start", Duration::from_secs(30), || {
        scheduler.states().iter().all(|state| state.health == Health::Running)
    });
    let around_start = [before_start, source()];
    load();
    let before_end = source();
    scheduler.finish(&[], &mut sink);
    let around_end = [before_end, source()];
    let states = scheduler.states();
    assert!(states.len() == 1 && states[0].health.fault().is_none(), "{states:?}");
    Compared { rows: sink.0.iter().flat_map(|batch| rows(metric, batch)).collect(), around_start, around_end }
}

impl Compared {
    /// The row with that text in the column.
    #[track_caller]
    pub fn row(&self, column: &str, text: &str) -> &Row {
        let found = self.rows.iter().find(|row| row.get(column).is_some_and(|of| of == text));
        found.unwrap_or_else(|| panic!("no row with {column} {text}: {:?}", self.rows))
    }

    /// What was added is what the source tells, in units of `scale`, to within what came while it was asked.
    #[track_caller]
    pub fn assert_added(&self, row: &Row, column: &str, name: &str, scale: u64) {
        let of = |numbers: &Numbers| *numbers.get(name).unwrap_or_else(|| panic!("no {name} in {numbers:?}"));
        let [[begin, began], [end, ended]] = [&self.around_start, &self.around_end].map(|around| {
            let [before, after] = around;
            [of(before), of(after)]
        });
        let (least, most) = (end.saturating_sub(began) * scale, ended.saturating_sub(begin) * scale);
        let ours = number(row, column);
        assert!((least..=most).contains(&ours), "{column}: {ours}, of the source {least} to {most}: {row:?}");
        println!("{column}: {ours}, of the source {least} to {most}");
    }

    /// What stands is what the source tells, in units of `scale`, to within a part in `parts` of the whole.
    #[track_caller]
    pub fn assert_stands(&self, row: &Row, column: &str, name: &str, scale: u64, tolerance: u64) {
        let [before, after] = self.around_end.each_ref().map(|numbers| numbers[name] * scale);
        let ours = number(row, column);
        let (least, most) = (before.min(after).saturating_sub(tolerance), before.max(after) + tolerance);
        assert!((least..=most).contains(&ours), "{column}: {ours}, of the source {least} to {most}: {row:?}");
        println!("{column}: {ours}, of the source {least} to {most}");
    }
}

#[track_caller]
pub fn number(row: &Row, column: &str) -> u64 {
    row.get(column)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no number {column}: {row:?}"))
}

#[track_caller]
pub fn share(row: &Row, column: &str) -> f64 {
    row.get(column).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no share {column}: {row:?}"))
}

/// What a program prints.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[derive(Default)]
struct Rows(Vec<RowBatch>);

impl RowSink for Rows {
    fn take(&mut self, batch: &mut RowBatch) {
        if batch.bytes() > 0 {
            self.0.push(batch.split());
        }
    }
}
