//! Finding foreign files, and telling them apart whatever a rotator does.

mod file_index;
pub(crate) mod listing;
pub(crate) mod open;
mod pattern;
mod remembered;
pub(crate) mod rotated;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::{io, mem};

use glob::PatternError;
use kumon_schema::{Common, Kind};

use crate::checkpoint::{Entry, FileId};
use crate::content::Content;
use crate::content::unpack::{Unpacker, is_later, later};
use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin as RowOrigin};
use crate::file_position::FilePosition;
use crate::handle::Message;
use crate::options::{Format, Input, Options};
use crate::sources::inputs::file_index::FileIndex;
use crate::sources::inputs::listing::Listing;
use crate::sources::inputs::open::{Waiting, open, raise_limit};
use crate::sources::inputs::pattern::PathPattern;
use crate::sources::inputs::remembered::{Remembered, find_sibling, is_unmounted};
use crate::sources::inputs::rotated::{Copy, may_hold};
use crate::sources::source_file::{Origin, Source};
use crate::sources::tail::Tail;
use crate::stream::StreamName;
use crate::throttle::throttled;

/// The configured inputs.
#[derive(Debug)]
pub(crate) struct Inputs {
    inputs: Arc<[Input]>,
    namespace: String,
    common: Common,
    /// What is known of files that nobody reads now.
    remembered: Remembered,
    /// The sink's own positions, by generation, where it keeps some; then they are the truth.
    positions: Option<HashMap<Arc<str>, u64>>,
    /// Generations of files that are gone since the last run.
    pub(crate) gone: Vec<Arc<str>>,
    /// Files and folders that can't be read now, with the reason.
    unreadable: BTreeMap<PathBuf, String>,
    /// Patterns that match no file now, with the reason.
    empty: BTreeMap<String, String>,
    pub(crate) unpacker: Arc<Unpacker>,
    /// At the last look some file was still being decompressed: it may be one that is missed.
    is_unpacking: bool,
    /// Files that wait until others are gone, as of the last look.
    waiting: Waiting,
    /// Files that hold nothing but what stands in a known one (with its generation): a rotator is copying.
    held: Vec<(PathBuf, FileId, Arc<str>)>,
    /// Files that took the name of a known one and hold all of it, as of the last look: events that are still on their
    /// way may tell that they were made anew.
    undecided: HashSet<FileId>,
    /// Headers of CSV files whose content went on elsewhere, or was replaced while nothing ran.
    headers: HashMap<FileId, Vec<String>>,
}

impl Inputs {
    pub(crate) fn new(
        options: &Options,
        remembered: Vec<Entry>,
        positions: Option<HashMap<Arc<str>, u64>>,
        messages: Sender<Message>,
    ) -> Inputs {
        if !options.inputs.is_empty() {
            raise_limit();
        }
        let headers = remembered.iter().filter(|entry| !entry.header.is_empty());
        let headers = headers.map(|entry| (entry.id, entry.header.clone())).collect();
        let mut remembered =
            Remembered::new(remembered, |entry| input_of_entry(&options.inputs, entry).is_some());
        let expired = remembered.expire();
        if let Some((count, first)) = remembered.without_input() {
            log::warn!(
                "{}: this and {} other files were shipped and have no input any more; how far is remembered for 30 days",
                first.display(),
                count - 1
            );
        }
        Inputs {
            inputs: options.inputs.clone().into(),
            namespace: options.namespace.clone(),
            common: options.common.clone(),
            remembered,
            positions,
            gone: expired.into_iter().map(|entry| entry.generation.into()).collect(),
            unreadable: BTreeMap::new(),
            empty: BTreeMap::new(),
            unpacker: Unpacker::new(messages),
            is_unpacking: false,
            waiting: Waiting::default(),
            held: Vec::new(),
            undecided: HashSet::new(),
            headers,
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

    /// Takes note of files that were renamed. Answers those that are new. `made` are names under which a file was made
    /// lately, as far as that is known: one that took another's name otherwise was renamed to it.
    pub(crate) fn discover(
        &mut self,
        known: &mut [Source],
        listing: Listing,
        made: &HashSet<PathBuf>,
    ) -> Vec<Source> {
        let (mut known, mut strangers) = (FileIndex::new(known), Vec::new());
        for (pattern, why) in listing.empty.iter().filter(|(pattern, _)| !self.empty.contains_key(*pattern)) {
            throttled!(Warn, format!("{pattern} {why}"), "{pattern}: {why}; it is looked for");
        }
        self.empty = listing.empty;
        let mut unreadable = listing.unreadable;
        let inputs = self.inputs.clone();
        let waited = mem::take(&mut self.waiting).is_full();
        self.is_unpacking = false;
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
                Err(e) if is_later(&e) => self.is_unpacking = true,
                Err(e) => _ = unreadable.insert(path, format!("can't be opened: {e}")),
            }
        }
        let unclear = self.find_renamed(&mut known);
        self.held.clear();
        let before = mem::take(&mut self.undecided);
        for (input, path, id) in strangers {
            if self.waiting.is_full() {
                self.waiting.add(&path, id);
                continue;
            }
            let look = Look { unclear: &unclear, made, before: &before };
            match self.admit(input, &path, &mut known, &look) {
                Ok(()) => {}
                Err(e) if self.waiting.takes(&path, id, &e) => {}
                Err(e) if is_later(&e) => self.is_unpacking = true,
                Err(e) => _ = unreadable.insert(path, format!("can't be read: {e}")),
            }
        }
        self.find_copies(&mut known, &unclear);
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
    fn find(
        &mut self,
        input: &Input,
        path: &Path,
        id: &FileId,
        known: &mut FileIndex<'_>,
    ) -> io::Result<bool> {
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
        let Some((key, content)) = self.recognise(file, path, &id)? else { return Ok(false) };
        self.go_on_remembered(key, input, path, content, id, known)?;
        Ok(true)
    }

    /// For a file that is unknown by its inode: it may hold what is known of another one.
    fn admit(
        &mut self,
        input: &Input,
        path: &Path,
        known: &mut FileIndex<'_>,
        look: &Look<'_>,
    ) -> io::Result<()> {
        let file = open(path)?;
        let id = FileId::of(&file.metadata()?);
        if known.has_file(&id) {
            return Ok(());
        }
        let mut content = Content::of(file, &self.unpacker, true)?;
        // What has to be decompressed for several answers is in one go.
        let mut is_unknown = false;
        let mut known_yet = |answer: io::Result<bool>| match answer {
            Err(e) if is_later(&e) => {
                is_unknown = true;
                Ok(false)
            }
            answer => answer,
        };
        for index in known.candidates(path, &content) {
            let source = known.get(index);
            let is_same_name = source.tail.path == path;
            if known_yet(source.is_replaced_by(path, &mut content))? {
                if is_same_name && !look.before.contains(&id) {
                    self.undecided.insert(id);
                    return Ok(());
                }
                if is_same_name && look.made.contains(path) {
                    continue;
                }
                let (path, found) = (path.to_owned(), path.to_owned());
                source.move_to(Copy { path, found, id, content })?;
                known.note(index);
                return Ok(());
            }
            if known_yet(source.is_copied_by(path, &mut content))? {
                self.held.push((path.to_owned(), id, source.generation().clone()));
                return Ok(());
            }
        }
        let entry = self.entry_of_content(path, &id, &mut content, look);
        if is_unknown {
            return Err(later());
        }
        if let Some(key) = entry? {
            return self.go_on_remembered(key, input, path, content, id, known);
        }
        let mark = (FilePosition::START, FilePosition::START);
        let mut source = self.source(input, (path, path), content, id, new_generation()?, mark);
        if let Some(header) = self.headers.remove(&id) {
            source.tail.know_header(header);
        }
        known.push(source);
        Ok(())
    }

    /// The entry whose file's content this is, under a rotator's name or in a file that took its name.
    fn entry_of_content(
        &self,
        path: &Path,
        id: &FileId,
        content: &mut Content,
        look: &Look<'_>,
    ) -> io::Result<Option<u64>> {
        let mut is_unknown = false;
        for (key, entry) in self.remembered.unfinished().filter(|(key, _)| !look.unclear.contains(key)) {
            let is_candidate = match path == entry.path {
                true => !look.made.contains(path) && !entry.id.is_reused_by(id, content.file()),
                false => may_hold(content, path, &entry.path),
            };
            if is_candidate && entry.sent.offset > 0 {
                match entry.sent.stands_in(content) {
                    Ok(true) => return Ok(Some(key)),
                    Ok(false) => {}
                    Err(e) if is_later(&e) => is_unknown = true,
                    Err(e) => return Err(e),
                }
            }
        }
        if is_unknown { Err(later()) } else { Ok(None) }
    }

    /// Files of the last run that lie in their folder under a name that no pattern matches: rotated while nobody
    /// looked. They are kept under their old name, which is what makes them go away when they are shipped. Answers
    /// the entries of files that can't be read now: they may be again, and must not be taken for new then.
    fn find_renamed(&mut self, known: &mut FileIndex<'_>) -> HashSet<u64> {
        let (inputs, mut unclear) = (self.inputs.clone(), HashSet::new());
        for key in self.remembered.wanted() {
            let Some(entry) = self.remembered.get(key) else { continue };
            let Some(input) = input_of_entry(&inputs, entry) else { continue };
            if self.waiting.has(&entry.id) {
                unclear.insert(key);
                continue;
            }
            let renamed = find_sibling(entry, &self.unpacker).and_then(|sibling| match sibling {
                Some((id, content)) => self.go_on(input, &entry.path, content, id, entry),
                None => Ok(None),
            });
            match renamed {
                Ok(Some(source)) => {
                    known.push(source);
                    self.remembered.take(key);
                }
                Ok(None) => {}
                Err(_) => _ = unclear.insert(key),
            }
        }
        unclear
    }

    /// Files of the last run of which only a copy is left. What was deleted is forgotten; only where the folder can't
    /// be seen, it may come back.
    fn find_copies(&mut self, known: &mut FileIndex<'_>, unclear: &HashSet<u64>) {
        let inputs = self.inputs.clone();
        for key in self.remembered.wanted().into_iter().filter(|key| !unclear.contains(key)) {
            let Some(entry) = self.remembered.get(key) else { continue };
            let Some(input) = input_of_entry(&inputs, entry) else { continue };
            let source = match rotated::find(&entry.path, entry.sent, |id| known.has_file(id), &self.unpacker)
            {
                Ok(Some(copy)) => self.go_on(input, &entry.path, copy.content, copy.id, entry),
                Ok(None) => Ok(None),
                Err(e) => Err(e),
            };
            match source {
                Ok(Some(source)) => {
                    known.push(source);
                    self.remembered.take(key);
                }
                Ok(None) if !is_unmounted(entry) && !self.is_unpacking => {
                    let path = entry.path.display();
                    throttled!(Info, "gone since", "{path}: is gone or rewritten since the last run");
                    let forgotten = self.remembered.take(key);
                    self.gone.extend(forgotten.map(|entry| entry.generation.into()));
                }
                // It comes back with its file system, or may be seen again: then it must not be taken for new.
                Ok(None) | Err(_) => self.remembered.miss(key),
            }
        }
    }

    /// A copy that a rotator made of what was read of a file, before it truncated that.
    pub(crate) fn find_copy(&self, original: &Source, known: &[Source]) -> io::Result<Option<Copy>> {
        let is_known = |id: &FileId| known.iter().any(|source| source.is_foreign_file(id));
        let path = &original.tail.path;
        if let Some(mut copy) = rotated::find(path, original.tail.evidence(), is_known, &self.unpacker)? {
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
                let content = Content::of(file, &self.unpacker, false)?;
                return Ok(Some(Copy { path, found, id: *id, content }));
            }
        }
        Ok(None)
    }

    /// Keeps in mind the header of a CSV file whose content goes on in another one: what comes in its place may have
    /// none. In the checkpoint, too, from the moment on when that knows the file's content by the other one.
    pub(crate) fn remember_header(&mut self, source: &Source) -> io::Result<()> {
        let Some(entry) = source.entry() else { return Ok(()) };
        if entry.header.is_empty() {
            // Or it is too long for the checkpoint.
            self.headers.insert(entry.id, source.tail.header().to_vec());
            return Ok(());
        }
        let generation = new_generation()?.to_string();
        self.remembered.want(Entry {
            generation,
            delivered: FilePosition::START,
            sent: FilePosition::START,
            ..entry
        });
        Ok(())
    }

    /// Keeps in mind what is known of a file that the next run has to look for.
    pub(crate) fn remember(&mut self, entry: Option<Entry>) {
        entry.into_iter().for_each(|entry| self.remembered.want(entry));
    }

    /// Keeps in mind what is known of a file that was read to its end and is out of sight; answers what is forgotten
    /// for it.
    pub(crate) fn keep(&mut self, entry: Entry) -> Vec<Arc<str>> {
        self.remembered.keep(entry);
        self.remembered.expire().into_iter().map(|entry| entry.generation.into()).collect()
    }

    /// What is known of files that nobody reads now.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = &Entry> {
        self.remembered.iter()
    }

    /// What is worth knowing, though it is no fault: of patterns, and of files that no input has any more.
    pub(crate) fn notes(&self) -> impl Iterator<Item = (String, String)> {
        let left = self.files_without_input().map(|(count, first)| {
            let others = match count {
                1 => String::new(),
                _ => format!(", as {} other files have none", count - 1),
            };
            (first.display().to_string(), format!("has no input any more{others}; remembered for 30 days"))
        });
        self.empty.clone().into_iter().chain(left)
    }

    /// How many files were shipped that no input has any more, and the first of them.
    pub(crate) fn files_without_input(&self) -> Option<(usize, &Path)> {
        self.remembered.without_input()
    }

    /// Whether the next look tells more of files that this one found.
    pub(crate) fn is_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// Files and folders that can't be read, with the reason.
    pub(crate) fn unreadable(&self) -> &BTreeMap<PathBuf, String> {
        &self.unreadable
    }

    /// A source of the file that is at `path` and was first found at `found`.
    fn source(
        &self,
        input: &Input,
        (path, found): (&Path, &Path),
        content: Content,
        id: FileId,
        generation: Arc<str>,
        (delivered, sent): (FilePosition, FilePosition),
    ) -> Source {
        let origin = RowOrigin::new(&self.common, &found.to_string_lossy());
        let (timestamp_field, times) = (input.timestamp_field.clone(), input.times.clone());
        let decoder = match input.format {
            Format::Csv => {
                let decoder = CsvDecoder::foreign(input.schema.clone(), origin, timestamp_field, times);
                Decoder::Csv(decoder.with(input.dialect, input.max_record).into())
            }
            Format::Ndjson => {
                let decoder = NdjsonDecoder::new(origin, timestamp_field, times);
                Decoder::Ndjson(decoder.with(input.max_record))
            }
        };
        let decoder = decoder.of_encoding(input.encoding);
        let (dataset, namespace) = (input.dataset.clone(), self.namespace.clone());
        let stream = StreamName { kind: Kind::Event, dataset, namespace };
        let mut tail = Tail::new(path.into(), content, generation, stream.into(), decoder, delivered, true);
        tail.sent = sent.or_behind(delivered);
        Source::new(tail, Origin::Foreign { id, found: found.to_owned(), recorded: None })
    }

    /// What the last run says of a file, if it still holds what was sent of it, and its content.
    fn recognise(&mut self, file: File, path: &Path, id: &FileId) -> io::Result<Option<(u64, Content)>> {
        let Some(key) = self.remembered.of_file(path, id) else { return Ok(None) };
        let Some(entry) = self.remembered.get(key) else { return Ok(None) };
        let mut content = Content::of(file, &self.unpacker, true)?;
        if !entry.sent.stands_in(&mut content)? {
            if !self.remembered.is_wanted(key) {
                let forgotten = self.remembered.take(key);
                self.gone.extend(forgotten.map(|entry| entry.generation.into()));
            }
            let path = path.display();
            throttled!(Info, "rewritten", "{path}: was rewritten since the last run; its content is new");
            return Ok(None);
        }
        Ok(Some((key, content)))
    }

    /// Goes on in a file that is remembered by that key. It stays so where that isn't possible yet.
    fn go_on_remembered(
        &mut self,
        key: u64,
        input: &Input,
        path: &Path,
        content: Content,
        id: FileId,
        known: &mut FileIndex<'_>,
    ) -> io::Result<()> {
        let Some(entry) = self.remembered.get(key) else { return Ok(()) };
        let source = self.go_on(input, path, content, id, entry)?;
        self.remembered.take(key);
        source.into_iter().for_each(|source| known.push(source));
        Ok(())
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
            Some(positions) => {
                FilePosition::of(&mut content, positions.get(&generation).copied().unwrap_or(0))?
            }
            None if entry.delivered.stands_in(&mut content)? => Some(entry.delivered),
            // Sent again under the same ids, which the sink recognises.
            None => Some(FilePosition::START),
        };
        // Renamed to what belongs to another input, it goes on as what it was.
        let input = input_of(&self.inputs, entry.found()).unwrap_or(input);
        let source =
            |mark| self.source(input, (path, entry.found()), content, id, generation, (mark, entry.sent));
        Ok(mark.map(source).map(|mut source| {
            source.tail.know_header(entry.header.clone());
            source
        }))
    }
}

/// What is known during one look.
struct Look<'a> {
    /// Entries of files that can't be read now.
    unclear: &'a HashSet<u64>,
    /// Names under which files were made.
    made: &'a HashSet<PathBuf>,
    /// Files that were undecided at the last look.
    before: &'a HashSet<FileId>,
}

/// The input that has the file of an entry.
fn input_of_entry<'a>(inputs: &'a [Input], entry: &Entry) -> Option<&'a Input> {
    input_of(inputs, entry.found()).or_else(|| input_of(inputs, &entry.path))
}

/// The input that a file of this name belongs to.
fn input_of<'a>(inputs: &'a [Input], path: &Path) -> Option<&'a Input> {
    let matches = |pattern: &String| PathPattern::new(pattern).is_ok_and(|pattern| pattern.matches(path));
    inputs.iter().find(|input| input.paths.iter().any(matches))
}

/// 96 random bits: no two contents ever share one.
pub(crate) fn new_generation() -> io::Result<Arc<str>> {
    let (high, low) = (getrandom::u64()?, getrandom::u32()?);
    Ok(format!("{high:016x}{low:08x}").into())
}
