//! The collectors that read what the kernel counts by itself, in /proc and /sys: a module for each metric. They need
//! neither BPF nor a capability.

mod cgroups;
mod container;
mod counter;
mod cpu;
mod disk;
mod error;
mod file;
mod filesystem;
mod hierarchies;
mod memory;
mod metric;
mod namespaces;
mod netdev;
mod netstat;
mod node;
mod parse;
mod pressure;
mod process;
mod root;
mod settings;
mod snapshot_process;
mod snapshot_socket;
mod tasks;
#[cfg(test)]
mod testing;

use kumon_collect::{Collector, Hook};

pub use root::Root;
pub use settings::Settings;

/// Every collector with an enabled metric, in the order in which they start.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    settings.collectors().into_iter().filter(|collector| !collector.metrics().is_empty()).collect()
}

/// Whether what the enabled metrics are read from can be read here, or why not.
pub fn hooks(settings: &Settings) -> Vec<Hook> {
    collectors(settings).into_iter().flat_map(|collector| collector.probe()).collect()
}
