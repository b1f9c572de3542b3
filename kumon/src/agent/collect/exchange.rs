//! What the thread that polls and the one that writes tell each other. Neither waits for the other: a disk that hangs
//! holds up the writing, and the kernel's buffers are emptied all the same.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kumon_collect::{CollectorState, Loss, ProgramCost, RateLimited, RowSink};
use kumon_spool::RowBatch;

/// Rows that wait to be written, in bytes; more are lost, and counted.
pub(super) const MAX_WAITING: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Exchange(Mutex<Exchanged>);

#[derive(Debug, Default)]
pub(super) struct Exchanged {
    /// From writing to polling: KuMon's own processes.
    pub(super) own_processes: Vec<u32>,
    /// Since when the writing thread is at one piece of work.
    pub(super) writing_since: Option<Instant>,
    /// From polling to writing: what the collectors say of themselves.
    pub(super) report: Report,
    /// Rows that found no room on the way, by metric; taken out when they are counted.
    pub(super) overflowed: BTreeMap<&'static str, u64>,
    /// Metrics that were not seen while their collector was started with new settings; taken out when that is written.
    pub(super) unseen: Vec<&'static str>,
    waiting: usize,
}

/// What the collectors say of themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) losses: Vec<Loss>,
    pub(super) rate_limited: Vec<RateLimited>,
    pub(super) programs: Vec<ProgramCost>,
    pub(super) states: Vec<CollectorState>,
}

impl Exchange {
    pub(super) fn lock(&self) -> MutexGuard<'_, Exchanged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch has been written.
    pub(super) fn arrived(&self, bytes: usize) {
        self.lock().waiting -= bytes;
    }
}

/// Where the polling thread puts rows for the writing one.
pub(super) struct Outbox {
    pub(super) exchange: Arc<Exchange>,
    pub(super) batches: Sender<RowBatch>,
}

impl RowSink for Outbox {
    fn take(&mut self, batch: &mut RowBatch) {
        let batch = batch.split();
        let bytes = batch.bytes();
        let mut exchanged = self.exchange.lock();
        if exchanged.waiting + bytes > MAX_WAITING {
            for (metric, rows) in batch.rows() {
                *exchanged.overflowed.entry(metric).or_default() += rows;
            }
        } else if bytes > 0 {
            exchanged.waiting += bytes;
            // The writing thread outlives this one, unless it died of a bug: then this one is about to end too.
            let _ = self.batches.send(batch);
        }
    }
}
