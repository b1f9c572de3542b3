//! What every collector offers.

use std::time::Instant;

use kumon_spool::Spool;

use crate::{Clock, privilege};

/// A BPF object that feeds one or more metrics and is not running yet.
pub trait Collector {
    /// The object's name, for messages: `process`, `sched`, …
    fn name(&self) -> &'static str;

    /// The metrics that are enabled in its settings; a collector with none is left out.
    fn metrics(&self) -> Vec<&'static str>;

    /// How each hook it needs would be attached on this kernel, or why not; by looking and trying, not by version.
    /// Leaves nothing behind.
    fn probe(&self) -> Vec<Hook>;

    /// Metrics that it doesn't collect here unless they are asked for by name.
    fn left_out(&self) -> Vec<LeftOut> {
        Vec::new()
    }

    /// Loads and attaches. Dropping what it returns detaches and unloads everything.
    ///
    /// # Errors
    /// When the kernel refuses; the message names the program and the reason.
    fn start(&self) -> Result<Box<dyn Running>, CollectorError>;
}

/// A collector at work, used by one thread.
pub trait Running {
    /// Takes what the kernel has ready and appends it as rows. Called every 200 ms or so. `now` decides whether a
    /// summary's interval is over. With `last`, the final call, it detaches its programs first and then takes all
    /// the rest, whatever the interval; [`Running::losses`] is final after it.
    ///
    /// # Errors
    /// The first failure; everything else is taken all the same.
    fn poll(
        &mut self,
        clock: &Clock,
        now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError>;

    /// Events and keys lost in the kernel since the start, by metric and reason; zeros included.
    fn losses(&self) -> Vec<Loss>;

    /// Run count and time of each BPF program since the start.
    fn programs(&self) -> Vec<ProgramCost>;
}

/// How one hook is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The metrics that need it.
    pub metrics: Vec<&'static str>,
    /// The event, e.g. `sched_process_exec`.
    pub event: &'static str,
    /// The strategy that works here (`tp_btf`, `tracepoint`, `fentry`, `kprobe`), or why none does.
    pub strategy: Result<&'static str, String>,
    /// The better strategies that this kernel refuses, the best first.
    pub refused: Vec<Refusal>,
}

impl Hook {
    /// A hook to which there is one strategy only.
    pub(crate) fn new(
        metrics: Vec<&'static str>,
        event: &'static str,
        strategy: Result<&'static str, String>,
    ) -> Hook {
        Hook { metrics, event, strategy, refused: Vec::new() }
    }
}

/// A strategy that doesn't work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub strategy: &'static str,
    pub reason: String,
}

/// A metric that is not collected unless it is asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub metric: &'static str,
    /// What speaks against it here, and what to set to have it nevertheless.
    pub reason: String,
    /// The strategies with which it would be collected.
    pub refused: Vec<Refusal>,
}

/// A counter of one reason for loss, total since the collector started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub metric: &'static str,
    /// For example `ring buffer full`, `map full`, `missed run`.
    pub reason: &'static str,
    pub count: u64,
}

/// What a BPF program cost since the collector started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    pub program: String,
    pub runs: u64,
    /// Nanoseconds; 0 unless `kernel.bpf_stats_enabled` is 1.
    pub run_time: u64,
}

/// Why a collector could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{collector}: {tried}: {source}{}", advice(source))]
pub struct CollectorError {
    pub collector: &'static str,
    /// What was tried, e.g. `attaching tp_btf/sched_switch`.
    pub tried: String,
    pub source: libbpf_rs::Error,
}

impl CollectorError {
    /// For `map_err`: says which collector tried what.
    pub(crate) fn because<E: Into<libbpf_rs::Error>>(
        collector: &'static str,
        tried: &str,
    ) -> impl FnOnce(E) -> CollectorError {
        move |source| CollectorError { collector, tried: tried.to_owned(), source: source.into() }
    }
}

fn advice(error: &libbpf_rs::Error) -> String {
    match error.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => format!("{}; see 'kumon check'", privilege::advice()),
        _ => String::new(),
    }
}
