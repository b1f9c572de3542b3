//! The collecting side: polls the collectors and writes what they see to the spool.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{SecondsFormat, Utc};
use kumon_bpf::{Settings, collectors, left_out};
use kumon_collect::{Clock, CollectorState, LeftOut, Scheduler};
use kumon_spool::{FolderLock, Spool};

use super::cost::Cost;
use super::ledger::Ledger;
use super::status::{self, CollectStatus, CollectorFault};
use crate::config::Config;
use crate::host;

/// How long an event may stay in the kernel: events wake nobody, they are fetched.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often the ledger's rows are written.
const LEDGER_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether the status has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// How old a status file may become though nothing has changed; status::is_stale waits for it.
const STATUS_AGE: Duration = Duration::from_secs(10);

/// The collecting thread, from outside.
pub(super) struct Collecting {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    status: Arc<Mutex<CollectStatus>>,
}

impl Collecting {
    /// Starts all enabled collectors, and the thread that polls them. One that can't start is reported and left out.
    /// `paused` is since when collecting stands still for a reload.
    ///
    /// # Errors
    /// When another agent collects into this state folder, the spool can't be used, or no collector starts.
    pub(super) fn start(config: &Config, paused: Option<Instant>) -> Result<Collecting> {
        let state = config.path.collect();
        let locked =
            FolderLock::take(&state).with_context(|| format!("{}: can't be used", state.display()))?;
        let Some(state_lock) = locked else {
            bail!(
                "{}: another KuMon collects with this state folder; stop it (see 'kumon status'), or give this one \
                 its own path.state and path.spool",
                state.display()
            );
        };
        let common = host::common()?;
        let spool = Spool::open(&config.path.spool, config.spool_limits())?;

        let off = metrics_off(&config.collectors);
        let status = CollectStatus { pid: std::process::id(), off, ..CollectStatus::default() };
        let status = Arc::new(Mutex::new(status));
        let (stop, stopped) = channel();
        let (report, started) = channel();
        let (settings, thread_status) = (config.collectors.clone(), status.clone());
        // BPF objects stay in the thread that opened them.
        let work = move || {
            let scheduler = match Scheduler::start(collectors(&settings), common.clone()) {
                Ok(scheduler) => scheduler,
                Err(e) => {
                    log::error!("collectors can't be started: {e}");
                    return;
                }
            };
            let states = scheduler.states();
            let usable = states.is_empty() || states.iter().any(|state| state.next_try.is_none());
            lock(&thread_status).failed = faults(&states, Instant::now());
            // Who started this thread waits for the report.
            let _ = report.send(usable);
            if usable {
                let ledger = Ledger::new(common);
                let mut worker = Worker::new(scheduler, spool, ledger, state, thread_status, state_lock);
                worker.mark_start(paused);
                worker.run(&stopped);
            }
        };
        let thread = std::thread::Builder::new().name("collect".into()).spawn(work)?;
        if !started.recv().unwrap_or(false) {
            bail!("no collector could be started; 'kumon check' shows what this machine lacks");
        }
        Ok(Collecting { stop, thread, status })
    }

    /// What it has done so far.
    pub(super) fn status(&self) -> CollectStatus {
        lock(&self.status).clone()
    }

    /// Whether it still works; it ends by itself only when a thread dies of a bug.
    pub(super) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Detaches, writes what the kernel still had, and closes the spool's files.
    pub(super) fn stop(self) -> CollectStatus {
        // A thread that has ended doesn't listen any more.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            log::error!("the collecting thread died; what it had in memory is lost");
        }
        lock(&self.status).clone()
    }
}

/// The collectors that fail, and at what.
fn faults(states: &[CollectorState], now: Instant) -> BTreeMap<String, CollectorFault> {
    let fault = |state: &CollectorState| {
        let reason = state.fault.clone()?;
        let time = |next: Instant| Utc::now() + next.saturating_duration_since(now);
        let next_try = state.next_try.map(|next| time(next).to_rfc3339_opts(SecondsFormat::Secs, true));
        // Who reads it knows metrics by their names.
        Some((format!("{} ({})", state.name, state.metrics.join(", ")), CollectorFault { reason, next_try }))
    };
    states.iter().filter_map(fault).collect()
}

fn lock(status: &Mutex<CollectStatus>) -> MutexGuard<'_, CollectStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The metrics that are off on this kernel because nobody asks for them by name, and why.
fn metrics_off(settings: &Settings) -> BTreeMap<String, String> {
    let mut off = BTreeMap::new();
    for LeftOut { metric, reason, .. } in left_out(settings) {
        log::info!("{metric} is off: {reason}");
        off.insert(metric.to_owned(), reason);
    }
    off
}

struct Worker {
    scheduler: Scheduler,
    spool: Spool,
    clock: Clock,
    ledger: Ledger,
    state: PathBuf,
    status: Arc<Mutex<CollectStatus>>,
    status_written: Option<Instant>,
    spool_error: Option<String>,
    _lock: FolderLock,
}

impl Worker {
    fn new(
        scheduler: Scheduler,
        spool: Spool,
        ledger: Ledger,
        state: PathBuf,
        status: Arc<Mutex<CollectStatus>>,
        lock: FolderLock,
    ) -> Worker {
        let (clock, status_written, spool_error) = (Clock::new(), None, None);
        Worker { scheduler, spool, clock, ledger, state, status, status_written, spool_error, _lock: lock }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let (mut next_ledger, mut next_status) = (Instant::now() + LEDGER_INTERVAL, Instant::now());
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(POLL_INTERVAL) {
            let now = Instant::now();
            let own_processes = self.spool.processes().to_vec();
            self.scheduler.poll(&own_processes, &mut self.spool);
            self.flush();
            if now >= next_ledger {
                next_ledger = now + LEDGER_INTERVAL;
                self.write_ledger();
            }
            if now >= next_status {
                next_status = now + STATUS_INTERVAL;
                self.scheduler.retry_failed(now);
                self.write_status();
            }
        }
        let own_processes = self.spool.processes().to_vec();
        self.scheduler.finish(&own_processes, &mut self.spool);
        self.flush();
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

    fn write_ledger(&mut self) {
        let (losses, programs) = (self.scheduler.losses(), self.scheduler.programs());
        let spooled = self.spool.stats().clone();
        self.clock.refresh();
        self.ledger.collected(&losses, &programs, &spooled, &self.clock, &mut self.spool);
        self.ledger.process("collect", Cost::now(), &self.clock, &mut self.spool);
    }

    /// Writes it where it tells something new, or was written long ago.
    fn write_status(&mut self) {
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for loss in self.scheduler.losses().into_iter().filter(|loss| loss.count > 0) {
            *lost.entry(loss.metric.into()).or_default().entry(loss.reason.into()).or_default() += loss.count;
        }
        let spooled = self.spool.stats();
        for ((metric, reason), count) in &spooled.lost {
            *lost.entry(metric.clone()).or_default().entry(reason.to_string()).or_default() += count;
        }
        let rows = spooled.rows_out.iter().map(|(metric, rows)| ((*metric).to_owned(), *rows)).collect();
        let failed = faults(&self.scheduler.states(), Instant::now());
        let mut status = lock(&self.status);
        let was = (&status.rows, &status.lost, &status.failed, &status.spool_error);
        let is_new = was != (&rows, &lost, &failed, &self.spool_error);
        if !is_new && self.status_written.is_some_and(|written| written.elapsed() < STATUS_AGE) {
            return;
        }
        self.status_written = Some(Instant::now());
        let cost = Cost::now();
        status.rows = rows;
        status.lost = lost;
        status.failed = failed;
        status.spool_error.clone_from(&self.spool_error);
        (status.memory, status.cpu_time) = (cost.memory, cost.cpu);
        let written = status::write(&self.state, &*status);
        drop(status);
        if let Err(e) = written {
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
            self.ledger.pause(&self.clock, &mut self.spool);
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
