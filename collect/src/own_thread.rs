//! A collector on a thread of its own: what it reads may take long, or hang, and nobody waits for it.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kumon_spool::RowBatch;

use crate::account::{counting, sum};
use crate::fault::Fault;
use crate::retry::Retry;
use crate::scheduler::{Identity, Polled, Shared, identity, poll, title};
use crate::{ActiveCollector, Collector, CollectorState, Health, Loss, RowSink};

/// Batches that wait to be fetched; then the thread waits too.
const WAITING: usize = 16;
/// How long a start or a poll may take before it is said to hang, at least.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });
/// How long the end of a poll is waited for when all collectors end.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The thread, from outside.
pub(crate) struct OwnThread {
    identity: Identity,
    metrics: Vec<&'static str>,
    works_everywhere: bool,
    /// How long a start or a poll takes at most while all is well.
    patience: Duration,
    end: Sender<()>,
    batches: Receiver<RowBatch>,
    known: Arc<Mutex<Known>>,
    thread: JoinHandle<()>,
}

/// What both sides know.
#[derive(Default)]
struct Known {
    own_processes: Vec<u32>,
    losses: Vec<Loss>,
    health: Health,
    cpu_time: u64,
    /// What is under way, `start` or `poll`, and when it began.
    under_way: Option<(&'static str, Instant)>,
}

impl OwnThread {
    /// # Errors
    /// When the thread can't be started.
    pub(crate) fn start(
        collector: Box<dyn Collector>,
        period: Duration,
        shared: Shared,
    ) -> io::Result<OwnThread> {
        let (identity, metrics, works_everywhere) =
            (identity(&*collector), collector.metrics(), collector.works_everywhere());
        let ((end, ended), (sender, batches)) = (channel(), sync_channel(WAITING));
        let known = Arc::new(Mutex::new(Known::default()));
        let work = Work {
            collector,
            period,
            shared,
            batches: Batches(sender),
            known: Arc::clone(&known),
            past_losses: Vec::new(),
        };
        let thread = std::thread::Builder::new().name(identity.0.into()).spawn(move || work.run(&ended))?;
        let patience = PATIENCE.max(period * 3);
        Ok(OwnThread { identity, metrics, works_everywhere, patience, end, batches, known, thread })
    }

    /// Its collector's name and settings.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Tells it which processes are KuMon's own.
    pub(crate) fn tell(&self, own_processes: &[u32]) {
        let mut known = lock(&self.known);
        if known.own_processes != own_processes {
            known.own_processes = own_processes.to_vec();
        }
    }

    /// Takes the rows that are ready.
    pub(crate) fn collect(&self, sink: &mut dyn RowSink) {
        self.batches.try_iter().for_each(|mut batch| sink.take(&mut batch));
    }

    pub(crate) fn ask_to_end(&self) {
        // One that has ended doesn't listen any more.
        let _ = self.end.send(());
    }

    /// Takes its last rows. One that hangs is left to itself.
    pub(crate) fn end(&mut self, sink: &mut dyn RowSink) {
        let deadline = Instant::now() + LAST_WAIT;
        while let Ok(mut batch) =
            self.batches.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            sink.take(&mut batch);
        }
        if !self.thread.is_finished() && Instant::now() >= deadline {
            log::warn!("the collector {} hangs; what it had not given away is lost", self.identity.0);
        }
    }

    pub(crate) fn losses(&self) -> Vec<Loss> {
        lock(&self.known).losses.clone()
    }

    pub(crate) fn state(&self) -> CollectorState {
        let known = lock(&self.known);
        let health = match known.under_way {
            Some((what, since)) if since.elapsed() > self.patience => {
                Health::Hanging(format!("it hangs: its {what} began {} s ago", since.elapsed().as_secs()))
            }
            _ => known.health.clone(),
        };
        CollectorState {
            name: self.identity.0,
            metrics: self.metrics.clone(),
            works_everywhere: self.works_everywhere,
            health,
            cpu_time: known.cpu_time,
        }
    }
}

/// The thread, from inside.
struct Work {
    collector: Box<dyn Collector>,
    period: Duration,
    shared: Shared,
    batches: Batches,
    known: Arc<Mutex<Known>>,
    /// What it lost before it was started anew.
    past_losses: Vec<Loss>,
}

impl Work {
    /// Polls the collector until it is to end; starts it again whenever it fails.
    fn run(mut self, ended: &Receiver<()>) {
        let mut retry: Option<Retry> = None;
        loop {
            lock(&self.known).under_way = Some(("start", Instant::now()));
            let mut cpu_time = 0;
            let started = counting(&mut cpu_time, || self.collector.start());
            {
                let mut known = lock(&self.known);
                known.under_way = None;
                known.cpu_time += cpu_time;
            }
            let title = title(&*self.collector);
            let failed = match started {
                Ok(active) => {
                    lock(&self.known).health = Health::Running;
                    if retry.is_some() {
                        log::info!("the collector {title} works now");
                    }
                    match self.poll_until_it_fails(active, ended) {
                        None => return,
                        Some(panic) => Retry::at_work(retry.take(), &title, panic),
                    }
                }
                Err(e) => match retry.take() {
                    Some(mut retry) => {
                        retry.failed_again(&title, e.to_string());
                        retry
                    }
                    None => Retry::after(&title, e.to_string()),
                },
            };
            lock(&self.known).health = failed.health();
            // What it has emitted is not to wait for its next start.
            self.shared.finish_coarse(true);
            self.batches.take(&mut self.shared.batch);
            let pause = failed.next.saturating_duration_since(Instant::now());
            retry = Some(failed);
            if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// None once it was to end, else the panic that ended it.
    fn poll_until_it_fails(
        &mut self,
        mut active: Box<dyn ActiveCollector>,
        ended: &Receiver<()>,
    ) -> Option<String> {
        let mut fault = Fault::default();
        loop {
            let last = ended.recv_timeout(self.period) != Err(RecvTimeoutError::Timeout);
            let now = Instant::now();
            let own_processes = {
                let mut known = lock(&self.known);
                known.under_way = Some(("poll", now));
                known.own_processes.clone()
            };
            self.shared.clock.refresh();
            let mut cpu_time = 0;
            let polled = counting(&mut cpu_time, || {
                poll(&mut *active, now, last, &own_processes, &mut self.shared, &mut self.batches)
            });
            self.shared.finish_coarse(last);
            self.batches.take(&mut self.shared.batch);
            let mut known = lock(&self.known);
            known.under_way = None;
            known.cpu_time += cpu_time;
            known.losses = sum(self.past_losses.iter().cloned().chain(active.losses()));
            match polled {
                Polled::Done(result) => fault.note(self.collector.name(), result, now),
                Polled::Panicked(why) => {
                    self.past_losses.clone_from(&known.losses);
                    return Some(why);
                }
            }
            known.health = fault.health();
            if last {
                return None;
            }
        }
    }
}

/// The way to the scheduler.
struct Batches(SyncSender<RowBatch>);

impl RowSink for Batches {
    fn take(&mut self, batch: &mut RowBatch) {
        if batch.bytes() > 0 {
            // Nobody takes any after the end.
            let _ = self.0.send(batch.split());
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
