//! Intervals of summaries, and the kernel's aggregates of an interval (include/interval.h).

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Result};

use crate::started::Poll;

/// Tells when an interval is over.
#[derive(Debug)]
pub(crate) struct Interval {
    length: Duration,
    began: Instant,
}

impl Interval {
    /// The first interval begins now.
    pub(crate) fn new(length: Duration) -> Interval {
        Interval { length, began: Instant::now() }
    }

    /// When the interval ended (ns since the Unix epoch) and how long it was (ns), where it is over or cut short by
    /// `last`; the next one begins. Both are those of this moment, not of the poll's `now`, so read right after it: since then
    /// others may have waited for the kernel.
    pub(crate) fn over(&mut self, poll: &Poll<'_>) -> Option<(i64, u64)> {
        if poll.now.saturating_duration_since(self.began) < self.length && !poll.last {
            return None;
        }
        let end = Instant::now();
        let length = end.saturating_duration_since(self.began);
        self.began = end;
        Some((poll.clock.now(), length.as_nanos() as u64))
    }
}

/// Two maps that take turns: one is filled by the programs while the other is read and emptied.
pub(crate) struct IntervalMaps {
    /// The array of maps; its only element is the map that is filled.
    current: MapHandle,
    maps: [MapHandle; 2],
    filled: usize,
}

/// How many elements are read at a time.
const BATCH: u32 = 64;

impl IntervalMaps {
    /// Takes what `INTERVAL_MAPS(name, …)` declared: `name`, `name_0` and `name_1`; before programs are attached.
    pub(crate) fn new<'a, M>(current: &'a M, first: &'a M, second: &'a M) -> Result<IntervalMaps>
    where
        MapHandle: TryFrom<&'a M, Error = libbpf_rs::Error>,
    {
        let maps = [MapHandle::try_from(first)?, MapHandle::try_from(second)?];
        for map in &maps {
            make_other(map)?;
        }
        Ok(IntervalMaps { current: MapHandle::try_from(current)?, maps, filled: 0 })
    }

    /// Takes every key and value of the hash that was filled up to now. What the programs counted under no key of
    /// its own, because the map was full, comes with a key of zeros.
    pub(crate) fn take(&mut self, mut element: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let map = self.swap()?;
        for (key, value) in map.lookup_and_delete_batch(BATCH, MapFlags::ANY, MapFlags::ANY)? {
            element(&key, &value);
        }
        // Kernels without batches, and elements a batch had no room for.
        while let Some(key) = map.keys().next() {
            if let Some(value) = map.lookup(&key, MapFlags::ANY)? {
                element(&key, &value);
            }
            map.delete(&key)?;
        }
        make_other(map)
    }

    /// Takes the only element of the per-CPU array that was filled up to now: one value for each CPU.
    pub(crate) fn take_per_cpu(&mut self) -> Result<Vec<Vec<u8>>> {
        let map = self.swap()?;
        let index = 0_u32.to_ne_bytes();
        let values = map.lookup_percpu(&index, MapFlags::ANY)?.unwrap_or_default();
        let zeros = vec![vec![0; map.value_size() as usize]; values.len()];
        map.update_percpu(&index, &zeros, MapFlags::ANY)?;
        Ok(values)
    }

    /// Lets the programs fill the other map and returns the one they are done with: the kernel waits for those that
    /// are still running before it returns from an update of an array of maps.
    fn swap(&mut self) -> Result<&MapHandle> {
        let next = 1 - self.filled;
        let fd = self.maps[next].as_fd().as_raw_fd();
        self.current.update(&0_u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?;
        Ok(&self.maps[std::mem::replace(&mut self.filled, next)])
    }
}

/// Makes the element that takes in what finds no place of its own: `other_key` of include/interval.h.
fn make_other(map: &MapHandle) -> Result<()> {
    if !map.map_type().is_hash_map() {
        return Ok(());
    }
    map.update(&vec![0; map.key_size() as usize], &vec![0; map.value_size() as usize], MapFlags::ANY)
}
