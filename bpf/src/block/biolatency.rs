//! Rows of biolatency and biolatency_hist.

use kumon_spool::Spool;

use super::BiolatencySettings;
use super::skeleton::types;
use crate::clock;
use crate::containers::Containers;
use crate::events;
use crate::histogram::{Histogram, LATENCY, append_histogram};
use crate::interval::{Interval, IntervalMaps};
use crate::started::{Poll, Source};
use crate::top::{OTHER, top};

/// By the number that the BPF program gives an operation.
const OPERATIONS: [&str; 5] = ["read", "write", "flush", "discard", "other"];

pub(super) struct Biolatency {
    interval: Interval,
    top: usize,
    containers: Containers,
    latencies: IntervalMaps,
}

/// The latencies of one disk and operation, and of one cgroup where they are told apart.
struct Latencies {
    disk: Vec<u8>,
    operation: &'static str,
    /// 0 for none.
    cgroup: u64,
    histogram: Histogram,
}

impl Biolatency {
    pub(super) fn new(latencies: IntervalMaps, settings: &BiolatencySettings) -> Biolatency {
        let (interval, containers) = (Interval::new(settings.interval), Containers::of_this_node());
        Biolatency { interval, top: settings.top, containers, latencies }
    }

    fn append(
        &mut self,
        latencies: &Latencies,
        read: u64,
        (timestamp, interval): (i64, u64),
        spool: &mut Spool,
    ) {
        let (disk, operation) = (&latencies.disk, latencies.operation.as_bytes());
        let cgroup_id = (latencies.cgroup != 0).then_some(latencies.cgroup);
        let container = cgroup_id.and_then(|cgroup| self.containers.id(cgroup, read)).unwrap_or_default();
        let container_id = container.as_bytes();
        append_histogram!(spool, latencies.histogram, LATENCY, Biolatency, BiolatencyHist, {
            timestamp, interval, disk, operation, cgroup_id, container_id
        });
    }
}

impl Source for Biolatency {
    fn reading(&self) -> &'static str {
        "reading the latencies of an interval"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(poll) else { return Ok(()) };
        let mut other = Latencies {
            disk: OTHER.to_vec(),
            operation: "other",
            cgroup: 0,
            histogram: Histogram::default(),
        };
        let mut found = Vec::new();
        self.latencies.take(|key, value| match latencies(key, value) {
            Some(latencies) => found.push(latencies),
            None => other.histogram.merge(&Histogram::at_end_of(value)),
        })?;
        let (mut rows, rest) = top(found, self.top, |latencies| latencies.histogram.sum());
        for latencies in &rest {
            other.histogram.merge(&latencies.histogram);
        }
        rows.push(other);
        let read = clock::boottime();
        for latencies in &rows {
            self.append(latencies, read, time, poll.spool);
        }
        Ok(())
    }
}

/// None for what found no key of its own.
fn latencies(key: &[u8], value: &[u8]) -> Option<Latencies> {
    // SAFETY: both hold integers and arrays of them only.
    let key = unsafe { events::read::<types::disk_key>(key) }.filter(|key| key.is_key != 0)?;
    // SAFETY: as above.
    let head = unsafe { events::read::<types::disk_latency>(value) }?;
    let disk = match events::name(&head.name) {
        // The disk went before its request ended.
        [] => format!("{}:{}", key.major, key.minor).into_bytes(),
        name => name.to_vec(),
    };
    let operation = OPERATIONS.get(key.operation as usize)?;
    Some(Latencies { disk, operation, cgroup: key.cgroup, histogram: Histogram::at_end_of(value) })
}
