//! KuMon's own files, which the collecting side writes. The spool's protocol names them, tells when one is complete,
//! and keeps how far they are delivered; they are deleted once they are.

mod file;
mod opener;
mod reader;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kumon_spool::{Acknowledged, FileName, list};

use self::file::SpoolFile;
use self::opener::Opener;
use super::source::{Folders, Interest, SinkPositions, Source};
use super::source_file::SourceFile;
use crate::batch::Batch;
use crate::checkpoint_writer::Positions;
use crate::throttle::throttled;

pub use self::reader::SpoolReader;

/// After a long outage there may be more files than a process may have open; the oldest go first.
const MAX_OPEN: usize = 256;

/// The files of the spool folder.
#[derive(Debug)]
pub(crate) struct Spool {
    files: Vec<SpoolFile>,
    opener: Opener,
    reader: SpoolReader,
    /// What was acknowledged before of files that are not opened yet.
    waiting: Acknowledged,
    /// Files that are delivered, and that others still read: their names and how much they held, in bytes.
    done: HashMap<Arc<str>, (String, u64)>,
    /// Generations of those that went since they were last asked for.
    gone: Vec<Arc<str>>,
    /// Files that wait until others are done, by generation, and what they held at the last look, in bytes.
    unopened: HashMap<Arc<str>, u64>,
    /// Files that can't be shipped now, with the reason.
    refused: BTreeMap<PathBuf, String>,
    /// Undelivered bytes of files that are not open.
    lag: u64,
    /// Whether the last look could list the files.
    is_listed: bool,
}

impl Source for Spool {
    fn discover(&mut self) -> Folders {
        let found = self.find();
        self.is_listed = found.is_ok();
        match found {
            Ok(found) => self.files.extend(found),
            Err(e) => {
                throttled!(
                    Error,
                    "list spool",
                    "{}: the spool can't be listed: {e}",
                    self.opener.root.display()
                );
            }
        }
        self.files.iter_mut().for_each(SpoolFile::look);
        self.folders()
    }

    fn count(&self) -> usize {
        self.files.len()
    }

    fn file(&self, index: usize) -> &SourceFile {
        &self.files[index].base
    }

    fn file_mut(&mut self, index: usize) -> &mut SourceFile {
        &mut self.files[index].base
    }

    fn fill(&mut self, index: usize, batch: &mut Batch, limit: usize) {
        let file = &mut self.files[index];
        if let Err(e) = file.fill(batch, limit) {
            file.base.fail(&e);
        }
    }

    /// Deletes those that are complete and delivered, or leaves them to who still reads them.
    fn let_go(&mut self) {
        let (reader, done, gone) = (&self.reader, &mut self.done, &mut self.gone);
        self.files.retain_mut(|it| match it.is_over(reader) {
            Ok(true) => {
                let generation = it.base.generation().clone();
                if it.base.is_deleted() {
                    gone.push(generation);
                } else {
                    // It stays for others, and is not opened again.
                    done.insert(generation, (it.name.to_string(), it.base.tail.acknowledged.offset));
                }
                false
            }
            Ok(false) => true,
            Err(e) => {
                it.base.tell_kept(&e);
                true
            }
        });
    }

    fn generations(&self) -> Vec<Arc<str>> {
        let open = self.files.iter().map(|it| it.base.generation());
        let refused = self.refused.keys().filter_map(|path| FileName::parse(path.file_name()?.to_str()?));
        let refused = refused.map(|name| name.id.as_str().into());
        open.chain(self.unopened.keys()).chain(self.done.keys()).cloned().chain(refused).collect()
    }

    fn take_gone(&mut self) -> Vec<Arc<str>> {
        mem::take(&mut self.gone)
    }

    fn has_more_files(&self) -> bool {
        !self.unopened.is_empty()
    }

    fn note_positions(&self, positions: &mut Positions) {
        let acknowledged = &mut positions.acknowledged.0;
        acknowledged.extend(self.waiting.0.clone());
        acknowledged.extend(self.done.values().cloned());
        let open = self.files.iter().map(|it| (it.name.to_string(), it.base.tail.acknowledged.offset));
        acknowledged.extend(open);
    }

    fn positions_written(&mut self, written: &Positions) {
        for file in &mut self.files {
            let written = written.acknowledged.0.get(&file.name.to_string());
            file.acknowledgement_written(written.copied());
        }
    }

    fn unreadable(&self) -> &BTreeMap<PathBuf, String> {
        &self.refused
    }
}

impl Spool {
    /// `acknowledged` is how far its files are delivered.
    pub(crate) fn new(
        root: &Path,
        namespace: &str,
        (reader, acknowledged): (SpoolReader, Acknowledged),
        positions: Option<SinkPositions>,
    ) -> Spool {
        let (root, namespace, waiting) = (root.to_owned(), namespace.to_owned(), acknowledged.clone());
        Spool {
            files: Vec::new(),
            opener: Opener { root, namespace, acknowledged, positions },
            reader,
            waiting,
            done: HashMap::new(),
            gone: Vec::new(),
            unopened: HashMap::new(),
            refused: BTreeMap::new(),
            lag: 0,
            is_listed: false,
        }
    }

    /// The folders to watch: the spool and each metric's.
    fn folders(&self) -> Folders {
        let entries = fs::read_dir(&self.opener.root).into_iter().flatten().flatten();
        let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path());
        std::iter::once(self.opener.root.clone())
            .chain(folders)
            .map(|folder| (folder, Interest::Files))
            .collect()
    }

    /// Files that are not known yet, oldest first, as many as may be open at once.
    fn find(&mut self) -> io::Result<Vec<SpoolFile>> {
        let moving = self.files.iter().filter(|it| it.base.trouble().is_none()).count();
        let mut room = self.reader.share_of(MAX_OPEN).saturating_sub(moving);
        let known: HashSet<&str> = self.files.iter().map(|it| &**it.base.generation()).collect();
        self.lag = 0;
        let mut unopened = HashMap::new();
        let (mut found, mut refused) = (Vec::new(), BTreeMap::new());
        let mut waiting = BTreeMap::new();
        let mut done = HashMap::new();
        for file in list(&self.opener.root)? {
            if let Some((generation, what)) = self.done.remove_entry(file.name.id.as_str()) {
                done.insert(generation, what);
                continue;
            }
            if known.contains(file.name.id.as_str()) {
                continue;
            }
            let name = file.name.to_string();
            match (room > 0).then(|| self.opener.open(&file.name, &file.path)) {
                Some(Ok(Some(opened))) => {
                    found.push(opened);
                    room -= 1;
                    continue;
                }
                Some(Ok(None)) => continue,
                Some(Err(why)) => {
                    if self.refused.get(&file.path) != Some(&why) {
                        let path = file.path.display();
                        throttled!(
                            Error,
                            format!("refused: {why}"),
                            "{path}: {why}; the file is kept and not shipped"
                        );
                    }
                    refused.insert(file.path.clone(), why);
                }
                None => _ = unopened.insert(file.name.id.as_str().into(), file.size),
            }
            self.lag += file.size.saturating_sub(self.opener.delivered(&file.name).unwrap_or(0));
            waiting.extend(self.opener.acknowledged.0.get(&name).map(|offset| (name, *offset)));
        }
        (self.refused, self.unopened) = (refused, unopened);
        self.gone.extend(mem::replace(&mut self.done, done).into_keys().inspect(|it| self.reader.forget(it)));
        self.waiting = Acknowledged(waiting);
        Ok(found)
    }

    /// Files that wait for others to be done: their generations, and how much they hold, in bytes.
    pub(crate) fn unopened(&self) -> &HashMap<Arc<str>, u64> {
        &self.unopened
    }

    /// Who else reads the spool.
    pub(crate) fn reader(&self) -> &SpoolReader {
        &self.reader
    }

    /// Undelivered bytes of files that are not open, as of the last look.
    pub(crate) fn lag(&self) -> u64 {
        self.lag
    }

    /// Whether the last look could list the files.
    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed
    }
}
