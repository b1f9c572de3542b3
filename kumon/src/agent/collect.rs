//! The collecting side: polls the collectors and writes what they see to the spool.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kumon_bpf::{Clock, CollectorError, LeftOut, Loss, ProgramCost, Running, Settings, collectors, left_out};
use kumon_spool::{FolderLock, Spool};

use super::cost::Cost;
use super::ledger::{self, Ledger};
use super::status::{self, CollectStatus};
use crate::config::Config;
use crate::host;

/// How long an event may stay in the kernel: events wake nobody, they are fetched.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often the ledger's rows are written.
const LEDGER_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether the status has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// A collector that could not be started is tried again after this, and twice as long after each further failure …
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// … up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// How often a fault that lasts is logged.
const REMINDER: Duration = Duration::from_secs(60);
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
        let lock = FolderLock::take(&state).with_context(|| format!("{}: can't be used", state.display()))?;
        let Some(lock) = lock else {
            bail!(
                "{}: another KuMon collects with this state folder; stop it (see 'kumon status'), or give this one \
                 its own path.state and path.spool",
                state.display()
            );
        };
        let spool = Spool::open(&config.path.spool, host::common()?, config.spool_limits())?;

        let off = metrics_off(&config.collectors);
        let status = CollectStatus { pid: std::process::id(), off, ..CollectStatus::default() };
        let status = Arc::new(Mutex::new(status));
        let (stop, stopped) = channel();
        let (report, started) = channel();
        let (settings, thread_status) = (config.collectors.clone(), status.clone());
        // BPF objects stay in the thread that opened them.
        let work = move || {
            let (running, failed) = start_collectors(&settings);
            let usable = !running.is_empty() || failed.is_empty();
            thread_status.lock().unwrap_or_else(PoisonError::into_inner).failed = reasons(&failed);
            // Who started this thread waits for the report.
            let _ = report.send(usable);
            if usable {
                let mut worker = Worker::new(running, failed, spool, state, thread_status, lock);
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
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The collectors that could be started, and those that couldn't.
fn start_collectors(settings: &Settings) -> (Vec<Collector>, Vec<Failed>) {
    let (mut running, mut failed) = (Vec::new(), Vec::new());
    for collector in collectors(settings) {
        match collector.start() {
            Ok(started) => running.push(Collector::new(collector.name(), started)),
            Err(e) => {
                // Who reads it knows metrics by their names.
                let name = format!("{} ({})", collector.name(), collector.metrics().join(", "));
                log::error!("the collector {name} is left out: {e}; it is tried again");
                let (reason, next) = (e.to_string(), Instant::now() + FIRST_RETRY);
                failed.push(Failed { collector, name, reason, next, pause: FIRST_RETRY });
            }
        }
    }
    (running, failed)
}

/// A collector that could not be started: what it lacked may have come meanwhile.
struct Failed {
    collector: Box<dyn kumon_bpf::Collector>,
    /// Its name with those of its metrics.
    name: String,
    reason: String,
    next: Instant,
    pause: Duration,
}

impl Failed {
    fn retry(&mut self) -> Option<Collector> {
        match self.collector.start() {
            Ok(running) => {
                log::info!("the collector {} works now", self.name);
                Some(Collector::new(self.collector.name(), running))
            }
            Err(e) => {
                let reason = e.to_string();
                if reason != self.reason {
                    log::error!("the collector {} is still left out: {reason}", self.name);
                }
                self.pause = (self.pause * 2).min(LONGEST_RETRY);
                (self.reason, self.next) = (reason, Instant::now() + self.pause);
                None
            }
        }
    }
}

fn reasons(failed: &[Failed]) -> BTreeMap<String, String> {
    failed.iter().map(|failed| (failed.name.clone(), failed.reason.clone())).collect()
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

struct Collector {
    name: &'static str,
    running: Box<dyn Running>,
    /// What reading it failed at last, when that was logged, and how often it was not since.
    fault: Option<(String, Instant, u64)>,
}

impl Collector {
    fn new(name: &'static str, running: Box<dyn Running>) -> Collector {
        Collector { name, running, fault: None }
    }

    /// Logs what reading it came to: a fault when it is new and then once a minute, and its end.
    fn note(&mut self, result: Result<(), CollectorError>, now: Instant) {
        let name = self.name;
        let Err(e) = result else {
            if self.fault.take().is_some() {
                log::info!("the collector {name} works again");
            }
            return;
        };
        let message = e.to_string();
        let left_out = match &mut self.fault {
            Some((known, logged, left_out)) if *known == message && now < *logged + REMINDER => {
                *left_out += 1;
                return;
            }
            Some((_, _, left_out)) => *left_out,
            None => 0,
        };
        let others = if left_out > 0 { format!(" (and {left_out} more times)") } else { String::new() };
        log::error!("the collector {name}: {message}{others}");
        self.fault = Some((message, now, 0));
    }
}

struct Worker {
    running: Vec<Collector>,
    failed: Vec<Failed>,
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
        running: Vec<Collector>,
        failed: Vec<Failed>,
        spool: Spool,
        state: PathBuf,
        status: Arc<Mutex<CollectStatus>>,
        lock: FolderLock,
    ) -> Worker {
        let (clock, ledger) = (Clock::new(), Ledger::default());
        let (status_written, spool_error) = (None, None);
        Worker {
            running,
            failed,
            spool,
            clock,
            ledger,
            state,
            status,
            status_written,
            spool_error,
            _lock: lock,
        }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let (mut next_ledger, mut next_status) = (Instant::now() + LEDGER_INTERVAL, Instant::now());
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(POLL_INTERVAL) {
            let now = Instant::now();
            self.poll(now, false);
            self.flush();
            if now >= next_ledger {
                next_ledger = now + LEDGER_INTERVAL;
                self.write_ledger();
            }
            if now >= next_status {
                next_status = now + STATUS_INTERVAL;
                self.retry_failed(now);
                self.write_status();
            }
        }
        self.poll(Instant::now(), true);
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

    fn poll(&mut self, now: Instant, last: bool) {
        self.clock.refresh();
        for collector in &mut self.running {
            let result = collector.running.poll(&self.clock, now, last, &mut self.spool);
            collector.note(result, now);
        }
    }

    /// Tries collectors again that could not be started; one at a time, as the others wait meanwhile.
    fn retry_failed(&mut self, now: Instant) {
        let due = self.failed.iter().position(|failed| now >= failed.next);
        let Some(at) = due else { return };
        if let Some(started) = self.failed[at].retry() {
            self.running.push(started);
            self.failed.remove(at);
        }
        self.status.lock().unwrap_or_else(PoisonError::into_inner).failed = reasons(&self.failed);
        self.status_written = None;
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

    fn losses(&self) -> Vec<Loss> {
        self.running.iter().flat_map(|collector| collector.running.losses()).collect()
    }

    fn write_ledger(&mut self) {
        let losses = self.losses();
        let programs: Vec<ProgramCost> = self.running.iter().flat_map(|c| c.running.programs()).collect();
        let spooled = self.spool.stats().clone();
        self.ledger.collected(&losses, &programs, &spooled, &self.clock, &mut self.spool);
        self.ledger.process("collect", Cost::now(), &self.clock, &mut self.spool);
    }

    /// Writes it where it tells something new, or was written long ago.
    fn write_status(&mut self) {
        let mut lost: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for loss in self.losses().into_iter().filter(|loss| loss.count > 0) {
            *lost.entry(loss.metric.into()).or_default().entry(loss.reason.into()).or_default() += loss.count;
        }
        let spooled = self.spool.stats();
        for ((metric, reason), count) in &spooled.lost {
            *lost.entry(metric.clone()).or_default().entry(reason.to_string()).or_default() += count;
        }
        let rows = spooled.rows_out.iter().map(|(metric, rows)| ((*metric).to_owned(), *rows)).collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = (&status.rows, &status.lost, &status.spool_error) != (&rows, &lost, &self.spool_error);
        if !is_new && self.status_written.is_some_and(|written| written.elapsed() < STATUS_AGE) {
            return;
        }
        self.status_written = Some(Instant::now());
        let cost = Cost::now();
        status.rows = rows;
        status.lost = lost;
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
            ledger::pause(&self.clock, &mut self.spool);
        }
        let marker = self.state.join("running");
        if marker.exists() {
            log::warn!("the last collector ended without stopping: what was in flight then can't be counted");
            ledger::gap(&self.clock, &mut self.spool);
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
