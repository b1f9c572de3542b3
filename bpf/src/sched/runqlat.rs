//! Rows of runqlat and runqlat_hist.

use kumon_schema::rows;
use kumon_spool::Spool;

use super::RunqlatSettings;
use super::skeleton::{SchedSkel, types};
use crate::events;
use crate::histogram::{Histogram, LATENCY_UNIT};
use crate::interval::{Interval, IntervalMaps};
use crate::started::{Poll, Source};

/// The only key: the whole node.
const ALL: &[u8] = b"all";

pub(super) struct Runqlat {
    interval: Interval,
    waits: IntervalMaps,
}

impl Runqlat {
    pub(super) fn new(
        skeleton: &SchedSkel<'static>,
        settings: &RunqlatSettings,
    ) -> libbpf_rs::Result<Runqlat> {
        let maps = &skeleton.maps;
        let waits = IntervalMaps::new(&maps.waits, &maps.waits_0, &maps.waits_1)?;
        Ok(Runqlat { interval: Interval::new(settings.interval), waits })
    }
}

impl Source for Runqlat {
    fn reading(&self) -> &'static str {
        "reading the waits of an interval"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some((timestamp, interval)) = self.interval.over(poll) else { return Ok(()) };
        let mut histogram = Histogram::default();
        for of_cpu in self.waits.take_per_cpu()? {
            // SAFETY: struct histogram holds integers only.
            let Some(waits) = (unsafe { events::read::<types::histogram>(&of_cpu) }) else { continue };
            let buckets = waits.buckets.iter().map(|bucket| (bucket.count, bucket.sum));
            histogram.add(waits.max, waits.inverse_min, buckets);
        }
        append(&histogram, timestamp, interval, poll.spool);
        Ok(())
    }
}

fn append(histogram: &Histogram, timestamp: i64, interval: u64, spool: &mut Spool) {
    let Some(summary) = histogram.summary() else { return };
    spool.append(&rows::Runqlat {
        timestamp,
        interval,
        key: ALL,
        count: summary.count,
        sum: summary.sum,
        min: summary.min,
        max: summary.max,
        p50: summary.p50,
        p90: summary.p90,
        p99: summary.p99,
    });
    for octave in histogram.octaves(LATENCY_UNIT) {
        let (label, low, high, count) = (octave.latency_label(), octave.low, octave.high, octave.count);
        spool.append(&rows::RunqlatHist {
            timestamp,
            interval,
            key: ALL,
            low,
            high,
            label: label.as_bytes(),
            count,
        });
    }
}
