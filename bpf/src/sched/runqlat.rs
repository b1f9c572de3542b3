//! Rows of runqlat and runqlat_hist.

use kumon_spool::Spool;

use super::RunqlatSettings;
use super::skeleton::types;
use crate::clock;
use crate::containers::Containers;
use crate::events;
use crate::histogram::{Histogram, LATENCY, append_histogram};
use crate::interval::{Interval, IntervalMaps};
use crate::started::{Poll, Source};
use crate::top::{OTHER, top};

/// The key of the whole node.
const ALL: &[u8] = b"all";
/// The key of a cgroup.
const CGROUP: &[u8] = b"cgroup";

/// The waits of the whole node.
pub(super) struct Runqlat {
    interval: Interval,
    waits: IntervalMaps,
}

/// The waits of each cgroup.
pub(super) struct RunqlatPerCgroup {
    interval: Interval,
    top: usize,
    waits: IntervalMaps,
    containers: Containers,
}

impl Runqlat {
    pub(super) fn new(waits: IntervalMaps, settings: &RunqlatSettings) -> Runqlat {
        Runqlat { interval: Interval::new(settings.interval), waits }
    }
}

impl Source for Runqlat {
    fn reading(&self) -> &'static str {
        "reading the waits of an interval"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(poll) else { return Ok(()) };
        let mut all = Histogram::default();
        for of_cpu in self.waits.take_per_cpu()? {
            all.merge(&Histogram::at_end_of(&of_cpu));
        }
        append(&all, time, ALL, None, b"", poll.spool);
        Ok(())
    }
}

impl RunqlatPerCgroup {
    pub(super) fn new(waits: IntervalMaps, settings: &RunqlatSettings) -> RunqlatPerCgroup {
        let (interval, containers) = (Interval::new(settings.interval), Containers::of_this_node());
        RunqlatPerCgroup { interval, top: settings.top, waits, containers }
    }
}

impl Source for RunqlatPerCgroup {
    fn reading(&self) -> &'static str {
        "reading the waits of each cgroup"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(poll) else { return Ok(()) };
        let (mut all, mut other) = (Histogram::default(), Histogram::default());
        let mut cgroups = Vec::new();
        self.waits.take(|key, value| {
            let histogram = Histogram::at_end_of(value);
            all.merge(&histogram);
            // SAFETY: struct cgroup_key holds integers only.
            match unsafe { events::read::<types::cgroup_key>(key) } {
                Some(key) if key.is_key != 0 => cgroups.push((key.id, histogram)),
                _ => other.merge(&histogram),
            }
        })?;
        let (largest, rest) = top(cgroups, self.top, |(_, histogram)| histogram.sum());
        for (_, histogram) in &rest {
            other.merge(histogram);
        }
        append(&all, time, ALL, None, b"", poll.spool);
        let read = clock::boottime();
        for (cgroup, histogram) in &largest {
            let container = self.containers.id(*cgroup, read).unwrap_or_default();
            append(histogram, time, CGROUP, Some(*cgroup), container.as_bytes(), poll.spool);
        }
        append(&other, time, OTHER, None, b"", poll.spool);
        Ok(())
    }
}

fn append(
    histogram: &Histogram,
    (timestamp, interval): (i64, u64),
    key: &[u8],
    cgroup_id: Option<u64>,
    container_id: &[u8],
    spool: &mut Spool,
) {
    append_histogram!(spool, histogram, LATENCY, Runqlat, RunqlatHist, {
        timestamp, interval, key, cgroup_id, container_id
    });
}
