//! What shipping says of itself: the status file, and the ledger's rows.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use kumon_collect::Clock;
use kumon_schema::Common;
use kumon_shipper::{Delivered, Halted, Stats};
use kumon_spool::{Limits, Spool};

use super::super::cost::Cost;
use super::super::ledger::{Due, Ledger};
use super::super::status::{self, OutputFault, OutputStatus, ShipStatus};
use super::{FailedOutput, Output};
use crate::config::Config;

/// A status that has not changed is confirmed so often, to show that the agent lives.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// What was written, and when that is due again.
pub(super) struct Books {
    state: PathBuf,
    ledger: Ledger,
    /// For the ledger's rows only.
    spool: Spool,
    ledger_due: Due,
    /// The shippers' revisions when the status was last looked at.
    revisions: Option<Vec<u64>>,
    /// What the status file holds, where that is known.
    written: Option<ShipStatus>,
    /// When that was written, tried or confirmed.
    written_at: Instant,
}

impl Books {
    pub(super) fn new(config: &Config, common: Common) -> Result<Books> {
        // Shedding is the collecting side's, which counts what is lost.
        let limits = Limits { spool_bytes: u64::MAX, ..config.spool.limits() };
        let now = Instant::now();
        Ok(Books {
            state: config.path.ship(),
            ledger: Ledger::new(common, config.spool.format.clone()),
            spool: Spool::open(&config.path.spool, limits)?,
            ledger_due: Due::new(),
            revisions: None,
            written: None,
            written_at: now,
        })
    }

    /// Writes the ledger's rows when they are due. `alone` says that no collecting side in this process reports the
    /// process's cost.
    pub(super) fn write_ledger(&mut self, outputs: &[Output], alone: bool) {
        let lost = || {
            let datasets = outputs.iter().flat_map(|output| output.handle.stats().datasets);
            datasets.map(|(_, delivered)| delivered.dead_letters).sum()
        };
        if !self.ledger_due.is_now(Instant::now(), lost) {
            return;
        }
        let clock = Clock::new();
        for output in outputs {
            self.ledger.shipped(&output.name, &output.handle.stats(), &clock, &mut self.spool);
        }
        if alone {
            self.ledger.process("ship", Cost::now(), &clock, &mut self.spool);
        }
        if let Err(e) = self.spool.flush() {
            log::warn!("the shipper's own rows wait: {e}");
        }
    }

    /// Writes the status where it changed; where it didn't, confirms the file from time to time.
    pub(super) fn write_status(&mut self, outputs: &[Output], status: impl Fn() -> ShipStatus) {
        let is_due = self.written_at.elapsed() >= STATUS_INTERVAL;
        let revisions = Some(outputs.iter().map(|output| output.handle.revision()).collect());
        if !is_due && revisions == self.revisions {
            return;
        }
        self.revisions = revisions;
        let status = status();
        let is_news = self.written.as_ref() != Some(&status);
        if !is_due && !is_news {
            return;
        }
        let written = match is_news {
            true => write_status(&self.state, status.clone()),
            false => status::confirm(&self.state),
        };
        // What could not be written, or was taken away, is written when it is due again.
        self.written = logged(&self.state, written).then_some(status);
        self.written_at = Instant::now();
    }

    /// Writes the last rows. The shippers are to find them.
    pub(super) fn close(&mut self) {
        if let Err(e) = self.spool.close() {
            log::warn!("the shipper's own rows are lost: {e}");
        }
    }

    /// Writes the last status.
    pub(super) fn end(&self, status: ShipStatus) {
        logged(&self.state, write_status(&self.state, status));
    }
}

/// What can be told of an output.
pub(super) fn output_status(stats: Stats, description: &str) -> OutputStatus {
    let counted = |count: fn(&Delivered) -> u64| {
        let counts =
            stats.datasets.iter().map(move |(dataset, delivered)| (dataset.clone(), count(delivered)));
        counts.filter(|(_, count)| *count > 0).collect()
    };
    OutputStatus {
        output: description.to_owned(),
        failed: None,
        rows: counted(|delivered| delivered.created),
        dead_letters: counted(|delivered| delivered.dead_letters),
        dead_letters_dropped: stats.dead_letters_dropped,
        halted: stats.halted.as_ref().map(|halted| halted.reason.clone()),
        halted_since: stats.halted.as_ref().map(since),
        held: stats
            .held
            .iter()
            .map(|(stream, halted)| (stream.clone(), (since(halted), halted.reason.clone())))
            .collect(),
        last_letters: stats.last_letters,
        stuck: stats.stuck,
        notes: stats.notes,
        lag: stats.lag,
    }
}

/// What can be told of an output that is not at work.
pub(super) fn failed_status(failed: &FailedOutput) -> OutputStatus {
    let next_try = Utc::now() + failed.next_try.saturating_duration_since(Instant::now());
    let fault = OutputFault { reason: failed.reason.clone(), next_try: rfc3339(next_try) };
    OutputStatus { output: failed.description.clone(), failed: Some(fault), ..OutputStatus::default() }
}

fn since(halted: &Halted) -> String {
    rfc3339(halted.since.into())
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn write_status(state: &Path, status: ShipStatus) -> io::Result<()> {
    let (pid, cost) = (std::process::id(), Cost::now());
    let status = ShipStatus { pid, memory: cost.memory, cpu_time: cost.cpu, ..status };
    status::write(state, &status)
}

/// Whether the status is there; else the log says why not.
fn logged(state: &Path, written: io::Result<()>) -> bool {
    if let Err(e) = &written {
        log::warn!("{}: the status can't be written: {e}", state.display());
    }
    written.is_ok()
}
