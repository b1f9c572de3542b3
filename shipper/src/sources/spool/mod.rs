//! Finding KuMon's own files.

mod reader;

pub use reader::SpoolReader;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kumon_schema::{Format, Schema, builtin};
use kumon_spool::{Acknowledged, FileName, list, sidecar};

use crate::content::Content;
use crate::decode::{CsvDecoder, Decoder, DocumentDecoder};
use crate::file_position::FilePosition;
use crate::sources::source_file::{Origin, Source};
use crate::sources::tail::Tail;
use crate::stream::StreamName;
use crate::throttle::throttled;

/// After a long outage there may be more files than a process may have open; the oldest go first.
const MAX_OPEN: usize = 256;

/// The spool folder, and how far its files were delivered when the shipper started.
#[derive(Debug)]
pub(crate) struct SpoolFiles {
    root: PathBuf,
    namespace: String,
    acknowledged: Acknowledged,
    reader: SpoolReader,
    /// Files that are delivered, and that others still read: their names and how much they held, in bytes.
    done: HashMap<Arc<str>, (String, u64)>,
    /// Generations of those that went since they were last asked for.
    pub(crate) gone: Vec<Arc<str>>,
    /// The part of it that is about files not opened yet.
    waiting: Acknowledged,
    /// Files that wait until others are done, by generation, and what they held at the last look, in bytes.
    unopened: HashMap<Arc<str>, u64>,
    /// Undelivered bytes of files that are not open.
    lag: u64,
    /// The sink's own positions, by generation, where it keeps some; then they are the truth.
    positions: Option<HashMap<Arc<str>, u64>>,
    /// Files that can't be shipped now, with the reason.
    refused: BTreeMap<PathBuf, String>,
}

impl SpoolFiles {
    /// `acknowledged` is how far its files are delivered.
    pub(crate) fn new(
        root: &Path,
        namespace: &str,
        (reader, acknowledged): (SpoolReader, Acknowledged),
        positions: Option<HashMap<Arc<str>, u64>>,
    ) -> SpoolFiles {
        let (root, namespace) = (root.to_owned(), namespace.to_owned());
        SpoolFiles {
            root,
            namespace,
            waiting: acknowledged.clone(),
            acknowledged,
            reader,
            done: HashMap::new(),
            gone: Vec::new(),
            unopened: HashMap::new(),
            lag: 0,
            positions,
            refused: BTreeMap::new(),
        }
    }

    /// The folders to watch: the spool and each metric's.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path());
        std::iter::once(self.root.clone()).chain(folders).collect()
    }

    /// Files that are not among the `known` ones yet, oldest first, as many as may be open at once.
    pub(crate) fn discover(&mut self, known: &[Source]) -> io::Result<Vec<Source>> {
        let is_moving =
            |source: &&Source| matches!(source.origin, Origin::Spool { .. }) && source.trouble().is_none();
        let most = self.reader.share_of(MAX_OPEN);
        let mut room = most.saturating_sub(known.iter().filter(is_moving).count());
        let known: HashSet<&str> = known.iter().map(|source| &**source.generation()).collect();
        self.lag = 0;
        let mut unopened = HashMap::new();
        let (mut found, mut refused) = (Vec::new(), BTreeMap::new());
        let mut waiting = BTreeMap::new();
        let mut done = HashMap::new();
        for file in list(&self.root)? {
            if let Some((generation, what)) = self.done.remove_entry(file.name.id.as_str()) {
                done.insert(generation, what);
                continue;
            }
            if known.contains(file.name.id.as_str()) {
                continue;
            }
            let name = file.name.to_string();
            match (room > 0).then(|| self.open(&file.name, &file.path)) {
                Some(Ok(Some(source))) => {
                    found.push(source);
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
            self.lag += file.size.saturating_sub(self.delivered(&file.name).unwrap_or(0));
            waiting.extend(self.acknowledged.0.get(&name).map(|offset| (name, *offset)));
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

    /// Whether a file of this generation may still be opened.
    fn is_known(&self, generation: &str) -> bool {
        let is_refused = || {
            let names = self.refused.keys().filter_map(|path| path.file_name()?.to_str());
            names.filter_map(FileName::parse).any(|name| name.id == generation)
        };
        self.unopened.contains_key(generation) || self.done.contains_key(generation) || is_refused()
    }

    /// Generations of which the sink has positions, and that are neither these sources' nor a file's that waits.
    pub(crate) fn orphans(&self, known: &HashSet<&str>) -> Vec<Arc<str>> {
        let positions = self.positions.iter().flat_map(HashMap::keys);
        positions.filter(|it| !known.contains(&***it) && !self.is_known(it)).cloned().collect()
    }

    /// Who else reads the spool.
    pub(crate) fn reader(&self) -> &SpoolReader {
        &self.reader
    }

    /// Takes note of a file that is delivered, and stays for others; it is not opened again.
    pub(crate) fn leave(&mut self, generation: &Arc<str>, name: &FileName, size: u64) {
        self.done.insert(generation.clone(), (name.to_string(), size));
    }

    /// Undelivered bytes of files that are not open, as of the last look.
    pub(crate) fn lag(&self) -> u64 {
        self.lag
    }

    /// How far files are delivered that are not open.
    pub(crate) fn closed(&self) -> Acknowledged {
        let mut closed = self.waiting.clone();
        closed.0.extend(self.done.values().cloned());
        closed
    }

    /// Files that can't be shipped now, with the reason.
    pub(crate) fn refused(&self) -> &BTreeMap<PathBuf, String> {
        &self.refused
    }

    fn open(&self, name: &FileName, path: &Path) -> Result<Option<Source>, String> {
        let schema = self.schema(name)?;
        let open = match kumon_spool::open(path) {
            Ok(open) => open,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("can't be opened: {e}")),
        };
        let stream =
            StreamName { kind: schema.kind, dataset: schema.dataset(), namespace: self.namespace.clone() };
        // A file that a power cut made shorter begins anew; the ids tell what the sink has of it.
        let delivered = self.delivered(name).unwrap_or(0);
        let mut open = Content::from(open);
        let mark = FilePosition::of(&mut open, delivered).map_err(|e| format!("can't be read: {e}"))?;
        let decoder = match name.format {
            Format::Csv => Decoder::Csv(CsvDecoder::own(schema).into()),
            Format::Ndjson => Decoder::Documents(DocumentDecoder),
        };
        let (generation, mark) = (name.id.as_str().into(), mark.unwrap_or(FilePosition::START));
        let tail = Tail::new(path.into(), open, generation, stream.into(), decoder, mark, false);
        Ok(Some(Source::new(tail, Origin::Spool { name: name.clone(), locked: false })))
    }

    /// How far the file was delivered when the shipper started, in bytes.
    fn delivered(&self, name: &FileName) -> Option<u64> {
        match &self.positions {
            Some(positions) => positions.get(name.id.as_str()).copied(),
            None => self.acknowledged.0.get(&name.to_string()).copied(),
        }
    }

    /// The schema the file was written with: this release's, or that of the sidecar an older or newer one left.
    fn schema(&self, name: &FileName) -> Result<Cow<'static, Schema>, String> {
        if let Some(own) = builtin(&name.metric).filter(|own| own.version == name.version) {
            return Ok(Cow::Borrowed(own));
        }
        let path = sidecar(&self.root, &name.metric, name.version);
        let text = kumon_spool::read(&path)
            .map_err(|e| format!("its schema {} can't be read: {e}", path.display()))?;
        Schema::parse(&String::from_utf8_lossy(&text))
            .map(Cow::Owned)
            .map_err(|e| format!("its schema {} is damaged: {e}", path.display()))
    }
}
