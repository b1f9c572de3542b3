//! Starts and polls collectors, tries those again that fail, and knows the state of each.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use kumon_spool::RowBatch;

use crate::account::{Past, counting, sum, sum_programs};
use crate::coarse::Coarse;
use crate::fault::Fault;
use crate::own_thread::OwnThread;
use crate::retry::Retry;
use crate::subject::Resolver;
use crate::{
    ActiveCollector, Cadence, Cgroups, Clock, Collector, CollectorError, CollectorState, Emitter, Loss,
    PollContext, ProgramCost, RateLimited, RowSink,
};

/// All collectors of a configuration. It belongs to the thread that made it, as BPF objects do.
pub struct Scheduler {
    collectors: Vec<Scheduled>,
    own_threads: Vec<OwnThread>,
    shared: Shared,
    past: Past,
}

/// What every poll needs.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) batch: RowBatch,
    pub(crate) coarse: Coarse,
    pub(crate) resolver: Resolver,
}

impl Shared {
    /// The same for another thread.
    fn for_thread(&self) -> Shared {
        let (batch, resolver) = (self.batch.empty(), self.resolver.clone());
        Shared { clock: self.clock, batch, coarse: Coarse::default(), resolver }
    }

    /// Puts the rows by 10 minutes into the batch, of 10 minutes that are over, and at the last poll all.
    pub(crate) fn finish_coarse(&mut self, last: bool) {
        match last {
            true => self.coarse.finish(&mut self.batch),
            false => self.coarse.finish_past(self.clock.now(), &mut self.batch),
        }
    }
}

/// A collector's name and settings.
pub(crate) type Identity = (&'static str, String);

pub(crate) fn identity(collector: &dyn Collector) -> Identity {
    (collector.name(), collector.configuration())
}

/// A collector that is polled on the scheduler's own thread.
struct Scheduled {
    collector: Box<dyn Collector>,
    stage: Stage,
    cpu_time: u64,
}

enum Stage {
    /// With what is known of its last failure.
    Active(Box<dyn ActiveCollector>, Fault, Option<Retry>),
    /// It could not be started, or panicked.
    Failed(Retry),
}

impl Scheduler {
    /// Starts the collectors, whose rows come in batches such as the empty `batch`. One that can't be started is reported,
    /// left out and tried again.
    ///
    /// # Errors
    /// When this boot's id can't be read.
    pub fn start(collectors: Vec<Box<dyn Collector>>, batch: RowBatch) -> io::Result<Scheduler> {
        let resolver = Resolver::new(Cgroups::watch_this_node())?;
        let shared = Shared { clock: Clock::new(), batch, coarse: Coarse::default(), resolver };
        let mut scheduler =
            Scheduler { collectors: Vec::new(), own_threads: Vec::new(), shared, past: Past::default() };
        collectors.into_iter().try_for_each(|collector| scheduler.add(collector))?;
        Ok(scheduler)
    }

    fn add(&mut self, collector: Box<dyn Collector>) -> io::Result<()> {
        match collector.cadence() {
            Cadence::Drain => self.collectors.push(Scheduled::start(collector)),
            Cadence::OwnThread(period) => {
                self.own_threads.push(OwnThread::start(collector, period, self.shared.for_thread())?);
            }
        }
        Ok(())
    }

    /// Goes over to other collectors: those with the same settings go on, the others end, and their successors start.
    /// Returns the metrics that were not seen in between.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn replace(
        &mut self,
        collectors: Vec<Box<dyn Collector>>,
        own_processes: &[u32],
        sink: &mut dyn RowSink,
    ) -> io::Result<Vec<&'static str>> {
        let wanted: Vec<Identity> = collectors.iter().map(|collector| identity(&**collector)).collect();
        let ended = self.end_all_but(&wanted, own_processes, sink);
        let scheduled = self.collectors.iter().map(|scheduled| identity(&*scheduled.collector));
        let own_threads = self.own_threads.iter().map(|own_thread| own_thread.identity().clone());
        let known: Vec<Identity> = scheduled.chain(own_threads).collect();
        let mut unseen = Vec::new();
        for collector in collectors.into_iter().filter(|collector| !known.contains(&identity(&**collector))) {
            unseen.extend(collector.metrics().into_iter().filter(|metric| ended.contains(metric)));
            self.add(collector)?;
        }
        Ok(unseen)
    }

    /// Ends collectors after their last poll; returns their metrics.
    fn end_all_but(
        &mut self,
        wanted: &[Identity],
        own_processes: &[u32],
        sink: &mut dyn RowSink,
    ) -> Vec<&'static str> {
        let mut metrics = Vec::new();
        self.shared.clock.refresh();
        for mut scheduled in
            self.collectors.extract_if(.., |scheduled| !wanted.contains(&identity(&*scheduled.collector)))
        {
            metrics.extend(scheduled.collector.metrics());
            let now = Instant::now();
            scheduled.poll(now, true, own_processes, &mut self.shared, sink, &mut self.past);
            *self.past.cpu_time.entry(scheduled.collector.name()).or_default() += scheduled.cpu_time;
            if let Stage::Active(active, ..) = scheduled.stage {
                self.past.add(&*active);
            }
        }
        sink.take(&mut self.shared.batch);
        for mut own_thread in
            self.own_threads.extract_if(.., |own_thread| !wanted.contains(own_thread.identity()))
        {
            metrics.extend(own_thread.state().metrics);
            own_thread.ask_to_end();
            own_thread.end(sink);
            self.past.losses = sum(self.past.losses.drain(..).chain(own_thread.losses()));
            let CollectorState { name, cpu_time, .. } = own_thread.state();
            *self.past.cpu_time.entry(name).or_default() += cpu_time;
        }
        metrics
    }

    /// Polls all collectors that are due and gives their rows to `sink`. `own_processes` are KuMon's own.
    pub fn poll(&mut self, own_processes: &[u32], sink: &mut dyn RowSink) {
        self.poll_all(own_processes, false, sink);
        for own_thread in &mut self.own_threads {
            own_thread.tell(own_processes);
            own_thread.collect(sink);
        }
    }

    /// Polls all collectors for the last time: they detach and give away all that is left.
    pub fn finish(&mut self, own_processes: &[u32], sink: &mut dyn RowSink) {
        self.own_threads.iter().for_each(OwnThread::ask_to_end);
        self.poll_all(own_processes, true, sink);
        self.own_threads.iter_mut().for_each(|own_thread| own_thread.end(sink));
    }

    fn poll_all(&mut self, own_processes: &[u32], last: bool, sink: &mut dyn RowSink) {
        self.shared.clock.refresh();
        let now = Instant::now();
        for scheduled in &mut self.collectors {
            scheduled.poll(now, last, own_processes, &mut self.shared, sink, &mut self.past);
        }
        self.shared.finish_coarse(last);
        sink.take(&mut self.shared.batch);
    }

    /// Starts a collector again that could not be started or panicked, where one is due; one at a time, as the others wait
    /// meanwhile. Whether it was tried.
    pub fn retry_failed(&mut self, now: Instant) -> bool {
        self.collectors.iter_mut().any(|scheduled| scheduled.retry(now))
    }

    /// The state of each collector.
    pub fn states(&self) -> Vec<CollectorState> {
        let scheduled = self.collectors.iter().map(Scheduled::state);
        let with_past = |mut state: CollectorState| {
            state.cpu_time += self.past.cpu_time.get(state.name).unwrap_or(&0);
            state
        };
        scheduled.chain(self.own_threads.iter().map(OwnThread::state)).map(with_past).collect()
    }

    /// What was lost since the start, see [`ActiveCollector::losses`].
    pub fn losses(&self) -> Vec<Loss> {
        let active = self.active().flat_map(|active| active.losses());
        let own_threads = self.own_threads.iter().flat_map(OwnThread::losses);
        sum(self.past.losses.iter().cloned().chain(active).chain(own_threads))
    }

    /// Who made most of the rows that found no room in their metrics' budgets, since their collectors were started.
    pub fn rate_limited(&self) -> Vec<RateLimited> {
        self.active().flat_map(|active| active.rate_limited()).collect()
    }

    /// What each BPF program cost since the start, those of collectors that have ended included.
    pub fn programs(&self) -> Vec<ProgramCost> {
        let active = self.active().flat_map(|active| active.programs());
        sum_programs(self.past.programs.iter().map(detached).chain(active))
    }

    fn active(&self) -> impl Iterator<Item = &dyn ActiveCollector> {
        self.collectors.iter().filter_map(|scheduled| match &scheduled.stage {
            Stage::Active(active, ..) => Some(&**active),
            Stage::Failed(_) => None,
        })
    }
}

impl Scheduled {
    fn start(collector: Box<dyn Collector>) -> Scheduled {
        let mut cpu_time = 0;
        let stage = match counting(&mut cpu_time, || collector.start()) {
            Ok(active) => Stage::Active(active, Fault::default(), None),
            Err(e) => Stage::Failed(Retry::after(&title(&*collector), e.to_string())),
        };
        Scheduled { collector, stage, cpu_time }
    }

    fn poll(
        &mut self,
        now: Instant,
        last: bool,
        own_processes: &[u32],
        shared: &mut Shared,
        sink: &mut dyn RowSink,
        past: &mut Past,
    ) {
        let Stage::Active(active, fault, failed) = &mut self.stage else { return };
        match counting(&mut self.cpu_time, || poll(&mut **active, now, last, own_processes, shared, sink)) {
            Polled::Done(result) => fault.note(self.collector.name(), result, now),
            Polled::Panicked(why) => {
                past.add(&**active);
                self.stage = Stage::Failed(Retry::at_work(failed.take(), &title(&*self.collector), why));
            }
        }
    }

    fn retry(&mut self, now: Instant) -> bool {
        let Stage::Failed(retry) = &mut self.stage else { return false };
        if now < retry.next {
            return false;
        }
        match counting(&mut self.cpu_time, || self.collector.start()) {
            Ok(active) => {
                log::info!("the collector {} works now", title(&*self.collector));
                self.stage = Stage::Active(active, Fault::default(), Some(retry.clone()));
            }
            Err(e) => retry.failed_again(&title(&*self.collector), e.to_string()),
        }
        true
    }

    fn state(&self) -> CollectorState {
        let health = match &self.stage {
            Stage::Active(_, fault, _) => fault.health(),
            Stage::Failed(retry) => retry.health(),
        };
        let Scheduled { collector, cpu_time, .. } = self;
        CollectorState {
            name: collector.name(),
            metrics: collector.metrics(),
            works_everywhere: collector.works_everywhere(),
            health,
            cpu_time: *cpu_time,
        }
    }
}

/// What a poll came to.
pub(crate) enum Polled {
    Done(Result<(), CollectorError>),
    /// With its message.
    Panicked(String),
}

/// Polls a collector, and catches its panic: the others go on.
pub(crate) fn poll(
    active: &mut dyn ActiveCollector,
    now: Instant,
    last: bool,
    own_processes: &[u32],
    shared: &mut Shared,
    sink: &mut dyn RowSink,
) -> Polled {
    let Shared { clock, batch, coarse, resolver } = shared;
    let emitter = Emitter { batch, coarse, sink, resolver };
    let mut context = PollContext { clock, now, last, own_processes, emitter };
    match catch_unwind(AssertUnwindSafe(|| active.poll(&mut context))) {
        Ok(result) => Polled::Done(result),
        Err(panic) => Polled::Panicked(format!("it panicked: {}", message(&*panic))),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// A collector's name with those of its metrics.
pub(crate) fn title(collector: &dyn Collector) -> String {
    format!("{} ({})", collector.name(), collector.metrics().join(", "))
}

fn detached(program: &ProgramCost) -> ProgramCost {
    ProgramCost { backend: None, ..program.clone() }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
