//! Settings of tcplife.

use serde::Deserialize;

use kumon_collect::settings::entries;
use kumon_collect::{Filter, MaxRows, Sample};

kumon_collect::settings! {
    /// Settings of tcplife.
    pub struct Settings {
        metrics {
            tcplife: TcplifeSettings, filter;
        }
    }
}

/// Settings of the metric tcplife.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcplifeSettings {
    pub enabled: bool,
    /// Sessions that are followed at a time, about 230 bytes of kernel memory each; more are counted as lost.
    #[serde(deserialize_with = "entries")]
    pub max_sessions: u32,
    /// Listening sockets whose process is known, about 130 bytes of kernel memory each; more are counted as lost, because
    /// sessions that no process touches belong to who listens.
    #[serde(deserialize_with = "entries")]
    pub max_listeners: u32,
    /// Which processes it is about.
    pub filter: Filter,
    /// One session in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

impl Default for TcplifeSettings {
    fn default() -> TcplifeSettings {
        TcplifeSettings {
            enabled: true,
            max_sessions: 16_384,
            max_listeners: 16_384,
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}
