//! Rows of bitesize and bitesize_hist.

use kumon_schema::rows;
use kumon_spool::Spool;

use super::BitesizeSettings;
use super::skeleton::{BlockSkel, types};
use crate::Entities;
use crate::events;
use crate::histogram::{Histogram, SIZE_UNIT};
use crate::interval::{Interval, IntervalMaps};
use crate::started::{Poll, Source};
use crate::top::{OTHER, top};

pub(super) struct Bitesize {
    interval: Interval,
    top: usize,
    entities: Entities,
    sizes: IntervalMaps,
}

/// The sizes of one process's requests, or those of the rest.
#[derive(Default)]
struct Sizes {
    entity_id: String,
    pid: Option<u64>,
    name: Vec<u8>,
    histogram: Histogram,
}

impl Bitesize {
    pub(super) fn new(
        skeleton: &BlockSkel<'static>,
        settings: &BitesizeSettings,
        entities: Entities,
    ) -> libbpf_rs::Result<Bitesize> {
        let maps = &skeleton.maps;
        let sizes = IntervalMaps::new(&maps.sizes, &maps.sizes_0, &maps.sizes_1)?;
        Ok(Bitesize { interval: Interval::new(settings.interval), top: settings.top, entities, sizes })
    }
}

impl Source for Bitesize {
    fn reading(&self) -> &'static str {
        "reading the sizes of an interval"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some((timestamp, interval)) = self.interval.over(poll) else { return Ok(()) };
        let mut other = Sizes { name: OTHER.to_vec(), ..Sizes::default() };
        let mut processes = Vec::new();
        let entities = &self.entities;
        self.sizes.take(|key, value| match sizes(key, value, entities) {
            Some(sizes) if sizes.pid.is_none() => other.histogram.merge(&sizes.histogram),
            sizes => processes.extend(sizes),
        })?;
        let (mut rows, rest) = top(processes, self.top, |sizes| sizes.histogram.sum());
        for sizes in &rest {
            other.histogram.merge(&sizes.histogram);
        }
        rows.push(other);
        for sizes in &rows {
            append(sizes, timestamp, interval, poll.spool);
        }
        Ok(())
    }
}

fn sizes(key: &[u8], value: &[u8], entities: &Entities) -> Option<Sizes> {
    // SAFETY: both hold integers and arrays of them only.
    let key = unsafe { events::read::<types::process_key>(key) }?;
    // SAFETY: as above.
    let value = unsafe { events::read::<types::process_sizes>(value) }?;
    let mut histogram = Histogram::default();
    let buckets = value.histogram.buckets.iter().map(|bucket| (bucket.count, bucket.sum));
    histogram.add(value.histogram.max, value.histogram.inverse_min, buckets);
    if key.is_key == 0 {
        return Some(Sizes { histogram, ..Sizes::default() });
    }
    let (entity_id, name) = (entities.id(key.pid, key.start), events::name(&value.name).to_vec());
    Some(Sizes { entity_id, pid: Some(key.pid.into()), name, histogram })
}

fn append(sizes: &Sizes, timestamp: i64, interval: u64, spool: &mut Spool) {
    let Some(summary) = sizes.histogram.summary() else { return };
    let (entity_id, pid, name) = (sizes.entity_id.as_bytes(), sizes.pid, sizes.name.as_slice());
    spool.append(&rows::Bitesize {
        timestamp,
        interval,
        entity_id,
        pid,
        name,
        count: summary.count,
        sum: summary.sum,
        min: summary.min,
        max: summary.max,
        p50: summary.p50,
        p90: summary.p90,
        p99: summary.p99,
    });
    for octave in sizes.histogram.octaves(SIZE_UNIT) {
        let (label, low, high, count) = (octave.size_label(), octave.low, octave.high, octave.count);
        spool.append(&rows::BitesizeHist {
            timestamp,
            interval,
            entity_id,
            pid,
            name,
            low,
            high,
            label: label.as_bytes(),
            count,
        });
    }
}
