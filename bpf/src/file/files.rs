//! The files that were created lately, by path, until they are deleted or too old.

use std::collections::BTreeMap;
use std::time::Duration;

use super::FilelifeSettings;

/// When and by whom a file was created.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Creation {
    /// CLOCK_BOOTTIME, ns.
    pub(super) time: u64,
    pub(super) pid: u32,
    /// CLOCK_BOOTTIME at which the process was started, ns.
    pub(super) start: u64,
    pub(super) name: Vec<u8>,
}

/// A mount namespace and a path in it.
type Place = (u32, Vec<u8>);

/// What is remembered, at most `max_files`. Ordered by path, so that what lies in a folder stands together.
#[derive(Debug)]
pub(super) struct Files {
    created: BTreeMap<Place, Creation>,
    max_files: usize,
    max_age: u64,
    /// When old ones were thrown out last, CLOCK_BOOTTIME in ns.
    swept: u64,
    /// Creations that found no room.
    lost: u64,
}

impl Files {
    pub(super) fn new(settings: &FilelifeSettings) -> Files {
        let max_age = settings.max_age.as_nanos().try_into().unwrap_or(u64::MAX);
        let max_files = settings.max_files as usize;
        Files { created: BTreeMap::new(), max_files, max_age, swept: 0, lost: 0 }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether anything is remembered; where not, nobody needs to look for a path.
    pub(super) fn is_empty(&self) -> bool {
        self.created.is_empty()
    }

    /// Remembers a file. A file of the same path must have gone unseen, and is forgotten.
    pub(super) fn created(&mut self, namespace: u32, path: Vec<u8>, creation: Creation) {
        self.sweep(creation.time);
        let place = (namespace, path);
        if self.created.len() >= self.max_files && !self.created.contains_key(&place) {
            self.lost += 1;
        } else {
            self.created.insert(place, creation);
        }
    }

    /// Forgets a file that was deleted at `time`, and returns its creation unless it was too long ago.
    pub(super) fn deleted(&mut self, namespace: u32, path: &[u8], time: u64) -> Option<Creation> {
        let creation = self.created.remove(&(namespace, path.to_vec()))?;
        (time.saturating_sub(creation.time) <= self.max_age).then_some(creation)
    }

    /// Whether the file `path` or one in the folder `path` is remembered.
    pub(super) fn knows(&self, namespace: u32, path: &[u8]) -> bool {
        self.created.contains_key(&(namespace, path.to_vec()))
            || self.inside(namespace, path).next().is_some()
    }

    /// Gives a file, and all that lies in it if it is a folder, its new path. A file that had that path must have been
    /// taken out by [`Files::deleted`] before.
    pub(super) fn renamed(&mut self, namespace: u32, old: &[u8], new: &[u8]) {
        let moved = self.take(namespace, old);
        self.put(namespace, new, moved);
    }

    /// Lets two files or folders change places.
    pub(super) fn exchanged(&mut self, namespace: u32, one: &[u8], other: &[u8]) {
        let (of_one, of_other) = (self.take(namespace, one), self.take(namespace, other));
        self.put(namespace, other, of_one);
        self.put(namespace, one, of_other);
    }

    /// Takes out a file or all that lies in a folder, with the rest of the path behind `path`.
    fn take(&mut self, namespace: u32, path: &[u8]) -> Vec<(Vec<u8>, Creation)> {
        let itself = (namespace, path.to_vec());
        let mut places: Vec<Place> = self.inside(namespace, path).cloned().collect();
        if self.created.contains_key(&itself) {
            places.push(itself);
        }
        let rest = |place: Place| Some((place.1[path.len()..].to_vec(), self.created.remove(&place)?));
        places.into_iter().filter_map(rest).collect()
    }

    fn put(&mut self, namespace: u32, path: &[u8], files: Vec<(Vec<u8>, Creation)>) {
        for (rest, creation) in files {
            self.created.insert((namespace, [path, &rest].concat()), creation);
        }
    }

    /// What lies in the folder `path`.
    fn inside(&self, namespace: u32, path: &[u8]) -> impl Iterator<Item = &Place> {
        let folder = [path, b"/"].concat();
        let first = (namespace, folder.clone());
        self.created
            .range(first..)
            .map(|(place, _)| place)
            .take_while(move |place| place.0 == namespace && place.1.starts_with(&folder))
    }

    /// Throws out what is too old, sixteen times in a file's greatest age: each time all are looked at.
    fn sweep(&mut self, now: u64) {
        let pause = (self.max_age / 16).max(Duration::from_millis(100).as_nanos() as u64);
        if now.saturating_sub(self.swept) >= pause {
            self.swept = now;
            self.created.retain(|_, creation| now.saturating_sub(creation.time) <= self.max_age);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Creation, Files};
    use crate::file::FilelifeSettings;

    const NAMESPACE: u32 = 1;
    const SECOND: u64 = 1_000_000_000;

    fn files(max_files: u32) -> Files {
        let max_age = Duration::from_secs(10);
        Files::new(&FilelifeSettings { max_files, max_age, ..FilelifeSettings::default() })
    }

    fn creation(time: u64) -> Creation {
        Creation { time, pid: 7, start: 1, name: b"maker".into() }
    }

    #[test]
    fn files_are_found_where_renames_have_taken_them() {
        let mut files = files(10);
        for (path, time) in [(&b"/a/f"[..], 1), (b"/a/d/g", 2), (b"/ab", 3), (b"/z", 4)] {
            files.created(NAMESPACE, path.into(), creation(time));
        }
        files.renamed(NAMESPACE, b"/a", b"/b");
        files.exchanged(NAMESPACE, b"/b", b"/z");
        let mut time = |path: &[u8]| files.deleted(NAMESPACE, path, 5).map(|creation| creation.time);
        assert_eq!(time(b"/a/f"), None);
        assert_eq!(time(b"/z/f"), Some(1));
        assert_eq!(time(b"/z/d/g"), Some(2));
        assert_eq!(time(b"/b"), Some(4));
        assert_eq!(time(b"/ab"), Some(3), "a name that only begins like the folder's stays");
        assert!(files.is_empty());
    }

    #[test]
    fn a_file_of_another_mount_namespace_is_another_one() {
        let mut files = files(10);
        files.created(NAMESPACE, b"/f".into(), creation(1));
        assert_eq!(files.deleted(NAMESPACE + 1, b"/f", 2), None);
        assert!(files.knows(NAMESPACE, b"/f") && files.knows(NAMESPACE, b""));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_what_is_old_makes_room() {
        let mut files = files(2);
        for path in [b"/1", b"/2", b"/3", b"/2"] {
            files.created(NAMESPACE, path.into(), creation(SECOND));
        }
        assert_eq!(files.lost(), 1);
        assert_eq!(files.deleted(NAMESPACE, b"/1", 12 * SECOND), None, "it was too old");
        files.created(NAMESPACE, b"/4".into(), creation(12 * SECOND));
        files.created(NAMESPACE, b"/5".into(), creation(12 * SECOND));
        assert!(!files.knows(NAMESPACE, b"/2"));
        assert_eq!(files.lost(), 1);
    }
}
