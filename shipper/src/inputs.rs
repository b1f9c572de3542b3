//! Finding foreign files, and telling them apart whatever a rotator does.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, mem};

use glob::PatternError;
use kumon_schema::{Common, Kind};

use crate::batch::StreamName;
use crate::checkpoint::{Entry, FileId};
use crate::content::Content;
use crate::copies::{self, Copy, may_hold};
use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin as RowOrigin};
use crate::known::Known;
use crate::listing::Listing;
use crate::mark::Mark;
use crate::opening::{Opener, Waiting, open, raise_limit};
use crate::options::{Format, Input, Options};
use crate::pattern::PathPattern;
use crate::source::{Origin, Source};
use crate::tail::Tail;
use crate::throttle::throttled;

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
    /// Generations of files that are gone since the last run.
    pub(crate) gone: Vec<Arc<str>>,
    /// Files and folders that can't be read now, with the reason.
    unreadable: BTreeMap<PathBuf, String>,
    opener: Opener,
    /// Files that wait until others are gone, as of the last look.
    waiting: Waiting,
    /// Files that hold nothing but what stands in a known one (with its generation): a rotator is copying.
    held: Vec<(PathBuf, FileId, Arc<str>)>,
}

impl Inputs {
    pub(crate) fn new(
        options: &Options,
        remembered: Vec<Entry>,
        positions: Option<HashMap<Arc<str>, u64>>,
    ) -> Inputs {
        if !options.inputs.is_empty() {
            raise_limit();
        }
        Inputs {
            inputs: options.inputs.clone().into(),
            namespace: options.namespace.clone(),
            common: options.common.clone(),
            remembered,
            positions,
            gone: Vec::new(),
            unreadable: BTreeMap::new(),
            opener: Opener::default(),
            waiting: Waiting::default(),
            held: Vec::new(),
        }
    }

    /// The first pattern that is none.
    pub(crate) fn bad_pattern(inputs: &[Input]) -> Option<(&str, PatternError)> {
        let mut patterns = inputs.iter().flat_map(|input| &input.paths);
        patterns.find_map(|pattern| Some((pattern.as_str(), PathPattern::new(pattern).err()?)))
    }

    /// What lies there under the inputs' names.
    pub(crate) fn list(&self) -> Listing {
        Listing::of(&self.inputs)
    }

    /// Takes note of files that were renamed. Answers those that are new.
    pub(crate) fn discover(&mut self, known: &mut [Source], listing: Listing) -> Vec<Source> {
        let (mut known, mut strangers) = (Known::new(known), Vec::new());
        let mut unreadable = listing.unreadable;
        let inputs = self.inputs.clone();
        let waited = mem::take(&mut self.waiting).is_full();
        for (input, path, id) in listing.files {
            let input = &inputs[input];
            if self.waiting.is_full() && !known.has_file(&id) {
                self.waiting.add(&path, id);
                continue;
            }
            match self.find(input, &path, &id, &mut known) {
                Ok(true) => {}
                Ok(false) => strangers.push((input, path, id)),
                Err(e) if self.waiting.takes(&path, id, &e) => {}
                Err(e) => _ = unreadable.insert(path, format!("can't be opened: {e}")),
            }
        }
        let unclear = self.find_renamed(&mut known);
        self.held.clear();
        for (input, path, id) in strangers {
            if self.waiting.is_full() {
                self.waiting.add(&path, id);
            } else if let Err(e) = self.admit(input, &path, &mut known)
                && !self.waiting.takes(&path, id, &e)
            {
                unreadable.insert(path, format!("can't be read: {e}"));
            }
        }
        self.find_copies(&mut known);
        self.remembered.extend(unclear);
        for (path, why) in unreadable.iter().filter(|(path, why)| self.unreadable.get(*path) != Some(why)) {
            throttled!(
                Error,
                format!("unreadable: {why}"),
                "{}: {why}; it must be readable for the user that ships, and is tried again",
                path.display()
            );
        }
        self.note_waiting(waited, &mut unreadable);
        self.unreadable = unreadable;
        // What stands in them now is what a copy of them will be known by.
        let mut found = known.into_found();
        found.iter_mut().for_each(|source| _ = source.look(None));
        found
    }

    /// Names the files that wait all at once, and says it once.
    fn note_waiting(&mut self, waited: bool, unreadable: &mut BTreeMap<PathBuf, String>) {
        let Some((path, why)) = self.waiting.trouble() else {
            if waited {
                log::info!("all files that match are open again");
            }
            return;
        };
        if !waited {
            log::error!("{}: {why}", path.display());
        }
        unreadable.insert(path, why);
    }

    /// Whether the file needs no further thought: known by now or from the last run, or gone.
    fn find(&mut self, input: &Input, path: &Path, id: &FileId, known: &mut Known<'_>) -> io::Result<bool> {
        if let Some(source) = known.file(id) {
            if source.tail.path != path && source.tail.is_gone()? {
                source.tail.path = path.to_owned();
            }
            return Ok(true);
        }
        // Named by the open file: the name may have been given to another one since.
        let file = match open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
            opened => opened?,
        };
        let id = FileId::of(&file.metadata()?);
        let Some((entry, content)) = self.recognise(file, path, &id)? else { return Ok(false) };
        if let Some(source) = self.go_on(input, path, content, id, &entry)? {
            known.push(source);
        }
        Ok(true)
    }

    /// For a file that is unknown by its inode: it may hold what is known of another one.
    fn admit(&mut self, input: &Input, path: &Path, known: &mut Known<'_>) -> io::Result<()> {
        let file = open(path)?;
        let id = FileId::of(&file.metadata()?);
        if known.has_file(&id) {
            return Ok(());
        }
        let Some(mut content) = self.opener.content(file, None)? else { return Ok(()) };
        for index in known.candidates(path, &content) {
            let source = known.get(index);
            if source.is_replaced_by(path, &mut content)? {
                let (path, found) = (path.to_owned(), path.to_owned());
                source.move_to(Copy { path, found, id, content })?;
                known.note(index);
                return Ok(());
            }
            if source.is_copied_by(path, &mut content)? {
                self.held.push((path.to_owned(), id, source.generation().clone()));
                return Ok(());
            }
        }
        if let Some(index) = self.position_of_content(path, &mut content)? {
            let entry = self.remembered.swap_remove(index);
            if let Some(source) = self.go_on(input, path, content, id, &entry)? {
                known.push(source);
            }
            return Ok(());
        }
        let mark = (Mark::START, Mark::START);
        known.push(self.source(input, path, content, id, new_generation()?, mark));
        Ok(())
    }

    /// The entry whose file's content this is, under a rotator's name.
    fn position_of_content(&self, path: &Path, content: &mut Content) -> io::Result<Option<usize>> {
        for (index, entry) in self.remembered.iter().enumerate() {
            let is_candidate = entry.sent.offset > 0 && may_hold(content, path, &entry.path);
            if is_candidate && entry.sent.stands_in(content)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Files of the last run that lie in their folder under a name that no pattern matches: rotated while nobody
    /// looked. They are kept under their old name, which is what makes them go away when they are shipped. Answers
    /// the entries of files that can't be read now: they may be again, and must not be taken for new then.
    fn find_renamed(&mut self, known: &mut Known<'_>) -> Vec<Entry> {
        let mut unclear = Vec::new();
        for entry in mem::take(&mut self.remembered) {
            if self.waiting.has(&entry.id) {
                unclear.push(entry);
                continue;
            }
            let inputs = self.inputs.clone();
            let Some(input) = input_of(&inputs, &entry.path) else { continue };
            let renamed = find_sibling(&entry).and_then(|sibling| match sibling {
                Some((id, content)) => self.go_on(input, &entry.path, content, id, &entry),
                None => Ok(None),
            });
            match renamed {
                Ok(Some(source)) => known.push(source),
                Ok(None) => self.remembered.push(entry),
                Err(_) => unclear.push(entry),
            }
        }
        unclear
    }

    /// Files of the last run of which only a copy is left. What was deleted is forgotten; only where the folder can't
    /// be seen, it may come back.
    fn find_copies(&mut self, known: &mut Known<'_>) {
        for entry in mem::take(&mut self.remembered) {
            let inputs = self.inputs.clone();
            let Some(input) = input_of(&inputs, &entry.path) else { continue };
            let source = match copies::find(&entry.path, entry.sent, |id| known.has_file(id)) {
                Ok(Some(copy)) => self.go_on(input, &entry.path, copy.content, copy.id, &entry),
                Ok(None) => Ok(None),
                Err(e) => Err(e),
            };
            match source {
                Ok(Some(source)) => known.push(source),
                // It comes back with its file system.
                Ok(None) if is_unmounted(&entry) => self.remembered.push(entry),
                Ok(None) => {
                    let path = entry.path.display();
                    throttled!(Info, "gone since", "{path}: is gone or rewritten since the last run");
                    self.gone.push(entry.generation.into());
                }
                // It may be seen again: then it must not be taken for new.
                Err(_) => self.remembered.push(entry),
            }
        }
    }

    /// A copy that a rotator made of what was read of a file, before it truncated that.
    pub(crate) fn find_copy(&self, original: &Source, known: &[Source]) -> io::Result<Option<Copy>> {
        let is_known = |id: &FileId| known.iter().any(|source| source.is_foreign_file(id));
        let path = &original.tail.path;
        if let Some(mut copy) = copies::find(path, original.tail.evidence(), is_known)? {
            if input_of(&self.inputs, &copy.found).is_some() {
                copy.path.clone_from(&copy.found);
            }
            return Ok(Some(copy));
        }
        // One that was seen being made may lack what was read between the copying and the truncation.
        for (path, id, _) in self.held.iter().filter(|held| held.2 == *original.generation()) {
            let file = open(path)?;
            if FileId::of(&file.metadata()?) == *id {
                let (path, found) = (path.clone(), path.clone());
                return Ok(Some(Copy { path, found, id: *id, content: Content::of(file, None)? }));
            }
        }
        Ok(None)
    }

    /// Keeps in mind what is known of a file that nobody reads any more.
    pub(crate) fn remember(&mut self, entry: Option<Entry>) {
        self.remembered.extend(entry);
    }

    /// What the last run knew of files that can't be looked for now.
    pub(crate) fn remembered(&self) -> &[Entry] {
        &self.remembered
    }

    /// Files and folders that can't be read, with the reason.
    pub(crate) fn unreadable(&self) -> &BTreeMap<PathBuf, String> {
        &self.unreadable
    }

    fn source(
        &self,
        input: &Input,
        path: &Path,
        content: Content,
        id: FileId,
        generation: Arc<str>,
        (delivered, sent): (Mark, Mark),
    ) -> Source {
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
        let mut tail = Tail::new(path.into(), content, generation, stream.into(), decoder, delivered, true);
        tail.sent = sent.or_behind(delivered);
        Source::new(tail, Origin::Foreign { id, recorded: None })
    }

    /// What the last run says of a file, if it still holds what was sent of it, and its content.
    fn recognise(&mut self, file: File, path: &Path, id: &FileId) -> io::Result<Option<(Entry, Content)>> {
        let is_it = |entry: &Entry| {
            entry.id == *id
                || (entry.path == path && entry.sent.offset > 0 && entry.id.is_same_but_for_device(id))
        };
        let Some(index) = self.remembered.iter().position(is_it) else { return Ok(None) };
        let entry = &self.remembered[index];
        let mut content = Content::of(file, Some(entry.delivered.offset))?;
        if !entry.sent.stands_in(&mut content)? {
            let path = path.display();
            throttled!(Info, "rewritten", "{path}: was rewritten since the last run; its content is new");
            return Ok(None);
        }
        Ok(Some((self.remembered.swap_remove(index), content)))
    }

    /// A source that goes on where the last run ended; `None` where the sink has more of it than it holds.
    fn go_on(
        &self,
        input: &Input,
        path: &Path,
        mut content: Content,
        id: FileId,
        entry: &Entry,
    ) -> io::Result<Option<Source>> {
        let generation: Arc<str> = entry.generation.as_str().into();
        let mark = match &self.positions {
            Some(positions) => Mark::of(&mut content, positions.get(&generation).copied().unwrap_or(0))?,
            None if entry.delivered.stands_in(&mut content)? => Some(entry.delivered),
            // Sent again under the same ids, which the sink recognises.
            None => Some(Mark::START),
        };
        Ok(mark.map(|mark| self.source(input, path, content, id, generation, (mark, entry.sent))))
    }
}

/// The input that a file of this name belongs to.
fn input_of<'a>(inputs: &'a [Input], path: &Path) -> Option<&'a Input> {
    let matches = |pattern: &String| PathPattern::new(pattern).is_ok_and(|pattern| pattern.matches(path));
    inputs.iter().find(|input| input.paths.iter().any(matches))
}

/// The file of an entry under whatever name it has in its folder.
fn find_sibling(entry: &Entry) -> io::Result<Option<(FileId, Content)>> {
    let Some(folder) = entry.path.parent() else { return Ok(None) };
    for sibling in fs::read_dir(folder)? {
        let sibling = sibling?;
        let id = FileId::of(&sibling.metadata()?);
        if id == entry.id {
            let mut content = Content::of(open(&sibling.path())?, Some(entry.delivered.offset))?;
            return Ok(entry.sent.stands_in(&mut content)?.then_some((id, content)));
        }
    }
    Ok(None)
}

/// Whether the file's folder is what is left where a file system is not mounted: empty, and on another device.
fn is_unmounted(entry: &Entry) -> bool {
    let Some(folder) = entry.path.parent() else { return false };
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_none());
    fs::metadata(folder).is_ok_and(|folder| !entry.id.is_on(&folder)) && is_empty()
}

/// 96 random bits: no two contents ever share one.
pub(crate) fn new_generation() -> io::Result<Arc<str>> {
    let (high, low) = (getrandom::u64()?, getrandom::u32()?);
    Ok(format!("{high:016x}{low:08x}").into())
}
