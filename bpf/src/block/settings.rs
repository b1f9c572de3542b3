//! Settings of biolatency and bitesize.

use std::time::Duration;

use serde::Deserialize;

use kumon_collect::settings::{INTERVAL, TOP, entries, interval};
use kumon_collect::{Filter, Sample};

kumon_collect::settings! {
    /// Settings of biolatency and bitesize.
    pub struct Settings {
        metrics {
            biolatency: BiolatencySettings, filter;
            bitesize: BitesizeSettings, filter;
        }
    }
}

/// Settings of the metrics biolatency and biolatency_hist.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BiolatencySettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Whether the cgroups of those who issue requests are distinguished.
    pub per_cgroup: bool,
    /// How many disks and operations (and cgroups) get rows of their own; the row `other` sums the rest.
    pub top: usize,
    /// Of these the kernel keeps in an interval, about 3.5 KB of its memory each; the rest is in the row `other`.
    #[serde(deserialize_with = "entries")]
    pub max_keys: u32,
    /// Requests that are followed on their way, and as many that wait to be issued; about 230 bytes of kernel memory
    /// for two such. More are counted as lost.
    #[serde(deserialize_with = "entries")]
    pub max_requests: u32,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is emitted.
    pub sample: Sample,
}

impl Default for BiolatencySettings {
    fn default() -> BiolatencySettings {
        BiolatencySettings {
            enabled: true,
            interval: INTERVAL,
            per_cgroup: false,
            top: TOP,
            max_keys: 512,
            max_requests: 16_384,
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}

/// Settings of the metrics bitesize and bitesize_hist.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BitesizeSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// How many processes get rows of their own; the row `other` sums the rest.
    pub top: usize,
    /// Processes that the kernel keeps in an interval, about 3.5 KB of its memory each; the rest is in the row `other`.
    #[serde(deserialize_with = "entries")]
    pub max_processes: u32,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is emitted.
    pub sample: Sample,
}

impl Default for BitesizeSettings {
    fn default() -> BitesizeSettings {
        BitesizeSettings {
            enabled: true,
            interval: INTERVAL,
            top: 10,
            max_processes: 2_048,
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}
