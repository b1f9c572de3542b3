//! Rows of runqlat and runqlat_hist.

use kumon_collect::{Emitter, Interval, OTHER, PollContext, Subject, boottime, top};

use super::RunqlatSettings;
use super::skeleton::types;
use crate::active::Source;
use crate::events;
use crate::histogram::{Histogram, LATENCY, Octave, Summary, emit_histogram};
use crate::interval::IntervalMaps;

/// The key of the whole node.
const ALL: &[u8] = b"all";
/// The key of a cgroup.
const CGROUP: &[u8] = b"cgroup";

/// Waits of an interval.
#[derive(Default)]
struct Waits {
    /// Those for a CPU.
    histogram: Histogram,
    /// Those that a CPU quota made, and ns of them.
    throttled: u64,
    throttled_sum: u64,
}

impl Waits {
    /// Reads a `struct waits`.
    fn read(value: &[u8]) -> Waits {
        // SAFETY: struct waits holds integers only.
        let Some(kernel) = (unsafe { events::read::<types::waits>(value) }) else { return Waits::default() };
        Waits {
            histogram: Histogram::at_end_of(value),
            throttled: kernel.throttled,
            throttled_sum: kernel.throttled_sum,
        }
    }

    fn merge(&mut self, other: &Waits) {
        self.histogram.merge(&other.histogram);
        self.throttled += other.throttled;
        self.throttled_sum += other.throttled_sum;
    }

    /// ns of all of them.
    fn sum(&self) -> u64 {
        self.histogram.sum() + self.throttled_sum
    }

    /// Of those for a CPU: zeros where all were for quota, none where there were none at all.
    fn summary(&self) -> Option<Summary> {
        let only_throttled = (self.throttled > 0).then(Summary::default);
        self.histogram.summary().or(only_throttled)
    }

    fn octaves(&self, unit: u64) -> Vec<Octave> {
        self.histogram.octaves(unit)
    }
}

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

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(context) else { return Ok(()) };
        let mut all = Waits::default();
        for of_cpu in self.waits.take_per_cpu()? {
            all.merge(&Waits::read(&of_cpu));
        }
        emit(&all, time, ALL, &Subject::Node, &mut context.emitter);
        Ok(())
    }
}

impl RunqlatPerCgroup {
    pub(super) fn new(waits: IntervalMaps, settings: &RunqlatSettings) -> RunqlatPerCgroup {
        RunqlatPerCgroup { interval: Interval::new(settings.interval), top: settings.top, waits }
    }
}

impl Source for RunqlatPerCgroup {
    fn reading(&self) -> &'static str {
        "reading the waits of each cgroup"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(context) else { return Ok(()) };
        let (mut all, mut other) = (Waits::default(), Waits::default());
        let mut cgroups = Vec::new();
        self.waits.take(|key, value| {
            let waits = Waits::read(value);
            all.merge(&waits);
            // SAFETY: struct cgroup_key holds integers only.
            match unsafe { events::read::<types::cgroup_key>(key) } {
                Some(key) if key.is_key != 0 => cgroups.push((key.id, waits)),
                _ => other.merge(&waits),
            }
        })?;
        let (largest, rest) = top(cgroups, self.top, |(_, waits)| waits.sum());
        for (_, waits) in &rest {
            other.merge(waits);
        }
        emit(&all, time, ALL, &Subject::Node, &mut context.emitter);
        let seen = boottime();
        for (id, waits) in &largest {
            emit(waits, time, CGROUP, &Subject::Cgroup { id: *id, seen }, &mut context.emitter);
        }
        emit(&other, time, OTHER, &Subject::Others, &mut context.emitter);
        Ok(())
    }
}

fn emit(
    waits: &Waits,
    (timestamp, interval): (i64, u64),
    key: &[u8],
    subject: &Subject<'_>,
    emitter: &mut Emitter<'_>,
) {
    emit_histogram!(emitter, subject, waits, LATENCY, Runqlat {
        throttled_count: waits.throttled,
        throttled_sum: waits.throttled_sum
    }, RunqlatHist, { timestamp, interval, key });
}
