//! A collector at work.

use std::time::Instant;

use crate::{Clock, CollectorError, Emitter};

/// One poll of a collector.
pub struct PollContext<'a> {
    pub clock: &'a Clock,
    /// Decides whether a summary's interval is over.
    pub now: Instant,
    /// The final call: whatever the interval, all the rest is taken.
    pub last: bool,
    /// The ids of KuMon's own processes, which are left out unless the settings say otherwise.
    pub own_processes: &'a [u32],
    pub emitter: Emitter<'a>,
}

/// A collector at work, used by one thread. Dropping it detaches and unloads everything.
pub trait ActiveCollector {
    /// Takes what is ready and emits it as rows. At the last poll it detaches first and then takes all the rest;
    /// [`ActiveCollector::losses`] is final after it.
    ///
    /// # Errors
    /// The first failure; everything else is taken all the same.
    fn poll(&mut self, context: &mut PollContext<'_>) -> Result<(), CollectorError>;

    /// Events and keys lost before they became rows, total since the start, by metric and reason; zeros included. Counts of
    /// the same metric and reason, such as those of the kernel and of user space, are added up by who asks.
    fn losses(&self) -> Vec<Loss>;

    /// Who made most of the rows that found no room in their metrics' budgets, since the start.
    fn rate_limited(&self) -> Vec<RateLimited> {
        Vec::new()
    }

    /// Run count and time of each BPF program since the start; none where it has none.
    fn programs(&self) -> Vec<ProgramCost> {
        Vec::new()
    }
}

/// A counter of one reason for loss, total since the collector started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub metric: &'static str,
    /// For example `ring buffer full`, `map full`, `missed run`.
    pub reason: &'static str,
    pub count: u64,
}

/// Rows that found no room in their metric's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimited {
    pub metric: &'static str,
    /// Who made them, for people: `process 4711 (nginx)`.
    pub by: String,
    pub rows: u64,
}

/// What a BPF program cost since the collector started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    pub program: String,
    /// The metrics that it serves.
    pub metrics: &'static [&'static str],
    /// How it is attached (`tp_btf`, `tracepoint`, `fentry`, `kprobe`, `uprobe`); none where it is at no hook.
    pub backend: Option<&'static str>,
    pub runs: u64,
    /// Nanoseconds; 0 unless `kernel.bpf_stats_enabled` is 1.
    pub run_time: u64,
}
