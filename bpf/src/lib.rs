//! The collectors that run in the kernel: one folder per BPF object, each feeding one or more metrics.

mod active;
mod block;
mod budget;
mod db;
mod drop;
mod error;
mod events;
mod file;
mod flow;
mod histogram;
mod interval;
mod libbpf_log;
mod losses;
mod object;
mod object_settings;
mod path;
mod privilege;
mod probe;
mod process;
mod sched;
mod selection;
mod settings;
mod tc;
mod tcp;
#[cfg(test)]
mod tests;
mod tracepoint;
mod types;

use kumon_collect::settings::Section;
use kumon_collect::{Collector, Hook, LeftOut};

pub use drop::{Class as DropClass, Verbose};
pub use file::{Enabled, FileHooks};
pub use privilege::capabilities;
pub use settings::Settings;

/// The metrics whose collectors take CAP_NET_ADMIN and the host's network namespace, which others need not have.
pub const NETWORK_METRICS: &[&str] = &["flow"];

/// Every collector with at least one enabled metric, in the order in which they start.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    settings.collectors().into_iter().filter(|collector| !collector.metrics().is_empty()).collect()
}

/// The same together with [`left_out`]: what this kernel has is tried out once for both.
pub fn collectors_and_left_out(settings: &Settings) -> (Vec<Box<dyn Collector>>, Vec<LeftOut>) {
    let all = settings.collectors();
    let left_out = all.iter().flat_map(|collector| collector.left_out()).collect();
    (all.into_iter().filter(|collector| !collector.metrics().is_empty()).collect(), left_out)
}

/// How each hook that the enabled metrics need would be attached on this kernel, or why not, and the filters that can't
/// be applied on this node. Leaves nothing behind.
pub fn hooks(settings: &Settings) -> Vec<Hook> {
    let needed = collectors(settings).into_iter().flat_map(|collector| collector.probe());
    needed.chain(selection::refused_filters(&settings.filters())).collect()
}

/// The metrics that are not asked for by name and that this kernel could have only at a price.
pub fn left_out(settings: &Settings) -> Vec<LeftOut> {
    settings.collectors().iter().flat_map(|collector| collector.left_out()).collect()
}
