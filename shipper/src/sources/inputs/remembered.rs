//! What is known of files that are not read now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use super::open::open;
use crate::checkpoint::{Entry, FileId, Missing};
use crate::content::Content;
use crate::content::unpack::Unpacker;

/// Files that are out of sight are remembered for so long, in seconds: 30 days.
const KEPT: u64 = 30 * 24 * 3600;
/// And at most so many, those that went last.
const MAX_KEPT: usize = 10_000;

/// Entries of files that were not found again yet, or of which it is known that nobody looks for them: no input has
/// them any more, or their names are gone. They may come back.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    entries: BTreeMap<u64, Entry>,
    /// Those that are looked for.
    wanted: BTreeSet<u64>,
    ids: HashMap<FileId, Vec<u64>>,
    paths: HashMap<PathBuf, Vec<u64>>,
    next: u64,
}

impl Remembered {
    /// Those of the last run; `is_input` tells whether an input has the file.
    pub(crate) fn new(entries: Vec<Entry>, is_input: impl Fn(&Entry) -> bool) -> Remembered {
        let mut remembered = Remembered::default();
        for mut entry in entries {
            let is_ended = entry.missing.is_some_and(|missing| missing.ended);
            let is_wanted = !is_ended && is_input(&entry);
            if !is_wanted {
                entry.missing.get_or_insert(Missing { since: now(), ended: false });
            }
            remembered.add(entry, is_wanted);
        }
        remembered
    }

    /// Takes note of a file that is looked for.
    pub(crate) fn want(&mut self, entry: Entry) {
        self.add(entry, true);
    }

    /// Takes note of a file that was read to its end and is out of sight, but not deleted.
    pub(crate) fn keep(&mut self, mut entry: Entry) {
        entry.missing = Some(Missing { since: now(), ended: true });
        self.add(entry, false);
    }

    fn add(&mut self, entry: Entry, is_wanted: bool) {
        let key = self.next;
        self.next += 1;
        self.ids.entry(entry.id).or_default().push(key);
        self.paths.entry(entry.path.clone()).or_default().push(key);
        self.entries.insert(key, entry);
        if is_wanted {
            self.wanted.insert(key);
        }
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Entry> {
        self.entries.get(&key)
    }

    pub(crate) fn take(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.wanted.remove(&key);
        forget(&mut self.ids, &entry.id, key);
        forget(&mut self.paths, &entry.path, key);
        Some(entry)
    }

    /// Those that are looked for.
    pub(crate) fn wanted(&self) -> Vec<u64> {
        self.wanted.iter().copied().collect()
    }

    pub(crate) fn is_wanted(&self, key: u64) -> bool {
        self.wanted.contains(&key)
    }

    /// Says since when a file is missed that is looked for in vain.
    pub(crate) fn miss(&mut self, key: u64) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.missing.get_or_insert(Missing { since: now(), ended: false });
        }
    }

    /// The entry of this file, as far as the file system can tell.
    pub(crate) fn of_file(&self, path: &Path, id: &FileId) -> Option<u64> {
        let by_id = || self.ids.get(id)?.first().copied();
        let by_path = || {
            let same = |key: &&u64| {
                let entry = &self.entries[*key];
                entry.sent.offset > 0 && entry.id.is_same_but_for_device(id)
            };
            self.paths.get(path)?.iter().find(same).copied()
        };
        by_id().or_else(by_path)
    }

    /// Those that may go on in a file of another name or inode: what was read to its end and went away is none.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let is_ended = |entry: &Entry| entry.missing.is_some_and(|missing| missing.ended);
        self.entries.iter().filter(move |(_, entry)| !is_ended(entry)).map(|(key, entry)| (*key, entry))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Those that no input has any more, with the first one's name.
    pub(crate) fn without_input(&self) -> Option<(usize, &Path)> {
        let mut all =
            self.unfinished().filter(|(key, _)| !self.is_wanted(*key)).map(|(_, entry)| &*entry.path);
        let first = all.next()?;
        Some((1 + all.count(), first))
    }

    /// Forgets those that are out of sight for too long, or too many; answers them.
    pub(crate) fn expire(&mut self) -> Vec<Entry> {
        let now = now();
        let missing = self.entries.iter().filter_map(|(key, entry)| Some((entry.missing?.since, *key)));
        let mut missing: Vec<_> = missing.collect();
        missing.sort_unstable();
        let too_many = missing.len().saturating_sub(MAX_KEPT);
        let too_old = missing.iter().take_while(|(since, _)| now.saturating_sub(*since) > KEPT).count();
        missing.truncate(too_many.max(too_old));
        missing.into_iter().filter_map(|(_, key)| self.take(key)).collect()
    }
}

/// The file of an entry under whatever name it has in its folder.
pub(crate) fn find_sibling(entry: &Entry, unpacker: &Arc<Unpacker>) -> io::Result<Option<(FileId, Content)>> {
    let Some(folder) = entry.path.parent() else { return Ok(None) };
    for sibling in fs::read_dir(folder)? {
        let sibling = sibling?;
        let id = FileId::of(&sibling.metadata()?);
        if id == entry.id {
            let mut content = Content::of(open(&sibling.path())?, unpacker, true)?;
            return Ok(entry.sent.stands_in(&mut content)?.then_some((id, content)));
        }
    }
    Ok(None)
}

/// Whether the file's folder is what is left where a file system is not mounted: empty, and on another device.
pub(crate) fn is_unmounted(entry: &Entry) -> bool {
    let Some(folder) = entry.path.parent() else { return false };
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_none());
    fs::metadata(folder).is_ok_and(|folder| !entry.id.is_on(&folder)) && is_empty()
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<u64>>, of: &K, key: u64) {
    if let Some(keys) = index.get_mut(of) {
        keys.retain(|other| *other != key);
        if keys.is_empty() {
            index.remove(of);
        }
    }
}

/// Unix time in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{KEPT, MAX_KEPT, Remembered, now};
    use crate::checkpoint::{Entry, FileId, Missing};
    use crate::content::Content;
    use crate::file_position::FilePosition;

    fn entry(folder: &std::path::Path, name: &str, missing: Option<Missing>) -> Entry {
        let path = folder.join(name);
        fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        let id = FileId::of(&file.metadata().unwrap());
        let mark = FilePosition::of(&mut Content::from(file), 7).unwrap().unwrap();
        let generation = name.to_owned();
        Entry { path, id, generation, delivered: mark, sent: mark, found: None, missing, header: Vec::new() }
    }

    fn names<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<&'a str> {
        entries.into_iter().map(|entry| entry.generation.as_str()).collect()
    }

    #[test]
    fn what_no_input_has_is_kept_for_30_days_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let since = |age| Some(Missing { since: now() - age, ended: false });
        let entries = vec![
            entry(folder.path(), "wanted", None),
            entry(folder.path(), "back", since(KEPT / 2)),
            entry(folder.path(), "without", None),
            entry(folder.path(), "recent", since(KEPT - 60)),
            entry(folder.path(), "old", since(KEPT + 60)),
            entry(folder.path(), "ended", Some(Missing { since: now() - 60, ended: true })),
        ];
        let has_input = |entry: &Entry| ["wanted", "back"].contains(&&*entry.generation);
        let mut remembered = Remembered::new(entries.clone(), has_input);
        let expired = remembered.expire();
        assert_eq!(names(&expired), ["old"]);
        assert_eq!(names(remembered.iter()), ["wanted", "back", "without", "recent", "ended"]);
        assert_eq!(
            names(remembered.wanted().into_iter().filter_map(|key| remembered.get(key))),
            ["wanted", "back"]
        );
        assert_eq!(remembered.without_input(), Some((2, &*folder.path().join("without"))));
        for entry in entries.iter().filter(|entry| entry.generation != "old") {
            let key = remembered.of_file(&entry.path, &entry.id).unwrap();
            assert_eq!(remembered.take(key).unwrap().generation, entry.generation);
            assert_eq!(remembered.of_file(&entry.path, &entry.id), None);
        }
        assert!(remembered.ids.is_empty() && remembered.paths.is_empty());
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let one = entry(folder.path(), "a", None);
        let age = |age| Some(Missing { since: now() - age, ended: false });
        let entries = (0..MAX_KEPT as u64 + 5).map(|age_s| Entry {
            generation: age_s.to_string(),
            missing: age(age_s),
            ..one.clone()
        });
        let mut remembered = Remembered::new(entries.collect(), |_| false);
        let mut forgotten: Vec<usize> =
            remembered.expire().iter().map(|entry| entry.generation.parse().unwrap()).collect();
        forgotten.sort_unstable();
        assert_eq!(forgotten, (MAX_KEPT..MAX_KEPT + 5).collect::<Vec<_>>());
        assert!(remembered.expire().is_empty());
    }
}
