//! A file of an input that is being shipped. Nothing but its name and its content tell what its writers, rotators and
//! editors do with it; so the checkpoint must know it before its rows are sent.

mod changes;

use std::io;
use std::mem;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::checkpoint::{Entry, FileId};
use crate::file_position::WINDOW;
use crate::sources::source_file::SourceFile;
use crate::sources::tail::{Filled, Position, Tail};
use crate::throttle::throttled;

/// A last line may lack its end for so long before that is worth a word.
const UNFINISHED: Duration = Duration::from_secs(3);

/// A longer header of a CSV file isn't kept in the checkpoint, in bytes.
const MAX_HEADER: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct InputFile {
    pub(crate) base: SourceFile,
    id: FileId,
    /// The name it was first found under.
    found: PathBuf,
    /// How much of the content the checkpoint knows it by, in bytes; `None` while the generation isn't in it.
    recorded: Option<u64>,
    /// When it was found shorter than what was read of it, until that is decided.
    doubted: Option<Instant>,
    /// It was told that its last line has no end.
    told: bool,
    /// Its name was found at the last look: it needs not be looked for again before it is let go.
    named: bool,
    /// What it was before it was emptied, until it shows what comes: it may be compressed in place.
    emptied: Option<Position>,
    /// When its name was first found gone.
    gone: Option<Instant>,
}

impl InputFile {
    pub(crate) fn new(tail: Tail, id: FileId, found: PathBuf) -> InputFile {
        InputFile {
            base: SourceFile::new(tail),
            id,
            found,
            recorded: None,
            doubted: None,
            told: false,
            named: false,
            emptied: None,
            gone: None,
        }
    }

    /// What tells the file, while it is of use, from all others.
    pub(crate) fn id(&self) -> Option<FileId> {
        (!self.base.over).then_some(self.id)
    }

    pub(crate) fn is_file(&self, other: &FileId) -> bool {
        self.id().as_ref() == Some(other)
    }

    /// Appends rows to the batch, up to `limit` bytes of it. Says whether the file turned out to hold other content
    /// than what was read of it.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize) -> io::Result<bool> {
        match self.base.fill(batch, limit)? {
            Filled::More => {}
            Filled::End => {
                if self.base.is_rest_due() {
                    self.base.dirty = self.base.tail.fill(batch, usize::MAX, true)? == Filled::More;
                }
            }
            Filled::Rewritten => return Ok(true),
        }
        self.doubted = None;
        Ok(false)
    }

    /// Whether the checkpoint must be written before anything more is sent: after a crash it has to tell whether the
    /// file still holds what was sent under its generation. Enough of the content has to be in it, once.
    pub(crate) fn needs_recording(&self) -> bool {
        self.recorded.is_none_or(|recorded| recorded < WINDOW && recorded < self.base.tail.read.offset)
    }

    /// What the checkpoint keeps of it.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let (id, tail) = (self.id()?, &self.base.tail);
        let (path, generation) = (tail.path.clone(), tail.generation.to_string());
        let found = (self.found != path).then(|| self.found.clone());
        let (delivered, sent) = (tail.acknowledged, tail.evidence());
        Some(Entry { path, id, generation, delivered, sent, found, missing: None, header: self.header() })
    }

    /// The header of a CSV file, as far as it is kept for other content.
    fn header(&self) -> Vec<String> {
        let header = self.base.tail.header();
        let is_kept = header.iter().map(String::len).sum::<usize>() <= MAX_HEADER;
        if is_kept { header.to_vec() } else { Vec::new() }
    }

    /// To be called when the checkpoint is written, with what it says of the file. Meanwhile the file may have become
    /// another one.
    pub(crate) fn entry_written(&mut self, written: &Entry) {
        if (self.id, &**self.base.generation()) == (written.id, &*written.generation) {
            self.recorded = Some(written.sent.offset);
        }
    }

    /// Whether the file can be let go: its name is gone, and what it held is delivered. It is waited for as long as
    /// `linger` says: it may still be written to.
    pub(crate) fn is_over(&mut self, linger: Duration) -> io::Result<bool> {
        if self.base.over {
            return Ok(true);
        }
        let gone = !mem::take(&mut self.named) && self.base.tail.is_gone()?;
        self.gone = gone.then(|| self.gone.unwrap_or_else(Instant::now));
        let Some(since) = self.gone else { return Ok(false) };
        // It may be about to be found under another name, too.
        if since.max(self.base.changed).elapsed() < linger {
            return Ok(false);
        }
        if let Some(why) = &self.base.tail.stuck {
            let path = self.base.tail.path.display();
            throttled!(Error, format!("gone: {why}"), "{path}: is gone and was not shipped: {why}");
            return Ok(true);
        }
        self.base.is_delivered_to_its_end()
    }

    /// What is worth knowing of it, though it is no fault.
    pub(crate) fn note(&self) -> Option<String> {
        let notes: Vec<String> = self.base.tail.holes.note().into_iter().chain(self.unfinished()).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// What is to be said of the rest of the file that is no whole row, if it has been there for a while.
    fn unfinished(&self) -> Option<String> {
        let file = &self.base;
        let rest = file.tail.known_size.saturating_sub(file.tail.read.offset);
        let waits = rest > 0 && !file.dirty && !file.over && file.changed.elapsed() > UNFINISHED;
        (waits && file.trouble().is_none()).then(|| {
            format!("its last {rest} bytes are no whole row: they are shipped with the line end, or once it is gone")
        })
    }

    /// Says the same, once.
    pub(crate) fn tell_unfinished(&mut self) {
        if let Some(why) = self.unfinished().filter(|_| !self.told) {
            self.told = true;
            throttled!(Info, "unfinished", "{}: {why}", self.base.tail.path.display());
        }
    }
}
