//! A collector at work: what all of them do alike.

use std::time::Instant;

use kumon_collect::{ActiveCollector, CollectorError, Loss, PollContext, ProgramCost, RateLimited};
use libbpf_rs::Link;
use libbpf_rs::skel::Skel;

use crate::budget::{Budgets, Maker};
use crate::error::because;
use crate::events::Events;
use crate::losses::{self, Metrics};
use crate::object::Loaded;
use crate::selection::Selection;

/// Something in an object's maps that becomes rows.
pub(crate) trait Source {
    /// What reading it is called in messages: `reading its ring buffer`.
    fn reading(&self) -> &'static str;

    /// Emits the rows of what is ready.
    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()>;

    /// What was lost in user space, total since the start; zeros included.
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// Takes who made the rows that were left out in user space since it was asked last, for want of a budget.
    fn take_rate_limited(&mut self) -> Vec<(Maker, Loss)> {
        Vec::new()
    }
}

/// Makes the rows of an object's single events.
pub(crate) trait EventRows {
    /// Emits the rows of one event. An event that is shorter than its type can't come from the BPF program and is
    /// left out.
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>);

    /// Follows the events of each poll.
    fn end_poll(&mut self, _context: &mut PollContext<'_>) {}

    /// As [`Source::losses`].
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// As [`Source::take_rate_limited`].
    fn take_rate_limited(&mut self) -> Vec<(Maker, Loss)> {
        Vec::new()
    }
}

/// A ring buffer as a source.
pub(crate) struct EventSource<R> {
    events: Events,
    rows: R,
}

impl<R: EventRows> EventSource<R> {
    /// Opens the ring buffer `events` of include/kumon.h.
    pub(crate) fn new(map: &dyn libbpf_rs::MapCore, rows: R) -> libbpf_rs::Result<EventSource<R>> {
        Ok(EventSource { events: Events::new(map)?, rows })
    }
}

impl<R: EventRows> Source for EventSource<R> {
    fn reading(&self) -> &'static str {
        "reading its ring buffer"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let rows = &mut self.rows;
        self.events.take(context.last, |event| rows.emit(event, context))?;
        rows.end_poll(context);
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        self.rows.losses()
    }

    fn take_rate_limited(&mut self) -> Vec<(Maker, Loss)> {
        self.rows.take_rate_limited()
    }
}

/// What of an object `S` is attached.
pub(crate) trait Attached<S> {
    /// Follows what comes and goes while the collector is at work, where programs are attached to such things.
    fn renew(&mut self, _skeleton: &S, _now: Instant) {}

    fn detach(&mut self);
}

impl<S> Attached<S> for Vec<Link> {
    fn detach(&mut self) {
        self.clear();
    }
}

/// A loaded and attached object.
pub(crate) struct BpfCollector<S> {
    collector: &'static str,
    attached: Box<dyn Attached<S>>,
    sources: Vec<Box<dyn Source>>,
    metrics: Metrics,
    selection: Selection,
    budgets: Budgets,
    skeleton: S,
}

impl<S: Skel<'static>> BpfCollector<S> {
    pub(crate) fn new(
        loaded: Loaded<S>,
        attached: impl Attached<S> + 'static,
        sources: Vec<Box<dyn Source>>,
        metrics: Metrics,
    ) -> BpfCollector<S> {
        let Loaded { collector, skeleton, selection, .. } = loaded;
        let budgets = Budgets::new(skeleton.object(), metrics.all, selection.max_rows());
        BpfCollector {
            collector,
            attached: Box::new(attached),
            sources,
            metrics,
            selection,
            budgets,
            skeleton,
        }
    }
}

/// Waits for the programs that were running when their hooks were detached, which doesn't wait for them: what they are
/// about to tell belongs to what is read last, and an event that one of them has begun in the ring buffer hides all those
/// behind it. They run in RCU's read sections, and membarrier(2), MEMBARRIER_CMD_GLOBAL, is a grace period
/// (kernel/sched/membarrier.c); where the kernel lacks it (nohz_full) nothing is waited for.
fn wait_for_running_programs() {
    // SAFETY: it takes numbers and no pointer.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        log::debug!("can't wait for running BPF programs: membarrier: {}", std::io::Error::last_os_error());
    }
}

impl<S: Skel<'static>> ActiveCollector for BpfCollector<S> {
    fn poll(&mut self, context: &mut PollContext<'_>) -> Result<(), CollectorError> {
        if context.last {
            self.attached.detach();
            wait_for_running_programs();
        } else {
            self.attached.renew(&self.skeleton, context.now);
        }
        // What fails keeps nothing else from being read: a ring buffer would overflow meanwhile.
        let mut result = self
            .selection
            .refresh(self.skeleton.object(), context.now, context.own_processes)
            .map_err(because(self.collector, "renewing its filters"));
        for source in &mut self.sources {
            let read = source.read(context);
            result = result.and(read.map_err(because(self.collector, source.reading())));
        }
        result.and(self.read_budgets(context).map_err(because(self.collector, "reading its budgets")))
    }

    fn losses(&self) -> Vec<Loss> {
        let in_kernel = losses::losses(self.skeleton.object(), &self.metrics);
        in_kernel.into_iter().chain(self.sources.iter().flat_map(|source| source.losses())).collect()
    }

    fn programs(&self) -> Vec<ProgramCost> {
        losses::programs(self.skeleton.object(), &self.metrics)
    }

    fn rate_limited(&self) -> Vec<RateLimited> {
        self.budgets.rate_limited()
    }
}

impl<S: Skel<'static>> BpfCollector<S> {
    /// Follows the sources, which tell what they have left out.
    fn read_budgets(&mut self, context: &PollContext<'_>) -> libbpf_rs::Result<()> {
        if !self.budgets.is_due(context.now, context.last) {
            return Ok(());
        }
        let read = self.budgets.read(&context.emitter);
        for (maker, loss) in self.sources.iter_mut().flat_map(|source| source.take_rate_limited()) {
            self.budgets.add(loss.metric, &maker, loss.count, &context.emitter);
        }
        if self.budgets.has_news() {
            let losses = self.losses();
            self.budgets.log(&losses, context.now, context.last);
        }
        read
    }
}
