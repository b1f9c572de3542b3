//! Rows of bitesize and bitesize_hist.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kumon_collect::{Emitter, Interval, PollContext, Process, Subject, boottime, top};

use super::BitesizeSettings;
use super::skeleton::types;
use crate::active::Source;
use crate::events;
use crate::histogram::{Histogram, SIZE, emit_histogram};
use crate::interval::IntervalMaps;

pub(super) struct Bitesize {
    interval: Interval,
    top: usize,
    sizes: IntervalMaps,
}

/// A process under one of its names: its start in ns of CLOCK_BOOTTIME, its id, its name.
type Key = (u64, u32, Vec<u8>);

/// The sizes of the requests that one process made under one name.
struct Sizes {
    cgroup: u64,
    histogram: Histogram,
}

impl Bitesize {
    pub(super) fn new(sizes: IntervalMaps, settings: &BitesizeSettings) -> Bitesize {
        Bitesize { interval: Interval::new(settings.interval), top: settings.top, sizes }
    }
}

impl Source for Bitesize {
    fn reading(&self) -> &'static str {
        "reading the sizes of an interval"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(context) else { return Ok(()) };
        let (mut processes, mut other) = (BTreeMap::new(), Histogram::default());
        self.sizes.take(|key, value| match sizes(key, value) {
            Some((key, sizes)) => add(&mut processes, key, sizes),
            None => other.merge(&Histogram::at_end_of(value)),
        })?;
        let (largest, rest) =
            top(processes.into_iter().collect(), self.top, |(_, sizes): &(Key, Sizes)| sizes.histogram.sum());
        for (_, sizes) in &rest {
            other.merge(&sizes.histogram);
        }
        let seen = boottime();
        for ((start, pid, name), Sizes { cgroup, histogram }) in &largest {
            let process =
                Process { pid: *pid, start: *start, name, cgroup: *cgroup, seen, ..Process::default() };
            emit(histogram, &Subject::Process(process), time, &mut context.emitter);
        }
        emit(&other, &Subject::Others, time, &mut context.emitter);
        Ok(())
    }
}

fn emit(
    histogram: &Histogram,
    subject: &Subject<'_>,
    (timestamp, interval): (i64, u64),
    emitter: &mut Emitter<'_>,
) {
    emit_histogram!(emitter, subject, histogram, SIZE, Bitesize, BitesizeHist, { timestamp, interval });
}

/// Adds to those of the same process and name: what it has read in execve is kept apart until it has its name.
fn add(processes: &mut BTreeMap<Key, Sizes>, key: Key, sizes: Sizes) {
    match processes.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(sizes);
        }
        Entry::Occupied(mut entry) => entry.get_mut().histogram.merge(&sizes.histogram),
    }
}

/// None for what found no key of its own.
fn sizes(key: &[u8], value: &[u8]) -> Option<(Key, Sizes)> {
    // SAFETY: both hold integers and arrays of them only.
    let key = unsafe { events::read::<types::process_key>(key) }.filter(|key| key.is_key != 0)?;
    // SAFETY: as above.
    let head = unsafe { events::read::<types::process_sizes>(value) }?;
    let sizes = Sizes { cgroup: head.cgroup, histogram: Histogram::at_end_of(value) };
    Some(((key.start, key.pid, events::name(&head.name).to_vec()), sizes))
}
