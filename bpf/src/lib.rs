//! The collectors that run in the kernel: one folder per BPF object, each feeding one or more metrics.

mod clock;
mod collector;
mod containers;
mod entity;
mod events;
mod object;
mod probe;
mod process;
mod settings;
mod tracepoint;

pub use clock::Clock;
pub use collector::{Collector, CollectorError, Hook, Loss, ProgramCost, Running};
pub use containers::Containers;
pub use entity::Entities;
pub use process::{ExecSettings, ExitSettings};
pub use settings::Settings;

/// Every collector with at least one enabled metric, in the order in which they start.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    let all: [Box<dyn Collector>; 1] = [Box::new(process::Process::new(settings))];
    all.into_iter().filter(|collector| !collector.metrics().is_empty()).collect()
}
