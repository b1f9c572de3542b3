//! The `agent` metric: what came in, went out and was lost at each stage since the last row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kumon_collect::{Clock, Loss, ProgramCost};
use kumon_schema::rows::Agent;
use kumon_schema::{Common, SubjectFields};
use kumon_spool::{Formats, RowBatch, Spool, Stats as SpoolStats};

use super::cost::Cost;

/// How often the ledger's rows are written; docs, panels and setup's estimate know it from the metric's schema.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether rows were lost, which nobody is to wait a minute for. After so long the first rows are
/// written.
const LOSS_INTERVAL: Duration = Duration::from_secs(10);

/// When a ledger's rows are to be written.
#[derive(Debug)]
pub(super) struct Due {
    next: Instant,
    next_look: Instant,
    lost: u64,
}

impl Due {
    pub(super) fn new() -> Due {
        let first = Instant::now() + LOSS_INTERVAL;
        Due { next: first, next_look: first, lost: 0 }
    }

    /// Whether they are due, given how many rows were `lost` in all.
    pub(super) fn is_now(&mut self, now: Instant, lost: impl FnOnce() -> u64) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOSS_INTERVAL;
        let before = std::mem::replace(&mut self.lost, lost());
        let is_due = now >= self.next || self.lost != before;
        if is_due {
            self.next = now + INTERVAL;
        }
        is_due
    }
}

/// Turns totals into the rows of one interval.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The last totals, by what was counted, of what, and for which reason or output.
    last: BTreeMap<(&'static str, String, String), u64>,
    rows: RowBatch,
}

impl Ledger {
    /// `common` goes into each row.
    pub(super) fn new(common: Common, formats: Formats) -> Ledger {
        let rows = RowBatch::new(Arc::new(common)).with_formats(formats);
        Ledger { last: BTreeMap::new(), rows }
    }

    /// What was added to a total since it was last asked for. One that became less began anew, with its collector.
    fn delta(&mut self, what: &'static str, name: &str, which: &str, total: u64) -> u64 {
        let last = self.last.insert((what, name.to_owned(), which.to_owned()), total).unwrap_or(0);
        total.checked_sub(last).unwrap_or(total)
    }

    /// Appends the rows of the collecting side.
    pub(super) fn collected(
        &mut self,
        losses: &[Loss],
        programs: &[ProgramCost],
        spooled: &SpoolStats,
        clock: &Clock,
        spool: &mut Spool,
    ) {
        let mut rows = Vec::new();
        let mut lost_in_kernel: BTreeMap<&str, u64> = BTreeMap::new();
        for loss in losses {
            let lost = self.delta("kernel lost", loss.metric, loss.reason, loss.count);
            *lost_in_kernel.entry(loss.metric).or_default() += lost;
            if lost > 0 {
                rows.push(Entry::lost("kernel", loss.metric, loss.reason, lost));
            }
        }
        let metrics: BTreeSet<&str> = lost_in_kernel.keys().chain(spooled.rows_in.keys()).copied().collect();
        for metric in metrics {
            let total = |counts: &BTreeMap<&str, u64>| counts.get(metric).copied().unwrap_or(0);
            let appended = self.delta("spool in", metric, "", total(&spooled.rows_in));
            let written = self.delta("spool out", metric, "", total(&spooled.rows_out));
            let lost = lost_in_kernel.get(metric).copied().unwrap_or(0);
            if appended > 0 || written > 0 || lost > 0 {
                rows.push(Entry::passed("kernel", metric, appended + lost, appended));
                rows.push(Entry::passed("spool", metric, appended, written));
            }
        }
        for ((metric, reason), total) in &spooled.lost {
            let reason = reason.to_string();
            let lost = self.delta("spool lost", metric, &reason, *total);
            if lost > 0 {
                rows.push(Entry::lost("spool", metric, &reason, lost));
            }
        }
        for program in programs {
            let runs = self.delta("runs", &program.program, "", program.runs);
            let run_time = self.delta("run time", &program.program, "", program.run_time);
            if runs > 0 {
                let entry = Entry { stage: "program", name: program.program.clone(), ..Entry::default() };
                rows.push(Entry { runs: Some(runs), run_time: Some(run_time), ..entry });
            }
        }
        self.append(rows, "collect", clock, spool);
    }

    /// Appends the rows of the shipping side about the output of that name.
    pub(super) fn shipped(
        &mut self,
        output: &str,
        stats: &kumon_shipper::Stats,
        clock: &Clock,
        spool: &mut Spool,
    ) {
        let mut rows = Vec::new();
        for (dataset, delivered) in &stats.datasets {
            let out = self.delta("ship out", dataset, output, delivered.created);
            let lost = self.delta("ship lost", dataset, output, delivered.dead_letters);
            if out > 0 || lost > 0 {
                rows.push(Entry::passed("ship", dataset, out + lost, out));
            }
            if lost > 0 {
                rows.push(Entry::lost("ship", dataset, "dead letter", lost));
            }
        }
        rows.push(Entry { stage: "ship", name: "all".into(), lag: Some(stats.lag), ..Entry::default() });
        rows.iter_mut().for_each(|row| row.output = output.to_owned());
        self.append(rows, "ship", clock, spool);
    }

    /// Appends the row on the process as a whole.
    pub(super) fn process(&mut self, component: &'static str, cost: Cost, clock: &Clock, spool: &mut Spool) {
        let cpu_time = Some(self.delta("cpu", component, "", cost.cpu));
        let memory = Some(cost.memory);
        let entry = Entry { stage: "process", name: component.into(), cpu_time, memory, ..Entry::default() };
        self.append(vec![entry], component, clock, spool);
    }

    /// The last collector ended without stopping: what was in flight then can't be counted.
    pub(super) fn gap(&mut self, clock: &Clock, spool: &mut Spool) {
        self.unseen(
            "all",
            "gap: the collector ended without stopping, rows in flight are lost uncounted",
            clock,
            spool,
        );
    }

    /// Appends the row that tells of new settings of a metric's collector; `all` for those of all.
    pub(super) fn pause(&mut self, metric: &str, clock: &Clock, spool: &mut Spool) {
        self.unseen(
            metric,
            "pause: collecting stood still for new settings, what happened then was not seen",
            clock,
            spool,
        );
    }

    fn unseen(&mut self, name: &str, reason: &str, clock: &Clock, spool: &mut Spool) {
        let entry = Entry { stage: "kernel", name: name.into(), reason: reason.into(), ..Entry::default() };
        self.append(vec![entry], "collect", clock, spool);
    }

    fn append(&mut self, entries: Vec<Entry>, component: &str, clock: &Clock, spool: &mut Spool) {
        for entry in entries {
            let row = Agent {
                timestamp: clock.now(),
                component: component.as_bytes(),
                stage: entry.stage.as_bytes(),
                name: entry.name.as_bytes(),
                reason: entry.reason.as_bytes(),
                output: entry.output.as_bytes(),
                rows_in: entry.rows_in,
                rows_out: entry.rows_out,
                rows_lost: entry.rows_lost,
                runs: entry.runs,
                run_time: entry.run_time,
                cpu_time: entry.cpu_time,
                memory: entry.memory,
                lag: entry.lag,
            };
            self.rows.append(&row, &SubjectFields::default());
        }
        spool.append(&mut self.rows);
    }
}

/// A row, owning its texts.
#[derive(Debug, Default)]
struct Entry {
    stage: &'static str,
    name: String,
    reason: String,
    output: String,
    rows_in: Option<u64>,
    rows_out: Option<u64>,
    rows_lost: Option<u64>,
    runs: Option<u64>,
    run_time: Option<u64>,
    cpu_time: Option<u64>,
    memory: Option<u64>,
    lag: Option<u64>,
}

impl Entry {
    fn passed(stage: &'static str, name: &str, rows_in: u64, rows_out: u64) -> Entry {
        Entry {
            stage,
            name: name.into(),
            rows_in: Some(rows_in),
            rows_out: Some(rows_out),
            ..Entry::default()
        }
    }

    fn lost(stage: &'static str, name: &str, reason: &str, lost: u64) -> Entry {
        Entry { stage, name: name.into(), reason: reason.into(), rows_lost: Some(lost), ..Entry::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Common, Due, Formats, INTERVAL, LOSS_INTERVAL, Ledger};

    #[test]
    fn what_a_collector_lost_since_it_began_anew_is_counted() {
        let mut ledger = Ledger::new(Common::default(), Formats::default());
        let added: Vec<u64> = [5, 7, 7, 2, 2, 9].map(|total| ledger.delta("lost", "exec", "", total)).into();
        assert_eq!(added, [5, 2, 0, 2, 0, 7]);
    }

    #[test]
    fn rows_are_due_once_a_minute_and_soon_after_a_loss() {
        let start = Instant::now();
        let mut due = Due { next: start + LOSS_INTERVAL, next_look: start + LOSS_INTERVAL, lost: 0 };
        // By seconds since the start: how many are lost by then.
        let losses =
            [(1, 0), (10, 0), (20, 0), (30, 5), (40, 5), (80, 5), (89, 5), (90, 5), (95, 9), (100, 9)];
        let written = losses
            .into_iter()
            .filter(|(second, lost)| due.is_now(start + Duration::from_secs(*second), || *lost));
        assert_eq!(written.map(|(second, _)| second).collect::<Vec<_>>(), [10, 30, 90, 100]);
        assert_eq!(kumon_schema::builtin("agent").unwrap().interval.map(u64::from), Some(INTERVAL.as_secs()));
    }
}
