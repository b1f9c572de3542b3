//! The folders of the store: one index per day on which rows came in (UTC), `2026-11-21`; a second index of the same
//! day, after an upgrade changed the layout, is `2026-11-21.2`.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use tantivy::{Index, IndexSettings};

use crate::error::StoreError;
use crate::layout::Layout;
use crate::tokenizer;

/// Exists from an index's first commit on; tantivy replaces it atomically with each commit.
const META: &str = "meta.json";

/// One index's folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day {
    pub(crate) date: NaiveDate,
    number: u32,
    pub(crate) path: PathBuf,
}

impl Day {
    fn at(root: &Path, date: NaiveDate, number: u32) -> Day {
        let name = if number == 1 { date.to_string() } else { format!("{date}.{number}") };
        Day { date, number, path: root.join(name) }
    }

    fn parse(root: &Path, name: &str) -> Option<Day> {
        let (date, number) = match name.split_once('.') {
            Some((date, number)) => (date, number.parse().ok()?),
            None => (name, 1),
        };
        Some(Day::at(root, date.parse().ok()?, number))
    }

    /// tantivy's file that says what the last commit was.
    pub(crate) fn meta(&self) -> PathBuf {
        self.path.join(META)
    }

    /// Opens the index, for reading or writing.
    pub(crate) fn open(&self) -> Result<Index, StoreError> {
        let index = Index::open_in_dir(&self.path).map_err(StoreError::index("open", &self.path))?;
        tokenizer::register(&index);
        Ok(index)
    }

    fn create(&self, layout: &Layout) -> Result<Index, StoreError> {
        fs::create_dir_all(&self.path).map_err(StoreError::io("create", &self.path))?;
        // Texts are compressed by the thread that indexes: one of their own costs more in waking it.
        let settings =
            IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let index = Index::builder().schema(layout.schema.clone()).settings(settings);
        let index = index.create_in_dir(&self.path).map_err(StoreError::index("create", &self.path))?;
        tokenizer::register(&index);
        // The folder's own name must survive a power failure, too.
        let root = self.path.parent().unwrap_or(&self.path);
        fs::File::open(root).and_then(|root| root.sync_all()).map_err(StoreError::io("sync", root))?;
        Ok(index)
    }

    /// Its files' size in bytes.
    pub(crate) fn size(&self) -> u64 {
        size(&self.path)
    }
}

/// The size in bytes of the files in a day's folder.
pub(crate) fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    // A file that a merge removes meanwhile counts nothing.
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// The days that can be read, oldest first.
pub(crate) fn list(root: &Path) -> Result<Vec<Day>, StoreError> {
    let entries = fs::read_dir(root).map_err(StoreError::io("list", root))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut days: Vec<Day> = names.filter_map(|name| Day::parse(root, &name)).collect();
    // A kill while a day's folder was being made leaves one without an index: it is made when needed again.
    days.retain(|day| day.meta().exists());
    days.sort();
    Ok(days)
}

/// The index that rows of `date` go into: the day's last one if it has today's layout, else a new one.
pub(crate) fn open_for_writing(
    root: &Path,
    date: NaiveDate,
    layout: &Layout,
) -> Result<(Day, Index), StoreError> {
    let last = list(root)?.into_iter().rfind(|day| day.date == date);
    let number = match last {
        None => 1,
        Some(day) => {
            let index = day.open()?;
            if index.schema() == layout.schema {
                return Ok((day, index));
            }
            day.number + 1
        }
    };
    let day = Day::at(root, date, number);
    let index = day.create(layout)?;
    Ok((day, index))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Day;

    #[test]
    fn folders_sort_by_day_and_number() {
        let root = Path::new("/store");
        let day = |name: &str| Day::parse(root, name).unwrap();
        assert!(day("2026-11-21") < day("2026-11-21.2"));
        assert!(day("2026-11-21.2") < day("2026-11-21.10"));
        assert!(day("2026-11-21.10") < day("2026-11-22"));
        assert_eq!(day("2026-11-21.2").path, root.join("2026-11-21.2"));
        assert_eq!(Day::parse(root, "lock"), None);
        assert_eq!(Day::parse(root, ".gone-2026-11-21"), None);
    }
}
