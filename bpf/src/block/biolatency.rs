//! Rows of biolatency and biolatency_hist.

use kumon_schema::rows;
use kumon_spool::Spool;

use super::BiolatencySettings;
use super::skeleton::{BlockSkel, types};
use crate::events;
use crate::histogram::{Histogram, LATENCY_UNIT};
use crate::interval::{Interval, IntervalMaps};
use crate::started::{Poll, Source};
use crate::top::OTHER;

/// By the number that the BPF program gives an operation.
const OPERATIONS: [&str; 5] = ["read", "write", "flush", "discard", "other"];

pub(super) struct Biolatency {
    interval: Interval,
    latencies: IntervalMaps,
}

/// The latencies of one disk and operation.
struct Latencies {
    disk: Vec<u8>,
    operation: &'static str,
    histogram: Histogram,
}

impl Biolatency {
    pub(super) fn new(
        skeleton: &BlockSkel<'static>,
        settings: &BiolatencySettings,
    ) -> libbpf_rs::Result<Biolatency> {
        let maps = &skeleton.maps;
        let latencies = IntervalMaps::new(&maps.latencies, &maps.latencies_0, &maps.latencies_1)?;
        Ok(Biolatency { interval: Interval::new(settings.interval), latencies })
    }
}

impl Source for Biolatency {
    fn reading(&self) -> &'static str {
        "reading the latencies of an interval"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some((timestamp, interval)) = self.interval.over(poll) else { return Ok(()) };
        let mut found = Vec::new();
        self.latencies.take(|key, value| found.extend(latencies(key, value)))?;
        for latencies in &found {
            append(latencies, timestamp, interval, poll.spool);
        }
        Ok(())
    }
}

fn latencies(key: &[u8], value: &[u8]) -> Option<Latencies> {
    // SAFETY: both hold integers and arrays of them only.
    let key = unsafe { events::read::<types::disk_key>(key) }?;
    // SAFETY: as above.
    let value = unsafe { events::read::<types::disk_latency>(value) }?;
    let mut histogram = Histogram::default();
    let buckets = value.histogram.buckets.iter().map(|bucket| (bucket.count, bucket.sum));
    histogram.add(value.histogram.max, value.histogram.inverse_min, buckets);
    let disk = match events::name(&value.name) {
        _ if key.is_key == 0 => OTHER.to_vec(),
        // The disk went before its request ended.
        [] => format!("{}:{}", key.major, key.minor).into_bytes(),
        name => name.to_vec(),
    };
    let operation = if key.is_key == 0 { "other" } else { OPERATIONS.get(key.operation as usize)? };
    Some(Latencies { disk, operation, histogram })
}

fn append(latencies: &Latencies, timestamp: i64, interval: u64, spool: &mut Spool) {
    let Some(summary) = latencies.histogram.summary() else { return };
    let (disk, operation) = (&latencies.disk, latencies.operation.as_bytes());
    spool.append(&rows::Biolatency {
        timestamp,
        interval,
        disk,
        operation,
        count: summary.count,
        sum: summary.sum,
        min: summary.min,
        max: summary.max,
        p50: summary.p50,
        p90: summary.p90,
        p99: summary.p99,
    });
    for octave in latencies.histogram.octaves(LATENCY_UNIT) {
        let (label, low, high, count) = (octave.latency_label(), octave.low, octave.high, octave.count);
        spool.append(&rows::BiolatencyHist {
            timestamp,
            interval,
            disk,
            operation,
            low,
            high,
            label: label.as_bytes(),
            count,
        });
    }
}
