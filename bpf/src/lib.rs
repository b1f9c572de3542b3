//! The collectors that run in the kernel: one folder per BPF object, each feeding one or more metrics.

mod block;
mod clock;
mod collector;
mod containers;
mod db;
mod entity;
mod events;
mod file;
mod filter;
mod histogram;
mod interval;
mod object;
mod path;
mod privilege;
mod probe;
mod process;
mod sched;
mod selection;
mod settings;
mod started;
mod tcp;
mod top;
mod tracepoint;

pub use block::{BiolatencySettings, BitesizeSettings};
pub use clock::Clock;
pub use collector::{Collector, CollectorError, Hook, LeftOut, Loss, ProgramCost, Refusal, Running};
pub use containers::Containers;
pub use db::DbslowerSettings;
pub use entity::Entities;
pub use file::{Enabled, FileHooks, FilegoneSettings, FilelifeSettings};
pub use filter::{Cgroup, Comm, Filter, Sample};
pub use privilege::capabilities;
pub use process::{ExecSettings, ExitSettings};
pub use sched::{CputimeSettings, RunqlatSettings, RunqslowerSettings};
pub use settings::Settings;
pub use tcp::TcplifeSettings;

/// Every collector with at least one enabled metric, in the order in which they start.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    all(settings).into_iter().filter(|collector| !collector.metrics().is_empty()).collect()
}

/// How each hook that the enabled metrics need would be attached on this kernel, or why not, and the filters that can't
/// be applied on this node. Leaves nothing behind.
pub fn hooks(settings: &Settings) -> Vec<Hook> {
    let needed = collectors(settings).into_iter().flat_map(|collector| collector.probe());
    needed.chain(selection::refused_filters(settings)).collect()
}

/// The metrics that are not asked for by name and that this kernel could have only at a price.
pub fn left_out(settings: &Settings) -> Vec<LeftOut> {
    all(settings).iter().flat_map(|collector| collector.left_out()).collect()
}

fn all(settings: &Settings) -> [Box<dyn Collector>; 6] {
    [
        Box::new(process::Process::new(settings)),
        Box::new(sched::Sched::new(settings)),
        Box::new(block::Block::new(settings)),
        Box::new(tcp::Tcp::new(settings)),
        Box::new(db::Db::new(settings)),
        Box::new(file::File::new(settings)),
    ]
}
