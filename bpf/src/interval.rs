//! The kernel's aggregates of an interval (include/interval.h).

use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{AsRawLibbpf, Map, MapCore, MapFlags, MapHandle, OpenMap, OpenMapMut, Result, libbpf_sys};

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
    /// Makes the maps that `INTERVAL_MAPS(name, …)` describes, before the array itself is made, with room for so many
    /// keys, and in hashes for the one of what finds no place. The array is made for these very maps: before Linux 5.10
    /// it takes maps of one size only, and before 6.2 of one kind of type information only, here none.
    pub(crate) fn make(array: &mut OpenMapMut<'_>, keys: u32) -> Result<[MapHandle; 2]> {
        // SAFETY: the array is a map of an open object, which is borrowed. libbpf-rs has no way to what it holds.
        let described = unsafe { libbpf_sys::bpf_map__inner_map(array.as_libbpf_object().as_ptr()) };
        // SAFETY: it belongs to the array, and nobody else refers to it.
        let Some(described) = (unsafe { described.as_ref() }) else {
            return Err(std::io::Error::other("it is no array of maps").into());
        };
        let described = OpenMap::new(described);
        let entries = if described.map_type().is_hash_map() { keys.saturating_add(1) } else { keys };
        let (key_size, value_size) = (described.key_size(), described.value_size());
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: described.map_flags(),
            ..Default::default()
        };
        let (kind, name) = (described.map_type(), array.name());
        let make = || MapHandle::create(kind, Some(name), key_size, value_size, entries, &options);
        let maps = [make()?, make()?];
        array.set_inner_map_fd(maps[0].as_fd())?;
        Ok(maps)
    }

    /// Puts them to work in their array, before programs are attached.
    pub(crate) fn new(array: &Map<'_>, maps: [MapHandle; 2]) -> Result<IntervalMaps> {
        for map in &maps {
            make_other(map)?;
        }
        let mut interval = IntervalMaps { current: MapHandle::try_from(array)?, maps, filled: 1 };
        interval.swap()?;
        Ok(interval)
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

    /// As [`IntervalMaps::take`] of a per-CPU hash: with one value for each CPU.
    pub(crate) fn take_of_cpus(&mut self, mut element: impl FnMut(&[u8], &[Vec<u8>])) -> Result<()> {
        let map = self.swap()?;
        while let Some(key) = map.keys().next() {
            if let Some(of_cpus) = map.lookup_percpu(&key, MapFlags::ANY)? {
                element(&key, &of_cpus);
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
    let (key, value) = (vec![0; map.key_size() as usize], vec![0; map.value_size() as usize]);
    if map.map_type().is_percpu() {
        return map.update_percpu(&key, &vec![value; libbpf_rs::num_possible_cpus()?], MapFlags::ANY);
    }
    map.update(&key, &value, MapFlags::ANY)
}
