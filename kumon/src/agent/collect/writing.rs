//! The thread that writes: the collectors' rows and the ledger's to the spool, and the status.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kumon_collect::{Clock, RateLimited};
use kumon_spool::{FolderLock, RowBatch, Spool};

use super::exchange::{Exchange, Report};
use super::lock;
use super::reports::faults;
use crate::agent::cost::Cost;
use crate::agent::ledger::{Due, Ledger};
use crate::agent::status::{self, CollectStatus};

/// How long it waits for rows before it looks what else is due.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whether the status has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// How old a status file may become though nothing has changed; status::is_stale waits for it.
const STATUS_AGE: Duration = Duration::from_secs(10);

pub(super) struct Writing {
    pub(super) spool: Spool,
    pub(super) clock: Clock,
    pub(super) ledger: Ledger,
    /// The state folder, and its lock.
    pub(super) state: PathBuf,
    pub(super) _lock: FolderLock,
    pub(super) exchange: Arc<Exchange>,
    pub(super) status: Arc<Mutex<CollectStatus>>,
    /// When it was written last, and what.
    pub(super) status_written: Option<(Instant, CollectStatus)>,
    pub(super) spool_error: Option<String>,
}

impl Writing {
    /// Writes what comes, until nobody sends any more and all is written. `paused` is since when collecting stood still
    /// for a reload.
    pub(super) fn run(mut self, batches: &Receiver<RowBatch>, paused: Option<Instant>) {
        self.mark_start(paused);
        let (mut ledger_due, mut next_status) = (Due::new(), Instant::now());
        loop {
            let batch = match batches.recv_timeout(TICK) {
                Err(RecvTimeoutError::Disconnected) => break,
                batch => batch.ok(),
            };
            let now = Instant::now();
            self.exchange.lock().writing_since = Some(now);
            self.write(batch);
            if ledger_due.is_now(now, || self.lost()) {
                self.write_ledger();
            }
            if now >= next_status {
                next_status = now + STATUS_INTERVAL;
                self.write_status();
            }
            self.exchange.lock().writing_since = None;
        }
        self.end();
    }

    fn write(&mut self, batch: Option<RowBatch>) {
        if let Some(mut batch) = batch {
            let bytes = batch.bytes();
            self.spool.append(&mut batch);
            self.exchange.arrived(bytes);
        }
        self.flush();
        let own_processes = self.spool.processes();
        let mut exchanged = self.exchange.lock();
        if exchanged.own_processes != own_processes {
            exchanged.own_processes = own_processes.to_vec();
        }
        let overflowed = std::mem::take(&mut exchanged.overflowed);
        let unseen = std::mem::take(&mut exchanged.unseen);
        drop(exchanged);
        self.spool.count_unwritten(overflowed);
        unseen.into_iter().for_each(|metric| self.ledger.pause(metric, &self.clock, &mut self.spool));
    }

    fn end(&mut self) {
        self.write(None);
        if let Err(e) = self.spool.settle() {
            log::error!("the spool: {e}");
        }
        self.write_ledger();
        if let Err(e) = self.spool.close() {
            log::error!("rows that could not be written are lost: {e}");
        }
        self.write_status();
        self.mark_end();
    }

    /// Says once when something fails in the spool, and once when nothing does any more.
    fn flush(&mut self) {
        let error = self.spool.flush().err().map(|e| e.to_string());
        match (&self.spool_error, &error) {
            (None, Some(e)) => log::error!("the spool: {e}"),
            (Some(_), None) => log::info!("the spool works again"),
            _ => {}
        }
        self.spool_error = error;
    }

    /// Rows that are lost so far.
    fn lost(&self) -> u64 {
        let in_kernel: u64 = self.exchange.lock().report.losses.iter().map(|loss| loss.count).sum();
        in_kernel + self.spool.stats().lost.values().sum::<u64>()
    }

    fn write_ledger(&mut self) {
        let Report { losses, programs, .. } = self.exchange.lock().report.clone();
        let spooled = self.spool.stats().clone();
        self.clock.refresh();
        self.ledger.collected(&losses, &programs, &spooled, &self.clock, &mut self.spool);
        self.ledger.process("collect", Cost::now(), &self.clock, &mut self.spool);
    }

    /// Writes it where it tells something new, or was written long ago.
    fn write_status(&mut self) {
        let Report { losses, rate_limited, states, .. } = self.exchange.lock().report.clone();
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for loss in losses.into_iter().filter(|loss| loss.count > 0) {
            *lost.entry(loss.metric.into()).or_default().entry(loss.reason.into()).or_default() += loss.count;
        }
        let mut makers: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for RateLimited { metric, by, rows } in rate_limited {
            makers.entry(metric.into()).or_default().insert(by, rows);
        }
        let spooled = self.spool.stats();
        for ((metric, reason), count) in &spooled.lost {
            *lost.entry(metric.clone()).or_default().entry(reason.to_string()).or_default() += count;
        }
        let rows = spooled.rows_out.iter().map(|(metric, rows)| ((*metric).to_owned(), *rows)).collect();
        let failed = faults(&states, Instant::now());
        let mut status = lock(&self.status);
        (status.rows, status.lost, status.failed) = (rows, lost, failed);
        status.rate_limited = makers;
        status.spool_error.clone_from(&self.spool_error);
        if let Some((when, written)) = &self.status_written
            && when.elapsed() < STATUS_AGE
            && *written == *status
        {
            return;
        }
        let cost = Cost::now();
        (status.memory, status.cpu_time) = (cost.memory, cost.cpu);
        // Who asks for it meanwhile must not wait for the disk.
        let status = status.clone();
        self.status_written = Some((Instant::now(), status.clone()));
        if let Err(e) = status::write(&self.state, &status) {
            log::warn!("{}: the status can't be written: {e}", self.state.display());
        }
    }

    /// A marker that is still there from the last run tells that it didn't end in order.
    fn mark_start(&mut self, paused: Option<Instant>) {
        if let Some(since) = paused {
            log::info!(
                "collecting stood still for {:.1} s, for its new settings",
                since.elapsed().as_secs_f64()
            );
            self.ledger.pause("all", &self.clock, &mut self.spool);
        }
        let marker = self.state.join("running");
        if marker.exists() {
            log::warn!("the last collector ended without stopping: what was in flight then can't be counted");
            self.ledger.gap(&self.clock, &mut self.spool);
        }
        if let Err(e) = fs::write(&marker, std::process::id().to_string()) {
            log::warn!("{}: can't be written, a crash will go unnoticed: {e}", marker.display());
        }
    }

    fn mark_end(&self) {
        // Left behind it costs a gap row that says too much, never too little.
        let _ = fs::remove_file(self.state.join("running"));
    }
}
