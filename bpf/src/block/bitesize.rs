//! Rows of bitesize and bitesize_hist.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kumon_spool::Spool;

use super::BitesizeSettings;
use super::skeleton::types;
use crate::Entities;
use crate::clock;
use crate::containers::Containers;
use crate::events;
use crate::histogram::{Histogram, SIZE, append_histogram};
use crate::interval::{Interval, IntervalMaps};
use crate::started::{Poll, Source};
use crate::top::{OTHER, top};

pub(super) struct Bitesize {
    interval: Interval,
    top: usize,
    entities: Entities,
    containers: Containers,
    sizes: IntervalMaps,
}

/// The sizes of the requests that one process made under one name, or those of the rest.
#[derive(Default)]
struct Sizes {
    entity_id: String,
    pid: Option<u64>,
    name: Vec<u8>,
    cgroup: Option<u64>,
    histogram: Histogram,
}

impl Bitesize {
    pub(super) fn new(sizes: IntervalMaps, settings: &BitesizeSettings, entities: Entities) -> Bitesize {
        let (interval, containers) = (Interval::new(settings.interval), Containers::of_this_node());
        Bitesize { interval, top: settings.top, entities, containers, sizes }
    }

    fn append(&mut self, sizes: &Sizes, read: u64, (timestamp, interval): (i64, u64), spool: &mut Spool) {
        let Sizes { entity_id, pid, name, cgroup, histogram } = sizes;
        let (entity_id, pid, cgroup_id) = (entity_id.as_bytes(), *pid, *cgroup);
        let container = cgroup_id.and_then(|cgroup| self.containers.id(cgroup, read)).unwrap_or_default();
        let container_id = container.as_bytes();
        append_histogram!(spool, histogram, SIZE, Bitesize, BitesizeHist, {
            timestamp, interval, entity_id, pid, name, cgroup_id, container_id
        });
    }
}

impl Source for Bitesize {
    fn reading(&self) -> &'static str {
        "reading the sizes of an interval"
    }

    fn read(&mut self, poll: &mut Poll<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(poll) else { return Ok(()) };
        let mut other = Sizes { name: OTHER.to_vec(), ..Sizes::default() };
        let mut processes = BTreeMap::new();
        let entities = &self.entities;
        self.sizes.take(|key, value| match sizes(key, value, entities) {
            Some(sizes) => add(&mut processes, sizes),
            None => other.histogram.merge(&Histogram::at_end_of(value)),
        })?;
        let processes = processes.into_values().collect();
        let (mut rows, rest) = top(processes, self.top, |sizes| sizes.histogram.sum());
        for sizes in &rest {
            other.histogram.merge(&sizes.histogram);
        }
        rows.push(other);
        let read = clock::boottime();
        for sizes in &rows {
            self.append(sizes, read, time, poll.spool);
        }
        Ok(())
    }
}

/// Adds to those of the same process and name: what it has read in execve is kept apart until it has its name.
fn add(processes: &mut BTreeMap<(String, Vec<u8>), Sizes>, sizes: Sizes) {
    match processes.entry((sizes.entity_id.clone(), sizes.name.clone())) {
        Entry::Vacant(entry) => {
            entry.insert(sizes);
        }
        Entry::Occupied(mut entry) => entry.get_mut().histogram.merge(&sizes.histogram),
    }
}

/// None for what found no key of its own.
fn sizes(key: &[u8], value: &[u8], entities: &Entities) -> Option<Sizes> {
    // SAFETY: both hold integers and arrays of them only.
    let key = unsafe { events::read::<types::process_key>(key) }.filter(|key| key.is_key != 0)?;
    // SAFETY: as above.
    let head = unsafe { events::read::<types::process_sizes>(value) }?;
    Some(Sizes {
        entity_id: entities.id(key.pid, key.start),
        pid: Some(key.pid.into()),
        name: events::name(&head.name).to_vec(),
        cgroup: Some(head.cgroup),
        histogram: Histogram::at_end_of(value),
    })
}
