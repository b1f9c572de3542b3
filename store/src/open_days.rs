//! The days' indexes as readers see them, each as of its last commit.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tantivy::schema::Schema;
use tantivy::{Index, IndexReader, ReloadPolicy, Searcher};

use crate::commit_payload::CommitPayload;
use crate::days::{self, Day};
use crate::error::StoreError;

/// Indexes kept open between searches: most questions are about today, some about yesterday.
const KEPT_OPEN: usize = 2;

/// Blocks of stored rows kept decompressed per segment, 16 KB each.
const CACHED_BLOCKS: usize = 8;

/// What readers share.
pub(crate) struct OpenDays {
    root: PathBuf,
    known: Mutex<HashMap<PathBuf, Known>>,
}

/// An index, as of its last commit.
pub(crate) struct OpenDay {
    pub(crate) path: PathBuf,
    pub(crate) schema: Schema,
    pub(crate) searcher: Searcher,
    reader: IndexReader,
    index: Index,
}

/// What is known of a day, valid while its commit is the last one.
#[derive(Clone)]
struct Known {
    commit: FileState,
    /// The earliest and latest `@timestamp`, ns since the Unix epoch: a day that can't hold what is asked for is
    /// not even opened.
    times: Option<(i64, i64)>,
    open: Option<Arc<OpenDay>>,
}

/// Tells whether a file was replaced: inode, size, time of change in s and ns.
type FileState = (u64, u64, i64, i64);

impl OpenDays {
    pub(crate) fn new(root: PathBuf) -> OpenDays {
        OpenDays { root, known: Mutex::default() }
    }

    /// The days that may hold rows from `since` until before `until`, newest first.
    pub(crate) fn holding(
        &self,
        since: Option<i64>,
        until: Option<i64>,
    ) -> Result<Vec<Arc<OpenDay>>, StoreError> {
        // Rows are told apart by milliseconds.
        const MILLISECOND: i64 = 1_000_000;
        let (since, until) = (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
        let (since, until) = (since.saturating_sub(MILLISECOND), until.saturating_add(MILLISECOND));
        let days = days::list(&self.root)?;
        self.known().retain(|path, _| days.iter().any(|day| day.path == *path));
        let mut opened = Vec::new();
        for day in days.iter().rev() {
            match self.open_if(day, |(oldest, newest)| newest >= since && oldest <= until) {
                Ok(open) => opened.extend(open),
                // Retention dropped it meanwhile.
                Err(_) if !day.path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        let mut known = self.known();
        for day in days.iter().rev().skip(KEPT_OPEN) {
            if let Some(known) = known.get_mut(&day.path) {
                known.open = None;
            }
        }
        Ok(opened)
    }

    fn open_if(
        &self,
        day: &Day,
        wanted: impl Fn((i64, i64)) -> bool,
    ) -> Result<Option<Arc<OpenDay>>, StoreError> {
        let commit = file_state(day)?;
        let known = self.known().get(&day.path).cloned();
        let (times, open) = match known {
            Some(known) if known.commit == commit => (known.times, known.open),
            Some(Known { open: Some(open), .. }) => {
                let open = open.reloaded()?;
                (CommitPayload::of(&open.index, &open.path)?.times, Some(Arc::new(open)))
            }
            _ => (CommitPayload::of(&day.open()?, &day.path)?.times, None),
        };
        let wanted = times.is_some_and(wanted);
        let open = match open {
            None if wanted => Some(Arc::new(OpenDay::new(day)?)),
            open => open,
        };
        self.known().insert(day.path.clone(), Known { commit, times, open: open.clone() });
        Ok(open.filter(|_| wanted))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenDay {
    fn new(day: &Day) -> Result<OpenDay, StoreError> {
        let index = day.open()?;
        let reader = index
            .reader_builder()
            // tantivy would poll the file otherwise, twice a second.
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(CACHED_BLOCKS)
            .try_into()
            .map_err(StoreError::index("read", &day.path))?;
        Ok(OpenDay {
            path: day.path.clone(),
            schema: index.schema(),
            searcher: reader.searcher(),
            reader,
            index,
        })
    }

    /// As of the last commit now.
    fn reloaded(&self) -> Result<OpenDay, StoreError> {
        self.reader.reload().map_err(StoreError::index("read", &self.path))?;
        Ok(OpenDay {
            path: self.path.clone(),
            schema: self.schema.clone(),
            searcher: self.reader.searcher(),
            reader: self.reader.clone(),
            index: self.index.clone(),
        })
    }
}

fn file_state(day: &Day) -> Result<FileState, StoreError> {
    let path = day.meta();
    let metadata = fs::metadata(&path).map_err(StoreError::io("read", &path))?;
    Ok((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
