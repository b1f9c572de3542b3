//! Other people's files. They are found by the inputs' patterns, and told apart by their inodes and by what was read of
//! them; the checkpoint remembers how far each is delivered. Nothing is ever done to them.

mod file;
mod file_index;
mod finder;
mod listing;
mod open;
mod opener;
mod pattern;
mod remembered;
mod rotated;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use self::file::InputFile;
use self::finder::Finder;
use self::listing::Listing;
use super::source::{Folders, SinkPositions, Source};
use super::source_file::SourceFile;
use crate::batch::Batch;
use crate::checkpoint::Entry;
use crate::checkpoint_writer::Positions;
use crate::handle::Message;
use crate::options::Options;

pub(crate) use self::pattern::bad_pattern;

/// So long a look waits for files that are decompressed: most are small.
const PATIENCE: Duration = Duration::from_millis(50);
/// A file whose name is gone (deleted, or renamed to what no pattern matches) may still be written to by who has it
/// open.
const LINGER: Duration = Duration::from_secs(60);
/// It is waited for so many times longer while it may be one that is decompressed.
const LINGER_LONGER: u32 = 10;

/// The files of the inputs.
#[derive(Debug)]
pub(crate) struct Inputs {
    files: Vec<InputFile>,
    finder: Finder,
    /// Generations of content that is gone, until that is asked for.
    gone: Vec<Arc<str>>,
    /// A file is to be looked for again under the name it was known by.
    unlisted: bool,
    /// How long a file whose name is gone is waited for.
    pub(crate) linger: Duration,
    /// Set for the last round: then a deleted file can't be waited for, nobody would find it again.
    pub(crate) stopping: bool,
    /// Set while the checkpoint can't be written: files that must be in it first are left alone.
    pub(crate) hold: bool,
}

impl Source for Inputs {
    fn discover(&mut self) -> Folders {
        self.finder.opener.unpacker.wait_for(PATIENCE);
        let mut listing = Listing::of(&self.finder.opener.inputs);
        for index in 0..self.files.len() {
            if self.files[index].look(&listing) {
                self.renew(index);
            } else {
                self.files[index].tell_unfinished();
            }
        }
        self.unlisted = false;
        let folders = mem::take(&mut listing.folders);
        let found = self.finder.discover(&mut self.files, listing);
        self.files.extend(found);
        self.gone.append(&mut self.finder.gone);
        folders
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

    fn is_held(&self, index: usize) -> bool {
        self.hold && self.files[index].needs_recording()
    }

    fn fill(&mut self, index: usize, batch: &mut Batch, limit: usize) {
        let (file, before) = (&mut self.files[index], batch.size());
        let filled = file.fill(batch, limit);
        self.gone.extend(file.forget_emptied());
        batch.is_foreign |= batch.size() > before;
        match filled {
            Ok(false) => {}
            Ok(true) => self.renew(index),
            Err(e) => file.base.fail(&e),
        }
    }

    /// Closes those that are gone and delivered.
    fn let_go(&mut self) {
        let longer = if self.is_unpacking() { LINGER_LONGER } else { 1 };
        let (linger, stopping) = (self.linger * longer, self.stopping);
        let (finder, gone) = (&mut self.finder, &mut self.gone);
        self.files.retain_mut(|it| {
            let linger = if stopping && it.base.is_deleted() { Duration::ZERO } else { linger };
            match it.is_over(linger) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(e) => {
                    it.base.tell_kept(&e);
                    return true;
                }
            }
            match it.entry() {
                // It may just be turning into a compressed file, which the next start finds.
                Some(entry) if stopping => finder.remembered.want(entry),
                // Renamed, or hidden by what was mounted over it: it may come back.
                Some(entry) if !it.base.is_deleted() => gone.extend(finder.keep(entry)),
                _ => gone.push(it.base.generation().clone()),
            }
            false
        });
    }

    fn generations(&self) -> Vec<Arc<str>> {
        let open = self.files.iter().map(|it| it.base.generation().clone());
        open.chain(self.finder.remembered.iter().map(|entry| entry.generation.as_str().into())).collect()
    }

    fn take_gone(&mut self) -> Vec<Arc<str>> {
        mem::take(&mut self.gone)
    }

    fn has_more_files(&self) -> bool {
        self.unlisted || self.finder.is_undecided() || self.are_in_doubt()
    }

    fn note_positions(&self, positions: &mut Positions) {
        positions.files.extend(self.files.iter().filter_map(InputFile::entry));
        positions.files.extend(self.finder.remembered.iter().cloned());
    }

    fn positions_written(&mut self, written: &Positions) {
        let entries = written.files.iter().map(|entry| (entry.generation.as_str(), entry));
        let entries: HashMap<&str, &Entry> = entries.collect();
        for file in &mut self.files {
            if let Some(entry) = entries.get(&**file.base.generation()) {
                file.entry_written(entry);
            }
        }
    }

    fn unreadable(&self) -> &BTreeMap<PathBuf, String> {
        &self.finder.unreadable
    }

    fn note(&self, index: usize) -> Option<String> {
        self.files[index].note()
    }
}

impl Inputs {
    /// `remembered` is how far files were delivered as of the last run.
    pub(crate) fn new(
        options: &Options,
        remembered: Vec<Entry>,
        positions: Option<SinkPositions>,
        messages: Sender<Message>,
    ) -> Inputs {
        Inputs {
            files: Vec::new(),
            finder: Finder::new(options, remembered, positions, messages),
            gone: Vec::new(),
            unlisted: false,
            linger: LINGER,
            stopping: false,
            hold: false,
        }
    }

    /// For a file that holds other content than what was read of it. A rotator may have copied that: then it is read
    /// on there, and the file itself is found anew.
    fn renew(&mut self, index: usize) {
        // A rotator uses the names of its copies again, too: what is overwritten is nobody's file any more.
        for other in 0..self.files.len() {
            if other != index && self.files[other].is_overwritten() {
                self.replace(other);
            }
        }
        self.replace(index);
    }

    fn replace(&mut self, index: usize) {
        if let Err(e) = self.try_replace(index) {
            self.files[index].base.fail(&e);
        }
    }

    fn try_replace(&mut self, index: usize) -> io::Result<()> {
        if self.files[index].stands()? {
            return Ok(());
        }
        let copy = self.finder.find_copy(&self.files[index], &self.files)?;
        let file = &mut self.files[index];
        if let Some(copy) = copy {
            self.finder.remember_header(file)?;
            file.move_to(copy)?;
            self.unlisted = true;
        } else if file.is_overwritten() {
            file.give_up();
        } else if !file.base.tail.content.is_plain() {
            // It may hold what is known of another one: found anew, it is asked for that.
            file.give_up();
            self.unlisted = true;
        } else if !file.is_being_rewritten()? {
            self.gone.extend(file.start_anew()?);
        }
        Ok(())
    }

    /// Notes which names files got, and whether they were made under them, rather than renamed to them.
    pub(crate) fn named(&mut self, names: HashMap<PathBuf, bool>) {
        self.finder.named(names);
    }

    /// Whether files are being decompressed, which are known only then.
    pub(crate) fn is_unpacking(&self) -> bool {
        self.finder.opener.unpacker.is_busy()
    }

    /// Whether it is not decided yet of some whether they hold other content.
    pub(crate) fn are_in_doubt(&self) -> bool {
        self.files.iter().any(InputFile::is_in_doubt)
    }

    /// Whether the checkpoint must be written before what was read may be sent.
    pub(crate) fn need_recording(&self) -> bool {
        self.files.iter().any(|it| it.base.tail.read != it.base.tail.delivered && it.needs_recording())
    }

    /// How many files were shipped that no input has any more, and the first of them.
    pub(crate) fn files_without_input(&self) -> Option<(usize, &Path)> {
        self.finder.remembered.without_input()
    }

    /// What is worth knowing, though it is no fault, of patterns and of files that no input has any more.
    pub(crate) fn notes(&self) -> impl Iterator<Item = (String, String)> {
        self.finder.notes()
    }
}
