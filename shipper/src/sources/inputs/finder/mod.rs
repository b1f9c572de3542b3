//! Finding foreign files, and telling them apart whatever a rotator does.

mod last_run;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::{io, mem};

use super::file::InputFile;
use super::file_index::FileIndex;
use super::listing::Listing;
use super::open::{Waiting, open, raise_limit};
use super::opener::{Opener, new_generation};
use super::remembered::Remembered;
use super::rotated::{self, Copy};
use crate::checkpoint::{Entry, FileId};
use crate::content::Content;
use crate::content::unpack::{is_later, later};
use crate::file_position::FilePosition;
use crate::handle::Message;
use crate::options::{Input, Options};
use crate::sources::source::SinkPositions;
use crate::throttle::throttled;

/// What tells which files are new, and which go on as what was known of others.
#[derive(Debug)]
pub(crate) struct Finder {
    pub(crate) opener: Opener,
    /// What is known of files that nobody reads now.
    pub(crate) remembered: Remembered,
    /// Generations of files that are gone since the last run.
    pub(crate) gone: Vec<Arc<str>>,
    /// Files and folders that can't be read now, with the reason.
    pub(crate) unreadable: BTreeMap<PathBuf, String>,
    /// Patterns that match no file now, with the reason.
    empty: BTreeMap<String, String>,
    /// At the last look some file was still being decompressed: it may be one that is missed.
    is_unpacking: bool,
    /// Files that wait until others are gone, as of the last look.
    waiting: Waiting,
    /// Names under which files were made since the last look that left nothing undecided.
    made: HashSet<PathBuf>,
    /// Files that hold nothing but what stands in a known one (with its generation): a rotator is copying.
    held: Vec<(PathBuf, FileId, Arc<str>)>,
    /// Files that took the name of a known one and hold all of it, as of the last look: events that are still on their
    /// way may tell that they were made anew.
    undecided: HashSet<FileId>,
    /// Headers of CSV files whose content went on elsewhere, or was replaced while nothing ran.
    headers: HashMap<FileId, Vec<String>>,
}

/// A file that is unknown by its inode: the number of its input, and its name.
type Stranger = (usize, PathBuf, FileId);

/// What is known during one look.
struct Look<'a> {
    /// Entries of files that can't be read now.
    unclear: &'a HashSet<u64>,
    /// Files that were undecided at the last look.
    before: &'a HashSet<FileId>,
}

impl Finder {
    pub(crate) fn new(
        options: &Options,
        remembered: Vec<Entry>,
        positions: Option<SinkPositions>,
        messages: Sender<Message>,
    ) -> Finder {
        if !options.inputs.is_empty() {
            raise_limit();
        }
        let opener = Opener::new(options, positions, messages);
        let headers = remembered.iter().filter(|entry| !entry.header.is_empty());
        let headers = headers.map(|entry| (entry.id, entry.header.clone())).collect();
        let mut remembered = Remembered::new(remembered, |entry| opener.input_of_entry(entry).is_some());
        let expired = remembered.expire();
        if let Some((count, first)) = remembered.without_input() {
            log::warn!(
                "{}: this and {} other files were shipped and have no input any more; how far is remembered for 30 days",
                first.display(),
                count - 1
            );
        }
        Finder {
            opener,
            remembered,
            gone: expired.into_iter().map(|entry| entry.generation.into()).collect(),
            unreadable: BTreeMap::new(),
            empty: BTreeMap::new(),
            is_unpacking: false,
            waiting: Waiting::default(),
            made: HashSet::new(),
            held: Vec::new(),
            undecided: HashSet::new(),
            headers,
        }
    }

    /// Notes which names files got, and whether they were made under them, rather than renamed to them.
    pub(crate) fn named(&mut self, names: HashMap<PathBuf, bool>) {
        for (name, is_made) in names {
            match is_made {
                true => self.made.insert(name),
                false => self.made.remove(&name),
            };
        }
    }

    /// Takes note of files that were renamed. Answers those that are new.
    pub(crate) fn discover(&mut self, known: &mut [InputFile], listing: Listing) -> Vec<InputFile> {
        self.note_empty(listing.empty);
        let unreadable = mem::replace(&mut self.unreadable, listing.unreadable);
        let waited = mem::take(&mut self.waiting).is_full();
        self.is_unpacking = false;
        let mut known = FileIndex::new(known);
        let strangers = self.find_all(listing.files, &mut known);
        let unclear = self.find_renamed(&mut known);
        self.admit_all(strangers, &mut known, &unclear);
        self.find_copies(&mut known, &unclear);
        self.tell_unreadable(&unreadable);
        self.note_waiting(waited);
        if !self.is_undecided() {
            self.made.clear();
        }
        // What stands in them now is what a copy of them will be known by.
        let mut found = known.into_found();
        found.iter_mut().for_each(InputFile::look_first);
        found
    }

    /// Those of the files that are unknown by their inode; the others go on, if they don't already.
    fn find_all(&mut self, files: Vec<Stranger>, known: &mut FileIndex<'_>) -> Vec<Stranger> {
        let (inputs, mut strangers) = (self.opener.inputs.clone(), Vec::new());
        for (input, path, id) in files {
            if self.waiting.is_full() && !known.has_file(&id) {
                self.waiting.add(&path, id);
                continue;
            }
            match self.find(&inputs[input], &path, &id, known) {
                Ok(true) => {}
                Ok(false) => strangers.push((input, path, id)),
                Err(e) => self.fail(path, id, "can't be opened", &e),
            }
        }
        strangers
    }

    fn admit_all(&mut self, strangers: Vec<Stranger>, known: &mut FileIndex<'_>, unclear: &HashSet<u64>) {
        self.held.clear();
        let (inputs, before) = (self.opener.inputs.clone(), mem::take(&mut self.undecided));
        let look = Look { unclear, before: &before };
        for (input, path, id) in strangers {
            if self.waiting.is_full() {
                self.waiting.add(&path, id);
            } else if let Err(e) = self.admit(&inputs[input], &path, known, &look) {
                self.fail(path, id, "can't be read", &e);
            }
        }
    }

    /// Takes note of a file that could not be looked into, as `what` says.
    fn fail(&mut self, path: PathBuf, id: FileId, what: &str, e: &io::Error) {
        if self.waiting.takes(&path, id, e) {
            return;
        }
        match is_later(e) {
            true => self.is_unpacking = true,
            false => _ = self.unreadable.insert(path, format!("{what}: {e}")),
        }
    }

    /// Whether the file needs no further thought: known by now or from the last run, or gone.
    fn find(
        &mut self,
        input: &Input,
        path: &Path,
        id: &FileId,
        known: &mut FileIndex<'_>,
    ) -> io::Result<bool> {
        if let Some(known) = known.file(id) {
            let tail = &mut known.base.tail;
            if tail.path != path && tail.is_gone()? {
                tail.path = path.to_owned();
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
        let mut content = self.opener.content(file)?;
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
            let other = known.get(index);
            let is_same_name = other.base.tail.path == path;
            if known_yet(other.is_replaced_by(path, &mut content))? {
                if is_same_name && !look.before.contains(&id) {
                    self.undecided.insert(id);
                    return Ok(());
                }
                if is_same_name && self.made.contains(path) {
                    continue;
                }
                let (path, found) = (path.to_owned(), path.to_owned());
                other.move_to(Copy { path, found, id, content })?;
                known.note(index);
                return Ok(());
            }
            if known_yet(other.is_copied_by(path, &mut content))? {
                self.held.push((path.to_owned(), id, other.base.generation().clone()));
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
        let mut new = self.opener.begin(input, path, content, id)?;
        if let Some(header) = self.headers.remove(&id) {
            new.base.tail.know_header(header);
        }
        known.push(new);
        Ok(())
    }

    fn note_empty(&mut self, empty: BTreeMap<String, String>) {
        for (pattern, why) in empty.iter().filter(|(pattern, _)| !self.empty.contains_key(*pattern)) {
            throttled!(Warn, format!("{pattern} {why}"), "{pattern}: {why}; it is looked for");
        }
        self.empty = empty;
    }

    /// Names what can't be read, if that is news.
    fn tell_unreadable(&self, before: &BTreeMap<PathBuf, String>) {
        for (path, why) in self.unreadable.iter().filter(|(path, why)| before.get(*path) != Some(why)) {
            throttled!(
                Error,
                format!("unreadable: {why}"),
                "{}: {why}; it must be readable for the user that ships, and is tried again",
                path.display()
            );
        }
    }

    /// Names the files that wait all at once, and says it once.
    fn note_waiting(&mut self, waited: bool) {
        let Some((path, why)) = self.waiting.trouble() else {
            if waited {
                log::info!("all files that match are open again");
            }
            return;
        };
        if !waited {
            log::error!("{}: {why}", path.display());
        }
        self.unreadable.insert(path, why);
    }

    /// Whether the next look tells more of files that this one found.
    pub(crate) fn is_undecided(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// A copy that a rotator made of what was read of a file, before it truncated that.
    pub(crate) fn find_copy(&self, original: &InputFile, known: &[InputFile]) -> io::Result<Option<Copy>> {
        let is_known = |id: &FileId| known.iter().any(|file| file.is_file(id));
        let path = &original.base.tail.path;
        if let Some(mut copy) =
            rotated::find(path, original.base.tail.evidence(), is_known, &self.opener.unpacker)?
        {
            if self.opener.input_of(&copy.found).is_some() {
                copy.path.clone_from(&copy.found);
            }
            return Ok(Some(copy));
        }
        // One that was seen being made may lack what was read between the copying and the truncation.
        for (path, id, _) in self.held.iter().filter(|held| held.2 == *original.base.generation()) {
            let file = open(path)?;
            if FileId::of(&file.metadata()?) == *id {
                let (path, found) = (path.clone(), path.clone());
                let content = Content::of(file, &self.opener.unpacker, false)?;
                return Ok(Some(Copy { path, found, id: *id, content }));
            }
        }
        Ok(None)
    }

    /// Keeps in mind the header of a CSV file whose content goes on in another one: what comes in its place may have
    /// none. In the checkpoint, too, from the moment on when that knows the file's content by the other one.
    pub(crate) fn remember_header(&mut self, file: &InputFile) -> io::Result<()> {
        let Some(entry) = file.entry() else { return Ok(()) };
        if entry.header.is_empty() {
            // Or it is too long for the checkpoint.
            self.headers.insert(entry.id, file.base.tail.header().to_vec());
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

    /// Keeps in mind what is known of a file that was read to its end and is out of sight; answers what is forgotten
    /// for it.
    pub(crate) fn keep(&mut self, entry: Entry) -> Vec<Arc<str>> {
        self.remembered.keep(entry);
        self.remembered.expire().into_iter().map(|entry| entry.generation.into()).collect()
    }

    /// What is worth knowing, though it is no fault: of patterns, and of files that no input has any more.
    pub(crate) fn notes(&self) -> impl Iterator<Item = (String, String)> {
        let left = self.remembered.without_input().map(|(count, first)| {
            let others = match count {
                1 => String::new(),
                _ => format!(", as {} other files have none", count - 1),
            };
            (first.display().to_string(), format!("has no input any more{others}; remembered for 30 days"))
        });
        self.empty.clone().into_iter().chain(left)
    }
}
