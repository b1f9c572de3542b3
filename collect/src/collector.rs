//! What every collector offers.

use std::time::Duration;

use crate::{ActiveCollector, CollectorError};

/// What feeds one or more metrics and is not at work yet.
pub trait Collector: Send {
    /// Its name, for messages: `process`, `sched`, …
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

    /// What tells it from the same collector with other settings.
    fn configuration(&self) -> String;

    /// Whether it needs no more than any Linux has, so that its working says nothing of the others.
    fn works_everywhere(&self) -> bool {
        false
    }

    /// When it is polled.
    fn cadence(&self) -> Cadence {
        Cadence::Drain
    }

    /// Loads and attaches; called in the thread that is to poll it.
    ///
    /// # Errors
    /// When the kernel refuses; the message names the program and the reason.
    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError>;
}

/// When a collector is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// Every 200 ms or so, on the thread that it shares with all others of this kind: it takes what is ready and waits for
    /// nothing.
    Drain,
    /// Every so often on a thread of its own: what it reads may take long, or hang.
    OwnThread(Duration),
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
    pub fn new(
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
