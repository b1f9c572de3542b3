//! Rows of biolatency and biolatency_hist.

use kumon_collect::{Emitter, Interval, OTHER, PollContext, Subject, boottime, top};

use super::BiolatencySettings;
use super::skeleton::types;
use crate::active::Source;
use crate::events;
use crate::histogram::{Histogram, LATENCY, emit_histogram};
use crate::interval::IntervalMaps;

/// By the number that the BPF program gives an operation.
const OPERATIONS: [&str; 5] = ["read", "write", "flush", "discard", "other"];

pub(super) struct Biolatency {
    interval: Interval,
    top: usize,
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
        Biolatency { interval: Interval::new(settings.interval), top: settings.top, latencies }
    }
}

impl Latencies {
    fn emit(&self, seen: u64, (timestamp, interval): (i64, u64), emitter: &mut Emitter<'_>) {
        let (disk, operation) = (&self.disk, self.operation.as_bytes());
        let subject = match self.cgroup {
            0 => Subject::Node,
            id => Subject::Cgroup { id, seen },
        };
        emit_histogram!(emitter, &subject, self.histogram, LATENCY, Biolatency, BiolatencyHist, {
            timestamp, interval, disk, operation
        });
    }
}

impl Source for Biolatency {
    fn reading(&self) -> &'static str {
        "reading the latencies of an interval"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(context) else { return Ok(()) };
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
        let seen = boottime();
        rows.iter().for_each(|latencies| latencies.emit(seen, time, &mut context.emitter));
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
