//! Several shippers that read one spool, each for an output of its own: a file goes when all of them have it, and what
//! counts as acknowledged is what all of them have acknowledged.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kumon_spool::Acknowledged;

/// A shipper's part in reading a spool.
#[derive(Debug, Clone)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    number: usize,
}

#[derive(Debug)]
struct Shared {
    readers: usize,
    /// Who has all of a file, by its generation, where not all have it. Never locked while the disk is waited for.
    done: Mutex<HashMap<Arc<str>, BTreeSet<usize>>>,
    /// By reader, what it has written down; nothing for one that has not begun.
    acknowledged: Mutex<Vec<Acknowledged>>,
}

impl SpoolReader {
    /// Of a shipper that has the spool for itself.
    pub(crate) fn alone() -> SpoolReader {
        SpoolReader { shared: Shared::of(1), number: 0 }
    }

    /// Of so many shippers that read the same spool in one process. They are to be made before the first one runs.
    pub fn several(count: usize) -> Vec<SpoolReader> {
        let shared = Shared::of(count);
        (0..count).map(|number| SpoolReader { shared: shared.clone(), number }).collect()
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.shared.readers <= 1
    }

    /// This reader's share of what there is for all of them.
    pub(crate) fn share_of(&self, all: usize) -> usize {
        (all / self.shared.readers.max(1)).max(1)
    }

    /// Reads how far this one has delivered the spool's files: the spool says so to one that is alone, else its own
    /// state does.
    ///
    /// # Errors
    /// When the spool can't be told what all have acknowledged now that there is one more.
    pub(crate) fn begin(&self, spool: &Path, state: &Path) -> io::Result<Acknowledged> {
        let folder = if self.is_alone() { spool } else { state };
        // A lost one costs a resend, which the sink recognises by the ids.
        let acknowledged = Acknowledged::read(folder).unwrap_or_else(|e| {
            log::warn!(
                "{}: the acknowledgements can't be read ({e}); files are sent again",
                folder.display()
            );
            Acknowledged::default()
        });
        if !self.is_alone() {
            self.publish(spool, &acknowledged)?;
        }
        Ok(acknowledged)
    }

    /// Writes down how far this one has delivered the spool's files.
    ///
    /// # Errors
    /// When a folder can't be written, with its name.
    pub(crate) fn acknowledge<'a>(
        &self,
        spool: &'a Path,
        state: &'a Path,
        acknowledged: &Acknowledged,
    ) -> Result<(), (&'a Path, io::Error)> {
        if self.is_alone() {
            return acknowledged.write(spool).map_err(|e| (spool, e));
        }
        // First: to the spool it may be told less than what is so.
        acknowledged.write(state).map_err(|e| (state, e))?;
        self.publish(spool, acknowledged).map_err(|e| (spool, e))
    }

    /// Tells the spool what all have acknowledged, now that this one has so much.
    fn publish(&self, spool: &Path, acknowledged: &Acknowledged) -> io::Result<()> {
        let mut all = lock(&self.shared.acknowledged);
        all[self.number] = acknowledged.clone();
        least(&all).write(spool)
    }

    /// Whether all others have all of the file.
    pub(crate) fn is_last(&self, generation: &str) -> bool {
        self.is_alone() || {
            let done = lock(&self.shared.done);
            let others =
                done.get(generation).map_or(0, |done| done.iter().filter(|it| **it != self.number).count());
            others + 1 == self.shared.readers
        }
    }

    /// Takes note that this one has all of the file; says whether all have.
    pub(crate) fn finish(&self, generation: &Arc<str>) -> bool {
        self.is_alone() || {
            let mut done = lock(&self.shared.done);
            let done = done.entry(generation.clone()).or_default();
            done.insert(self.number);
            done.len() == self.shared.readers
        }
    }

    /// For a file that is gone.
    pub(crate) fn forget(&self, generation: &str) {
        lock(&self.shared.done).remove(generation);
    }
}

impl Shared {
    fn of(readers: usize) -> Arc<Shared> {
        let acknowledged = Mutex::new(vec![Acknowledged::default(); readers]);
        Arc::new(Shared { readers, done: Mutex::default(), acknowledged })
    }
}

/// What all have acknowledged.
fn least(all: &[Acknowledged]) -> Acknowledged {
    let Some((first, others)) = all.split_first() else { return Acknowledged::default() };
    let least = |(file, offset): (&String, &u64)| {
        let mut of_others = others.iter().map(|other| other.0.get(file).copied());
        let least = of_others.try_fold(*offset, |least, other| Some(least.min(other?)));
        Some((file.clone(), least?))
    };
    Acknowledged(first.0.iter().filter_map(least).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use kumon_spool::Acknowledged;

    use super::SpoolReader;

    fn acknowledged(files: &[(&str, u64)]) -> Acknowledged {
        Acknowledged(files.iter().map(|(file, offset)| ((*file).to_owned(), *offset)).collect())
    }

    #[test]
    fn the_last_one_to_finish_a_file_is_told_so() {
        let (readers, file): (_, Arc<str>) = (SpoolReader::several(3), "f".into());
        assert!(!readers[0].finish(&file) && !readers[0].finish(&file) && !readers[2].finish(&file));
        assert!(readers[1].is_last(&file) && !readers[0].is_last(&file));
        assert!(readers[1].finish(&file));
        readers[1].forget(&file);
        assert!(!readers[1].is_last(&file));
        let alone = SpoolReader::alone();
        assert!(alone.is_last(&file) && alone.finish(&file));
    }

    #[test]
    fn the_spool_is_told_what_all_have_acknowledged() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let (spool, states) = (folder("spool"), [folder("a"), folder("b")]);
        let told = || Acknowledged::read(&spool).unwrap();
        // What one that was alone has acknowledged holds for that one.
        let first = acknowledged(&[("f", 10), ("g", 5)]);
        first.write(&spool).unwrap();
        assert_eq!(SpoolReader::alone().begin(&spool, Path::new("/none")).unwrap(), first);

        let readers = SpoolReader::several(2);
        first.write(&states[0]).unwrap();
        assert_eq!(readers[0].begin(&spool, &states[0]).unwrap(), first);
        assert_eq!(told(), Acknowledged::default(), "one that has not begun has nothing");
        assert_eq!(readers[1].begin(&spool, &states[1]).unwrap(), Acknowledged::default());
        let second = acknowledged(&[("f", 4), ("h", 7)]);
        readers[1].acknowledge(&spool, &states[1], &second).unwrap();
        assert_eq!(told(), acknowledged(&[("f", 4)]));
        assert_eq!(Acknowledged::read(&states[1]).unwrap(), second);
    }
}
