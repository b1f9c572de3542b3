//! A collector at work: what all of them do alike.

use std::time::Instant;

use kumon_spool::Spool;
use libbpf_rs::Link;
use libbpf_rs::skel::Skel;

use crate::events::Events;
use crate::object::{self, Loaded};
use crate::selection::Selection;
use crate::{Clock, CollectorError, Loss, ProgramCost, Running};

/// One poll, see [`Running::poll`].
pub(crate) struct Poll<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) now: Instant,
    pub(crate) last: bool,
    pub(crate) spool: &'a mut Spool,
}

/// Something in an object's maps that becomes rows.
pub(crate) trait Source {
    /// What reading it is called in messages: `reading its ring buffer`.
    fn reading(&self) -> &'static str;

    /// Appends the rows of what is ready.
    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()>;

    /// What was lost in user space, total since the start; zeros included.
    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }
}

/// Makes the rows of an object's single events.
pub(crate) trait EventRows {
    /// Appends the rows of one event. An event that is shorter than its type can't come from the BPF program and is
    /// left out.
    fn append(&mut self, event: &[u8], clock: &Clock, spool: &mut Spool);

    /// Follows the events of each poll.
    fn end_poll(&mut self, _last: bool, _clock: &Clock, _spool: &mut Spool) {}

    /// As [`Source::losses`].
    fn losses(&self) -> Vec<Loss> {
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

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Poll { clock, last, spool, .. } = poll;
        let rows = &mut self.rows;
        self.events.take(*last, |event| rows.append(event, clock, spool))?;
        rows.end_poll(*last, clock, spool);
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        self.rows.losses()
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

/// The metrics of an object.
pub(crate) struct Metrics {
    /// In the order of its `enum metric`.
    pub(crate) all: &'static [&'static str],
    /// Those that are told.
    pub(crate) enabled: Vec<&'static str>,
    /// Those that a program serves.
    pub(crate) served_by: fn(program: &str) -> &'static [&'static str],
}

/// A loaded and attached object.
pub(crate) struct Started<S> {
    collector: &'static str,
    attached: Box<dyn Attached<S>>,
    sources: Vec<Box<dyn Source>>,
    metrics: Metrics,
    selection: Selection,
    skeleton: S,
}

impl<S: Skel<'static>> Started<S> {
    pub(crate) fn new(
        loaded: Loaded<S>,
        attached: impl Attached<S> + 'static,
        sources: Vec<Box<dyn Source>>,
        metrics: Metrics,
    ) -> Started<S> {
        let Loaded { collector, skeleton, selection, .. } = loaded;
        Started { collector, attached: Box::new(attached), sources, metrics, selection, skeleton }
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

impl<S: Skel<'static>> Running for Started<S> {
    fn poll(
        &mut self,
        clock: &Clock,
        now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError> {
        if last {
            self.attached.detach();
            wait_for_running_programs();
        } else {
            self.attached.renew(&self.skeleton, now);
        }
        // What fails keeps nothing else from being read: a ring buffer would overflow meanwhile.
        let mut result = self
            .selection
            .refresh(self.skeleton.object(), now, spool.processes())
            .map_err(CollectorError::because(self.collector, "renewing its filters"));
        let mut poll = Poll { clock, now, last, spool };
        for source in &mut self.sources {
            let read = source.read(&mut poll);
            result = result.and(read.map_err(CollectorError::because(self.collector, source.reading())));
        }
        result
    }

    fn losses(&self) -> Vec<Loss> {
        let mut losses = object::losses(self.skeleton.object(), &self.metrics);
        for loss in self.sources.iter().flat_map(|source| source.losses()) {
            // Kernel and user space may lose for the same reason.
            match losses.iter_mut().find(|known| (known.metric, known.reason) == (loss.metric, loss.reason)) {
                Some(known) => known.count += loss.count,
                None => losses.push(loss),
            }
        }
        losses
    }

    fn programs(&self) -> Vec<ProgramCost> {
        object::programs(self.skeleton.object())
    }
}
