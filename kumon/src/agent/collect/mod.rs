//! The collecting side: polls the collectors and writes what they see to the spool.

mod exchange;
mod polling;
mod writing;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use chrono::{SecondsFormat, Utc};
use kumon_bpf::{Settings, collectors, left_out};
use kumon_collect::{Clock, CollectorState, LeftOut, Scheduler};
use kumon_spool::{FolderLock, Spool};

use super::ledger::Ledger;
use super::status::{CollectStatus, CollectorFault};
use crate::config::Config;
use crate::host;
use exchange::{Exchange, Outbox};
use polling::{Command, Polling};
use writing::Writing;

/// The collecting side, from outside.
pub(super) struct Collecting {
    commands: Sender<Command>,
    polling: JoinHandle<()>,
    writing: JoinHandle<()>,
    status: Arc<Mutex<CollectStatus>>,
}

impl Collecting {
    /// Starts all enabled collectors, the thread that polls them and the one that writes their rows. One that can't start is
    /// reported and left out. `paused` is since when collecting stands still for a reload.
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
        let mut spool = Spool::open(&config.path.spool, config.spool_limits())?;
        let exchange = Arc::new(Exchange::default());
        exchange.lock().own_processes = spool.processes().to_vec();

        let (batches, received) = channel();
        let outbox = Outbox { exchange: Arc::clone(&exchange), batches };
        let (commands, received_commands) = channel();
        let (report, started) = channel();
        let (settings, of_rows) = (config.collectors.clone(), common.clone());
        // BPF objects stay in the thread that opened them.
        let poll = move || match Scheduler::start(collectors(&settings), of_rows) {
            Ok(scheduler) => {
                // Who started this thread waits for it.
                let _ = report.send(Ok(scheduler.states()));
                Polling::new(scheduler, outbox).run(&received_commands);
            }
            Err(e) => {
                let _ = report.send(Err(e));
            }
        };
        let polling = thread("collect", poll)?;
        let states = started.recv().context("the collecting thread died")?.context("starting collectors")?;
        require_one(&states)?;

        let status = CollectStatus {
            pid: std::process::id(),
            off: metrics_off(&config.collectors),
            failed: faults(&states, Instant::now()),
            ..CollectStatus::default()
        };
        let status = Arc::new(Mutex::new(status));
        let write = Writing {
            spool,
            clock: Clock::new(),
            ledger: Ledger::new(common),
            state,
            _lock: state_lock,
            exchange,
            status: Arc::clone(&status),
            status_written: None,
            spool_error: None,
        };
        let writing = thread("spool", move || write.run(&received, paused))?;
        Ok(Collecting { commands, polling, writing, status })
    }

    /// Goes over to other settings of the collectors; those whose settings are the same go on.
    ///
    /// # Errors
    /// When no collector starts.
    pub(super) fn apply(&self, settings: &Settings) -> Result<()> {
        let (answer, answered) = channel();
        // A thread that has ended doesn't answer.
        let _ = self.commands.send(Command::Replace(collectors(settings), answer));
        let states = answered.recv().context("the collecting thread died")?.context("starting collectors")?;
        lock(&self.status).off = metrics_off(settings);
        require_one(&states)
    }

    /// What it has done so far.
    pub(super) fn status(&self) -> CollectStatus {
        lock(&self.status).clone()
    }

    /// Whether it still works; it ends by itself only when a thread dies of a bug.
    pub(super) fn is_running(&self) -> bool {
        !self.polling.is_finished() && !self.writing.is_finished()
    }

    /// Detaches, writes what the kernel still had, and closes the spool's files.
    pub(super) fn stop(self) -> CollectStatus {
        drop(self.commands);
        for thread in [self.polling, self.writing] {
            if thread.join().is_err() {
                log::error!("a collecting thread died; what it had in memory is lost");
            }
        }
        lock(&self.status).clone()
    }
}

fn require_one(states: &[CollectorState]) -> Result<()> {
    if !states.is_empty() && states.iter().all(|state| state.health.next_try().is_some()) {
        bail!("no collector could be started; 'kumon check' shows what this machine lacks");
    }
    Ok(())
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

/// The collectors that fail, and at what.
fn faults(states: &[CollectorState], now: Instant) -> BTreeMap<String, CollectorFault> {
    let fault = |state: &CollectorState| {
        let reason = state.health.fault()?.to_owned();
        let time = |next: Instant| Utc::now() + next.saturating_duration_since(now);
        let next_try =
            state.health.next_try().map(|next| time(next).to_rfc3339_opts(SecondsFormat::Secs, true));
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
