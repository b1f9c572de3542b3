//! Finding foreign files, and telling them apart whatever a rotator does.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kumon_schema::{Common, Kind};

use crate::batch::StreamName;
use crate::checkpoint::{Entry, fingerprint};
use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin as RowOrigin};
use crate::options::{Format, Input, Options};
use crate::source::{Origin, Source, empty_fingerprint};
use crate::tail::Tail;

/// The configured inputs.
#[derive(Debug)]
pub(crate) struct Inputs {
    inputs: Vec<Input>,
    namespace: String,
    common: Common,
    /// What the last run knew of files that were not found again yet.
    remembered: Vec<Entry>,
    /// The sink's own positions, by generation, where it keeps some; then they are the truth.
    positions: Option<HashMap<Arc<str>, u64>>,
    refused: HashSet<PathBuf>,
}

impl Inputs {
    pub(crate) fn new(
        options: &Options,
        remembered: Vec<Entry>,
        positions: Option<HashMap<Arc<str>, u64>>,
    ) -> Inputs {
        Inputs {
            inputs: options.inputs.clone(),
            namespace: options.namespace.clone(),
            common: options.common.clone(),
            remembered,
            positions,
            refused: HashSet::new(),
        }
    }

    /// The folders in which files may appear.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let paths = self.inputs.iter().flat_map(|input| self.matches(input));
        let mut folders: Vec<PathBuf> = paths.filter_map(|path| path.parent().map(Path::to_owned)).collect();
        for pattern in self.inputs.iter().flat_map(|input| &input.paths) {
            let parent = Path::new(pattern).parent();
            folders.extend(parent.filter(|parent| parent.is_dir()).map(Path::to_owned));
        }
        folders.sort();
        folders.dedup();
        folders
    }

    /// Takes note of files that were renamed, and returns those that are new.
    pub(crate) fn discover(&mut self, known: &mut [Source]) -> Vec<Source> {
        let mut found: Vec<Source> = Vec::new();
        for input in self.inputs.clone() {
            for path in self.matches(&input) {
                let Ok(metadata) = fs::metadata(&path) else { continue };
                let id = (metadata.dev(), metadata.ino());
                let mut all = known.iter_mut().chain(&mut found);
                if let Some(source) = all.find(|source| source.is_foreign_file(id)) {
                    if source.tail.path != path && source.tail.is_gone() {
                        source.tail.path = path;
                    }
                    source.dirty |= source.tail.read != metadata.len();
                    continue;
                }
                match self.open(&input, &path, id) {
                    Ok(source) => found.push(source),
                    Err(e) if self.refused.insert(path.clone()) => {
                        log::error!("{}: can't be opened: {e}; it is tried again", path.display());
                    }
                    Err(_) => {}
                }
            }
        }
        found
    }

    /// What the last run knew of files that are not open: they may come back.
    pub(crate) fn remembered(&self) -> &[Entry] {
        &self.remembered
    }

    fn matches(&self, input: &Input) -> Vec<PathBuf> {
        let patterns = input.paths.iter().filter_map(|pattern| glob::glob(pattern).ok());
        patterns.flatten().flatten().filter(|path| path.is_file()).collect()
    }

    fn open(&mut self, input: &Input, path: &Path, id: (u64, u64)) -> io::Result<Source> {
        let file = File::open(path)?;
        self.refused.remove(path);
        let (generation, offset, print) = self.recognise(&file, id)?;
        let origin = RowOrigin::new(&self.common, &path.to_string_lossy());
        let decoder = match input.format {
            Format::Csv => {
                Decoder::Csv(CsvDecoder::foreign(input.schema.clone(), origin, input.timestamp_field.clone()))
            }
            Format::Ndjson => Decoder::Ndjson(NdjsonDecoder::new(origin, input.timestamp_field.clone())),
        };
        let (dataset, namespace) = (input.dataset.clone(), self.namespace.clone());
        let stream = StreamName { kind: Kind::Event, dataset, namespace };
        let tail = Tail::new(path.into(), file, generation, stream.into(), decoder, offset);
        Ok(Source::new(tail, Origin::Foreign { device: id.0, inode: id.1, fingerprint: print }))
    }

    /// The generation, offset and fingerprint to go on with: the last run's if the inode still holds the content
    /// that was delivered, new ones if the inode was reused.
    fn recognise(&mut self, file: &File, id: (u64, u64)) -> io::Result<(Arc<str>, u64, u32)> {
        let known = self.remembered.iter().position(|entry| (entry.device, entry.inode) == id);
        if let Some(entry) = known.map(|index| self.remembered.swap_remove(index))
            && fingerprint(file, entry.offset)? == Some(entry.fingerprint)
        {
            let generation: Arc<str> = entry.generation.into();
            let offset = match &self.positions {
                Some(positions) => positions.get(&generation).copied().unwrap_or(0),
                None => entry.offset,
            };
            if let Some(fingerprint) = fingerprint(file, offset)? {
                return Ok((generation, offset, fingerprint));
            }
        }
        Ok((new_generation()?, 0, empty_fingerprint()))
    }
}

impl Source {
    fn is_foreign_file(&self, id: (u64, u64)) -> bool {
        matches!(self.origin, Origin::Foreign { device, inode, .. } if (device, inode) == id)
    }

    /// What the checkpoint keeps of it, for a foreign file.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let Origin::Foreign { device, inode, .. } = self.origin else { return None };
        let offset = self.tail.acknowledged;
        // Cut below what is delivered: the next fill finds that, and gives it a new generation.
        let fingerprint = fingerprint(&self.tail.file, offset).ok().flatten()?;
        let (path, generation) = (self.tail.path.clone(), self.tail.generation.to_string());
        Some(Entry { path, device, inode, generation, offset, fingerprint })
    }
}

/// 96 random bits: no two contents ever share one.
pub(crate) fn new_generation() -> io::Result<Arc<str>> {
    let (high, low) = (getrandom::u64()?, getrandom::u32()?);
    Ok(format!("{high:016x}{low:08x}").into())
}
