//! Finding foreign files, and telling them apart whatever a rotator does.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{Pattern, PatternError};
use kumon_schema::{Common, Kind};

use crate::batch::StreamName;
use crate::checkpoint::{Entry, FileId};
use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin as RowOrigin};
use crate::mark::Mark;
use crate::options::{Format, Input, Options};
use crate::source::{Origin, Source};
use crate::tail::Tail;

/// Opens a file that somebody else owns. Whoever may write to its folder can put a link or a pipe there: a pipe must
/// not hold up everything, and a link must not lend the rights of the user that ships (root, perhaps) to who made it.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let (named, opened) = (fs::symlink_metadata(path)?, file.metadata()?);
    if !opened.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if named.is_symlink() && named.uid() != 0 && named.uid() != opened.uid() {
        return Err(io::Error::other(
            "it is a link to a file of another user; name that file in the configuration",
        ));
    }
    Ok(file)
}

/// The configured inputs.
#[derive(Debug)]
pub(crate) struct Inputs {
    inputs: Arc<[Input]>,
    namespace: String,
    common: Common,
    /// What the last run knew of files that were not found again yet.
    remembered: Vec<Entry>,
    /// The sink's own positions, by generation, where it keeps some; then they are the truth.
    positions: Option<HashMap<Arc<str>, u64>>,
    /// Files and folders that can't be read now, with the reason.
    unreadable: BTreeMap<PathBuf, String>,
}

impl Inputs {
    pub(crate) fn new(
        options: &Options,
        remembered: Vec<Entry>,
        positions: Option<HashMap<Arc<str>, u64>>,
    ) -> Inputs {
        Inputs {
            inputs: options.inputs.clone().into(),
            namespace: options.namespace.clone(),
            common: options.common.clone(),
            remembered,
            positions,
            unreadable: BTreeMap::new(),
        }
    }

    /// The first pattern that is none.
    pub(crate) fn bad_pattern(inputs: &[Input]) -> Option<(&str, PatternError)> {
        let mut patterns = inputs.iter().flat_map(|input| &input.paths);
        patterns.find_map(|pattern| Some((pattern.as_str(), Pattern::new(pattern).err()?)))
    }

    /// Takes note of files that were renamed. Answers those that are new, and the folders in which files may appear.
    pub(crate) fn discover(&mut self, known: &mut [Source]) -> (Vec<Source>, Vec<PathBuf>) {
        let (mut found, mut folders) = (Vec::new(), Vec::new());
        let mut unreadable = BTreeMap::new();
        for input in self.inputs.clone().iter() {
            let parents = input.paths.iter().filter_map(|pattern| Path::new(pattern).parent());
            folders.extend(parents.filter(|parent| parent.is_dir()).map(Path::to_owned));
            for path in matches(input, &mut unreadable) {
                folders.extend(path.parent().map(Path::to_owned));
                if let Err(e) = self.find(input, &path, known, &mut found) {
                    unreadable.insert(path, format!("can't be opened: {e}"));
                }
            }
        }
        found.extend(self.find_renamed());
        for (path, why) in unreadable.iter().filter(|(path, why)| self.unreadable.get(*path) != Some(why)) {
            log::error!(
                "{}: {why}; it must be readable for the user that ships, and is tried again",
                path.display()
            );
        }
        self.unreadable = unreadable;
        folders.sort();
        folders.dedup();
        (found, folders)
    }

    fn find(
        &mut self,
        input: &Input,
        path: &Path,
        known: &mut [Source],
        found: &mut Vec<Source>,
    ) -> io::Result<()> {
        let metadata = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            metadata => metadata?,
        };
        if !metadata.is_file() {
            return Ok(());
        }
        let id = FileId::of(&metadata);
        let mut all = known.iter_mut().chain(found.iter_mut());
        if let Some(source) = all.find(|source| source.is_foreign_file(&id)) {
            if source.tail.path != path && source.tail.is_gone()? {
                source.tail.path = path.to_owned();
            }
            return Ok(());
        }
        // Named by the open file: the name may have been given to another one since.
        let file = open(path)?;
        let id = FileId::of(&file.metadata()?);
        let recognised = match self.recognise(&file, path, &id)? {
            Some(recognised) => recognised,
            None => Recognised { generation: new_generation()?, mark: Mark::START, sent: Mark::START },
        };
        found.push(self.source(input, path, file, id, recognised));
        Ok(())
    }

    /// Files of the last run that lie in their folder under a name that no pattern matches: rotated while nobody
    /// looked. They are kept under their old name, which is what makes them go away when they are shipped. What was
    /// deleted is forgotten; only where the folder can't be seen, it may come back.
    fn find_renamed(&mut self) -> Vec<Source> {
        let mut found = Vec::new();
        for entry in std::mem::take(&mut self.remembered) {
            let inputs = self.inputs.clone();
            let input = inputs.iter().find(|input| {
                input
                    .paths
                    .iter()
                    .any(|pattern| Pattern::new(pattern).is_ok_and(|p| p.matches_path(&entry.path)))
            });
            let (Some(input), Some(folder)) = (input, entry.path.parent()) else { continue };
            match find_sibling(folder, &entry) {
                Ok(Some(file)) => {
                    if let Some(recognised) = self.go_on(&entry, &file) {
                        found.push(self.source(input, &entry.path, file, entry.id, recognised));
                    }
                }
                Ok(None) => log::info!("{}: is gone since the last run", entry.path.display()),
                // It may be seen again: then it must not be taken for new.
                Err(_) => self.remembered.push(entry),
            }
        }
        found
    }

    /// What the last run knew of files that can't be looked for now.
    pub(crate) fn remembered(&self) -> &[Entry] {
        &self.remembered
    }

    /// Files and folders that can't be read, with the reason.
    pub(crate) fn unreadable(&self) -> &BTreeMap<PathBuf, String> {
        &self.unreadable
    }

    fn source(&self, input: &Input, path: &Path, file: File, id: FileId, recognised: Recognised) -> Source {
        let origin = RowOrigin::new(&self.common, &path.to_string_lossy());
        let decoder = match input.format {
            Format::Csv => {
                let (schema, timestamp_field) = (input.schema.clone(), input.timestamp_field.clone());
                Decoder::Csv(CsvDecoder::foreign(schema, origin, timestamp_field).into())
            }
            Format::Ndjson => Decoder::Ndjson(NdjsonDecoder::new(origin, input.timestamp_field.clone())),
        };
        let (dataset, namespace) = (input.dataset.clone(), self.namespace.clone());
        let stream = StreamName { kind: Kind::Event, dataset, namespace };
        let tail = Tail::new(
            path.into(),
            file,
            recognised.generation,
            stream.into(),
            decoder,
            recognised.mark,
            true,
        );
        Source::new(tail, Origin::Foreign { id, sent: recognised.sent, recorded: None })
    }

    /// With what to go on, if the last run knew the file and it still holds what was sent of it.
    fn recognise(&mut self, file: &File, path: &Path, id: &FileId) -> io::Result<Option<Recognised>> {
        let is_it = |entry: &Entry| {
            entry.id == *id
                || (entry.path == path && entry.sent.offset > 0 && entry.id.is_same_but_for_device(id))
        };
        let Some(index) = self.remembered.iter().position(is_it) else { return Ok(None) };
        let stands = self.remembered[index].sent.window(file)?.is_some();
        let entry = self.remembered.swap_remove(index);
        if !stands {
            log::info!("{}: was rewritten since the last run; its content is new", path.display());
            return Ok(None);
        }
        Ok(self.go_on(&entry, file))
    }

    fn go_on(&self, entry: &Entry, file: &File) -> Option<Recognised> {
        let generation: Arc<str> = entry.generation.as_str().into();
        let mark = match &self.positions {
            Some(positions) => Mark::of(file, positions.get(&generation).copied().unwrap_or(0)).ok()??,
            None => entry.delivered,
        };
        Some(Recognised { generation, mark, sent: entry.sent })
    }
}

/// What the last run says of a file.
struct Recognised {
    generation: Arc<str>,
    /// Where to go on.
    mark: Mark,
    sent: Mark,
}

/// The paths that match; what can't be looked into is noted.
fn matches(input: &Input, unreadable: &mut BTreeMap<PathBuf, String>) -> Vec<PathBuf> {
    let found = input.paths.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten();
    let mut paths = Vec::new();
    for path in found {
        match path {
            Ok(path) => paths.push(path),
            Err(e) => {
                unreadable.insert(e.path().to_owned(), format!("can't be listed: {}", e.error()));
            }
        }
    }
    paths
}

/// The file of an entry under whatever name it has in the folder.
fn find_sibling(folder: &Path, entry: &Entry) -> io::Result<Option<File>> {
    for sibling in fs::read_dir(folder)? {
        let sibling = sibling?;
        if FileId::of(&sibling.metadata()?) == entry.id {
            let file = File::open(sibling.path())?;
            return Ok(entry.sent.window(&file)?.is_some().then_some(file));
        }
    }
    Ok(None)
}

impl Source {
    fn is_foreign_file(&self, other: &FileId) -> bool {
        matches!(&self.origin, Origin::Foreign { id, .. } if id == other)
    }
}

/// 96 random bits: no two contents ever share one.
pub(crate) fn new_generation() -> io::Result<Arc<str>> {
    let (high, low) = (getrandom::u64()?, getrandom::u32()?);
    Ok(format!("{high:016x}{low:08x}").into())
}
