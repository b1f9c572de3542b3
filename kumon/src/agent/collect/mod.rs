//! The collecting side: polls the collectors and writes what they see to the spool.

mod exchange;
mod polling;
mod reports;
mod requests;
mod switchboard;
mod switches;
mod writing;

use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kumon_collect::{Clock, Collector, CollectorState, LeftOut, Scheduler};
use kumon_spool::{FolderLock, RowBatch, Spool};

use super::ledger::Ledger;
use super::status::CollectStatus;
use crate::config::{Collectors, Config};
use crate::control::ControlServer;
use crate::{explain, host};
use exchange::{Exchange, Outbox};
use polling::Polling;
use requests::Requests;
use switchboard::{Switchboard, Wanted};
use writing::Writing;

pub(crate) use switches::{OnOff, Override, Switches, metrics_on, with_overrides};

/// The collecting side, from outside.
pub(super) struct Collecting {
    board: Arc<Switchboard>,
    server: Option<ControlServer>,
    polling: JoinHandle<()>,
    writing: JoinHandle<()>,
    status: Arc<Mutex<CollectStatus>>,
}

impl Collecting {
    /// Starts all enabled collectors, the thread that polls them and the one that writes their rows. One that can't start is
    /// reported and left out. `paused` is since when collecting stands still for a reload, and `switched` what was switched
    /// before it.
    ///
    /// # Errors
    /// When another agent collects into this state folder, the spool can't be used, or no collector starts.
    pub(super) fn start(config: &Config, paused: Option<Instant>, switched: OnOff) -> Result<Collecting> {
        Collecting::start_those(config, paused, switched, Collectors::collectors_and_left_out)
    }

    /// The same with the collectors that `make` makes of the settings.
    fn start_those(
        config: &Config,
        paused: Option<Instant>,
        switched: OnOff,
        make: impl FnOnce(&Collectors) -> (Vec<Box<dyn Collector>>, Vec<LeftOut>),
    ) -> Result<Collecting> {
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
        let (wanted, note) = Wanted::new(&config.collectors, &state, switched);
        let common = host::common()?;
        let mut spool = Spool::open(&config.path.spool, config.spool.limits())?;
        let exchange = Arc::new(Exchange::default());
        exchange.lock().own_processes = spool.processes().to_vec();

        let (batches, received) = channel();
        let outbox = Outbox { exchange: Arc::clone(&exchange), batches };
        let (commands, received_commands) = channel();
        let (report, started) = channel();
        let (collectors, left_out) = make(&wanted.settings());
        let batch = RowBatch::new(Arc::new(common.clone())).with_formats(config.spool.format.clone());
        // BPF objects stay in the thread that opened them.
        let poll = move || match Scheduler::start(collectors, batch) {
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
            off: reports::metrics_off(left_out),
            switched: wanted.overrides(),
            failed: reports::faults(&states, Instant::now()),
            ..CollectStatus::default()
        };
        exchange.lock().report.states = states;
        reports::log_off(&status.off);
        let status = Arc::new(Mutex::new(status));
        let write = Writing {
            spool,
            clock: Clock::new(),
            ledger: Ledger::new(common, config.spool.format.clone()),
            state: state.clone(),
            _lock: state_lock,
            exchange: Arc::clone(&exchange),
            status: Arc::clone(&status),
            status_written: None,
            spool_error: None,
        };
        let writing = thread("spool", move || write.run(&received, paused))?;
        let board = Arc::new(Switchboard {
            commands,
            exchange,
            status: Arc::clone(&status),
            state,
            switching: Mutex::default(),
            wanted: Mutex::new(wanted),
            note: Mutex::new(note),
        });
        // Without it the agent still does its work.
        let server = ControlServer::start(&config.path.collect_socket(), Requests(Arc::downgrade(&board)))
            .inspect_err(|e| log::error!("'kumon collectors' will find nobody: {}", explain(e)))
            .ok();
        Ok(Collecting { board, server, polling, writing, status })
    }

    /// Goes over to other settings of the collectors; those whose settings are the same go on, and what was switched stays
    /// so.
    ///
    /// # Errors
    /// When no collector starts.
    pub(super) fn apply(&self, settings: &Collectors) -> Result<()> {
        self.board.configure(settings)
    }

    /// What was switched until the agent restarts.
    pub(super) fn switched(&self) -> OnOff {
        self.board.temporary()
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
        if let Some(server) = self.server {
            server.stop();
        }
        drop(self.board);
        for thread in [self.polling, self.writing] {
            if thread.join().is_err() {
                log::error!("a collecting thread died; what it had in memory is lost");
            }
        }
        lock(&self.status).clone()
    }
}

/// An agent that has nothing but what works everywhere, and was to have more, would be half blind.
fn require_one(states: &[CollectorState]) -> Result<()> {
    let (everywhere, here): (Vec<_>, Vec<_>) = states.iter().partition(|state| state.works_everywhere);
    let has_failed = |states: &[&CollectorState]| {
        !states.is_empty() && states.iter().all(|state| state.health.next_try().is_some())
    };
    if has_failed(&here) || here.is_empty() && has_failed(&everywhere) {
        let what = if everywhere.is_empty() { "" } else { " that runs in the kernel" };
        bail!("no collector could be started{what}; 'kumon check' shows what this machine lacks");
    }
    Ok(())
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
