//! Settings of flow.

use std::time::Duration;

use kumon_collect::settings::{INTERVAL, duration, entries, interval};
use kumon_collect::{Filter, NamePatterns, Sample};
use serde::Deserialize;

kumon_collect::settings! {
    /// Settings of flow.
    pub struct Settings {
        metrics {
            flow: FlowSettings, filter;
        }
    }
}

/// Settings of the metric flow.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// The network interfaces that it is about; all where there is none.
    pub interfaces: NamePatterns,
    /// Of these the interfaces that are left out.
    pub exclude: NamePatterns,
    /// Flows that are followed at a time, about 190 bytes of kernel memory each; packets of more are counted as lost.
    #[serde(deserialize_with = "entries")]
    pub max_flows: u32,
    /// A flow ends that has had no packet for so long.
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Duration,
    /// Which processes it is about.
    pub filter: Filter,
    /// One flow in so many is followed, as a whole.
    pub sample: Sample,
}

impl Default for FlowSettings {
    fn default() -> FlowSettings {
        FlowSettings {
            enabled: false,
            interval: INTERVAL,
            interfaces: NamePatterns::default(),
            exclude: NamePatterns::default(),
            max_flows: 65_536,
            idle_timeout: Duration::from_secs(120),
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}
