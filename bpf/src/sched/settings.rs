//! Settings of runqlat, runqslower and cputime.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use kumon_collect::settings::{INTERVAL, TOP, duration, entries, interval};
use kumon_collect::{Filter, MaxRows, Sample};

kumon_collect::settings! {
    /// Settings of runqlat, runqslower and cputime.
    pub struct Settings {
        keys {
            /// Threads that it follows before Linux 6.2, about 140 bytes of kernel memory each; those of cputime beyond them
            /// are counted as lost.
            max_waiting_threads: u32 = 32_768, by entries;
        }
        metrics {
            runqlat: RunqlatSettings, filter;
            runqslower: RunqslowerSettings, filter;
            cputime: CputimeSettings, filter;
        }
    }
}

/// Settings of the metrics runqlat and runqlat_hist.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunqlatSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Whether cgroups get rows beside that of the whole node.
    pub per_cgroup: bool,
    /// How many cgroups get a row of their own; the row `other` sums the rest.
    pub top: usize,
    /// Cgroups that the kernel keeps in an interval, about 7 KB of its memory each; the rest is in the row `other`.
    #[serde(deserialize_with = "entries")]
    pub max_cgroups: u32,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is emitted.
    pub sample: Sample,
}

impl Default for RunqlatSettings {
    fn default() -> RunqlatSettings {
        RunqlatSettings {
            enabled: true,
            interval: INTERVAL,
            per_cgroup: false,
            top: TOP,
            max_cgroups: 512,
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}

/// Settings of the metric runqslower.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunqslowerSettings {
    pub enabled: bool,
    /// Waits for a CPU from here on are reported one by one.
    #[serde(deserialize_with = "threshold")]
    pub threshold: Duration,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

impl Default for RunqslowerSettings {
    fn default() -> RunqslowerSettings {
        RunqslowerSettings {
            enabled: true,
            threshold: Duration::from_millis(10),
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}

/// Settings of the metric cputime.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CputimeSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// How many processes get a row of their own; the row `other` sums the rest.
    pub top: usize,
    /// Whether threads have rows, instead of processes.
    pub threads: bool,
    /// Processes (or threads) that end in an interval and are kept apart, about 300 bytes of kernel memory each; the rest
    /// is in the row `other`.
    #[serde(deserialize_with = "entries")]
    pub max_ended: u32,
    /// Which processes it is about.
    pub filter: Filter,
    /// Always 1: the kernel's own accounts are read, of which nothing can be left out.
    #[serde(deserialize_with = "whole")]
    pub sample: Sample,
}

impl Default for CputimeSettings {
    fn default() -> CputimeSettings {
        CputimeSettings {
            enabled: true,
            interval: INTERVAL,
            top: 20,
            threads: false,
            max_ended: 8_192,
            filter: Filter::default(),
            sample: Sample::default(),
        }
    }
}

/// A threshold of nothing would tell every switch of the machine as an event.
fn threshold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let threshold = duration(deserializer)?;
    if threshold.is_zero() {
        return Err(de::Error::custom(
            "the threshold must be more than 0; 'enabled: false' switches runqslower off",
        ));
    }
    Ok(threshold)
}

fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sample, D::Error> {
    let sample = Sample::deserialize(deserializer)?;
    if sample != Sample::default() {
        return Err(de::Error::custom(
            "cputime reads the kernel's own accounts, of which nothing can be left out: its sample is always 1; \
             'filter' chooses processes",
        ));
    }
    Ok(sample)
}
