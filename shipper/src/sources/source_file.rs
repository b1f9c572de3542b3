//! A file that is being shipped; where it comes from decides how its end and its identity are told.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kumon_spool::{FileName, is_being_written, lock_for_reading, release_reading};

use crate::batch::Batch;
use crate::checkpoint::{Entry, FileId};
use crate::content::Content;
use crate::content::unpack::is_later;
use crate::file_position::{FilePosition, WINDOW};
use crate::sources::SpoolReader;
use crate::sources::inputs::listing::{Seen, State};
use crate::sources::inputs::new_generation;
use crate::sources::inputs::open::open;
use crate::sources::inputs::rotated::{Copy, is_named_after, may_hold};
use crate::sources::tail::{Filled, Position, Tail};
use crate::throttle::throttled;

/// A last line may lack its end for so long before that is worth a word.
const UNFINISHED: Duration = Duration::from_secs(3);

/// A file that was truncated is waited for so long: `cp` writes the same content once more, and more of it.
const REWRITING: Duration = Duration::from_millis(250);

/// A longer header of a CSV file isn't kept in the checkpoint, in bytes.
const MAX_HEADER: usize = 16 << 10;

/// A file being shipped.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tail: Tail,
    pub(crate) origin: Origin,
    /// There may be something to read.
    pub(crate) dirty: bool,
    /// Why it could not be read; the next scan tries again.
    pub(crate) failed: Option<String>,
    /// It is being decompressed: the next scan tries again.
    pub(crate) waits: bool,
    /// It won't grow any more: what stands behind the last line end is due, too.
    ended: bool,
    /// What it was at the last scan, and when that was found changed.
    looked: Option<State>,
    changed: Instant,
    /// When it was found shorter than what was read of it, until that is decided.
    doubted: Option<Instant>,
    /// It was told that its last line has no end.
    told: bool,
    /// Its name was found at the last scan: it needs not be looked for again before it is let go.
    named: bool,
    /// Nothing of it is left that could be read.
    over: bool,
    /// What it was before it was emptied, until it shows what comes: it may be compressed in place.
    emptied: Option<Position>,
    /// When its name was first found gone.
    gone: Option<Instant>,
}

#[derive(Debug)]
pub(crate) enum Origin {
    Spool {
        name: FileName,
        /// Whether the lock is held that keeps the collector from shedding the file.
        locked: bool,
    },
    Foreign {
        id: FileId,
        /// The name it was first found under.
        found: PathBuf,
        /// How much of the content the checkpoint knows it by, in bytes; `None` while the generation isn't in it.
        recorded: Option<u64>,
    },
}

impl Source {
    pub(crate) fn new(tail: Tail, origin: Origin) -> Source {
        Source {
            tail,
            origin,
            dirty: true,
            failed: None,
            waits: false,
            ended: false,
            looked: None,
            changed: Instant::now(),
            doubted: None,
            told: false,
            named: false,
            over: false,
            emptied: None,
            gone: None,
        }
    }

    pub(crate) fn generation(&self) -> &Arc<str> {
        &self.tail.generation
    }

    /// Whether there is something to read that can be read.
    pub(crate) fn is_ready(&self) -> bool {
        let is_due = || self.tail.holes.due().is_some_and(|due| due <= Instant::now());
        !self.over
            && (self.dirty || is_due())
            && self.tail.stuck.is_none()
            && self.failed.is_none()
            && !self.waits
    }

    /// When it is ready by itself, to look at a hole again.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        self.tail.holes.due().filter(|due| *due > Instant::now())
    }

    /// Whether there is a hole that is passed over in a moment.
    pub(crate) fn waits_for_hole(&self) -> bool {
        self.tail.holes.settles().is_some_and(|settles| settles > Instant::now())
    }

    /// Compares the file, as it was listed or else as it is, with what it was at the last look; says whether it holds
    /// other content than what was read.
    pub(crate) fn look(&mut self, seen: Option<Seen>) -> bool {
        if self.over {
            return false;
        }
        self.named = seen.is_some_and(|seen| seen.is_named);
        let open = |file: &File| file.metadata().and_then(|file| Ok((file.len(), file.modified()?))).ok();
        let now = seen.map(|seen| seen.state).or_else(|| open(self.tail.content.file()));
        self.dirty |= self.failed.take().is_some() | mem::take(&mut self.waits);
        if now == self.looked {
            return false;
        }
        (self.looked, self.changed, self.dirty, self.told) = (now, Instant::now(), true, false);
        self.look_into().unwrap_or_else(|e| {
            if is_later(&e) {
                self.looked = None;
            }
            self.fail(&e);
            false
        })
    }

    fn look_into(&mut self) -> io::Result<bool> {
        let was_plain = self.tail.content.is_plain();
        self.tail.look_again()?;
        let Origin::Foreign { .. } = self.origin else { return Ok(false) };
        self.ended = false;
        let was_unread = self.tail.evidence().offset == 0;
        if self.tail.is_rewritten()? || (was_unread && was_plain != self.tail.content.is_plain()) {
            return Ok(true);
        }
        self.doubted = None;
        if self.tail.stuck.is_some() {
            // Other content may have come that can be read.
            self.tail.unread();
        }
        if self.tail.content.is_plain() {
            self.tail.note_seen()?;
        }
        Ok(false)
    }

    /// What tells a foreign file that is still of use from all others.
    pub(crate) fn foreign_id(&self) -> Option<FileId> {
        match &self.origin {
            Origin::Foreign { id, .. } if !self.over => Some(*id),
            _ => None,
        }
    }

    pub(crate) fn is_foreign_file(&self, other: &FileId) -> bool {
        self.foreign_id().as_ref() == Some(other)
    }

    /// For a file that was found to hold something else: it may have been compressed in place, or only now is what it
    /// is going to be. Says whether it goes on with what was read of it.
    pub(crate) fn stands(&mut self) -> io::Result<bool> {
        self.tail.look_again()?;
        if let Some(emptied) = &self.emptied
            && !self.tail.content.is_plain()
            && emptied.sent.stands_in(&mut self.tail.content)?
        {
            self.emptied.take().into_iter().for_each(|emptied| _ = self.tail.go_back_to(emptied));
            if let Origin::Foreign { recorded, .. } = &mut self.origin {
                *recorded = None;
            }
        }
        let stands = self.tail.evidence().offset > 0 && !self.tail.is_rewritten()?;
        self.dirty |= stands;
        self.doubted.take_if(|_| stands);
        Ok(stands)
    }

    /// Whether a file that no name of an input leads to holds other content by now.
    pub(crate) fn is_overwritten(&mut self) -> bool {
        let is_foreign = matches!(self.origin, Origin::Foreign { .. });
        is_foreign
            && !self.over
            && self.tail.is_gone().unwrap_or(false)
            && self.tail.is_rewritten().unwrap_or(false)
    }

    /// For a file that was overwritten: what it holds now is not its own.
    pub(crate) fn give_up(&mut self) {
        (self.over, self.dirty, self.doubted) = (true, false, None);
    }

    /// Whether the file, whose name is gone, goes on in another one: compressed, copied and deleted, or replaced by one
    /// of the same name.
    pub(crate) fn is_replaced_by(&mut self, path: &Path, content: &mut Content) -> io::Result<bool> {
        let mark = self.tail.evidence();
        if mark.offset == 0 || !self.tail.is_gone()? {
            return Ok(false);
        }
        let size = self.tail.size()?;
        if path == self.tail.path {
            // All of it has to be there: what was not read yet, too.
            return Ok(self.is_deleted()
                && FilePosition::of(content, size)? == FilePosition::of(&mut self.tail.content, size)?
                && mark.stands_in(content)?);
        }
        Ok(may_hold(content, path, &self.tail.path) && content.size()? >= size && mark.stands_in(content)?)
    }

    /// For a file that became another one as its file system tells: on overlayfs one of a lower layer does when it is
    /// first written to. Opens it anew; says whether it is still the same by its content.
    pub(crate) fn follow(&mut self) -> io::Result<bool> {
        let Origin::Foreign { id, recorded, .. } = &mut self.origin else { return Ok(false) };
        let now = FileId::of(&self.tail.content.file().metadata()?);
        if self.over || now == *id || self.tail.is_gone()? {
            return Ok(false);
        }
        let content = self.tail.content.reopened(open(&self.tail.path)?)?;
        if FileId::of(&content.file().metadata()?) != now {
            return Ok(false);
        }
        (*id, *recorded) = (now, None);
        self.tail.content = content;
        Ok(true)
    }

    /// Whether another file, named as a rotator names copies, holds nothing but what stands in this one.
    pub(crate) fn is_copied_by(&mut self, path: &Path, content: &mut Content) -> io::Result<bool> {
        if !is_named_after(path, &self.tail.path) || self.tail.is_gone()? {
            return Ok(false);
        }
        let (copied, own) = (content.size()?, self.tail.size()?);
        let both = copied.min(own);
        Ok((own > 0 || copied == 0)
            && FilePosition::of(content, both)? == FilePosition::of(&mut self.tail.content, both)?)
    }

    /// Goes on in a copy of the file's former content, under the same identity.
    pub(crate) fn move_to(&mut self, copy: Copy) -> io::Result<()> {
        let (path, copy_path) = (self.tail.path.display(), copy.found.display());
        match self.tail.path == copy.found {
            true => throttled!(Info, "replaced", "{path}: was replaced by a file that holds all of it"),
            false => throttled!(Info, "goes on in a copy", "{path}: goes on in its copy {copy_path}"),
        }
        self.tail.move_to(copy.path, copy.content)?;
        if let Origin::Foreign { id, recorded, .. } = &mut self.origin {
            (*id, *recorded) = (copy.id, None);
        }
        (self.dirty, self.ended, self.looked, self.failed) = (true, false, None, None);
        (self.changed, self.named, self.doubted) = (Instant::now(), false, None);
        Ok(())
    }

    /// Appends rows to the batch, up to `limit` bytes of it. Says whether the file turned out to hold other content
    /// than what was read of it.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize) -> io::Result<bool> {
        let mut was_locked = true;
        if let Origin::Spool { locked, .. } = &mut self.origin {
            was_locked = *locked;
            *locked = *locked || lock_for_reading(self.tail.content.file())?;
            if !*locked || self.tail.is_gone()? {
                // Shed by the collector, which has counted its rows: the next scan lets go of it.
                self.dirty = false;
                return Ok(false);
            }
        }
        match self.tail.fill(batch, limit, false)? {
            Filled::More => self.dirty = true,
            Filled::End => {
                self.dirty = false;
                if self.ended && self.tail.stuck.is_none() && self.tail.holes.settles().is_none() {
                    self.fill_rest(batch)?;
                }
                if !was_locked {
                    // There was nothing new: what was acknowledged before is written down already.
                    self.release();
                }
            }
            Filled::Rewritten => return Ok(true),
        }
        self.doubted = None;
        Ok(false)
    }

    pub(crate) fn fail(&mut self, e: &io::Error) {
        if is_later(e) {
            self.waits = true;
            return;
        }
        let path = self.tail.path.display();
        throttled!(Error, format!("read: {e}"), "{path}: can't be read: {e}; it is tried again");
        self.failed = Some(format!("can't be read: {e}"));
    }

    fn fill_rest(&mut self, batch: &mut Batch) -> io::Result<()> {
        match self.origin {
            // A row of KuMon's own without line end was cut by a crash or a full disk.
            Origin::Spool { .. } => self.tail.give_up_rest(batch),
            Origin::Foreign { .. } => {
                self.dirty = self.tail.fill(batch, usize::MAX, true)? == Filled::More;
                Ok(())
            }
        }
    }

    /// Whether a file that holds other content than what was read is shorter than that, and may be about to hold it
    /// again.
    pub(crate) fn is_being_rewritten(&mut self) -> io::Result<bool> {
        if self.tail.size()? >= self.tail.read.or_behind(self.tail.sent).offset {
            // It was shorter when it was looked at, and may hold all of it again by now.
            return self.stands();
        }
        // Looked at again, whatever it is then.
        (self.dirty, self.looked) = (false, None);
        Ok(self.doubted.get_or_insert_with(Instant::now).elapsed() < REWRITING)
    }

    /// Whether that is not decided yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubted.is_some()
    }

    /// For other content than what was read; answers the generations that are no more.
    pub(crate) fn start_anew(&mut self) -> io::Result<Vec<Arc<str>>> {
        let path = self.tail.path.display();
        throttled!(Info, "rewritten", "{path}: was truncated or rewritten; its content is new");
        let former = self.tail.start_anew(new_generation()?);
        let mut gone = Vec::new();
        let former = match (former.sent.offset, self.tail.size()?) {
            (0, _) => Some(former),
            (_, 0) => self.emptied.replace(former),
            _ => {
                gone.extend(self.emptied.take().map(|emptied| emptied.generation));
                Some(former)
            }
        };
        gone.extend(former.map(|former| former.generation));
        (self.dirty, self.ended, self.looked, self.doubted) = (true, false, None, None);
        if let Origin::Foreign { recorded, .. } = &mut self.origin {
            *recorded = None;
        }
        Ok(gone)
    }

    /// What stands in a file that was emptied is new: answers the generation that is no more.
    pub(crate) fn forget_emptied(&mut self) -> Option<Arc<str>> {
        let emptied = self.emptied.take_if(|_| self.tail.read.offset > 0)?;
        Some(emptied.generation)
    }

    /// Goes back to what is delivered for good, as the sink says.
    pub(crate) fn rewind(&mut self, acknowledged: u64) {
        self.dirty = true;
        self.tail.rewind(acknowledged);
    }

    /// Whether the checkpoint must be written before anything more is sent: after a crash it has to tell whether the
    /// file still holds what was sent under its generation. Enough of the content has to be in it, once.
    pub(crate) fn needs_recording(&self) -> bool {
        match self.origin {
            Origin::Spool { .. } => false,
            Origin::Foreign { recorded, .. } => {
                recorded.is_none_or(|recorded| recorded < WINDOW && recorded < self.tail.read.offset)
            }
        }
    }

    /// What the checkpoint keeps of it, for a foreign file.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let Origin::Foreign { id, found, .. } = &self.origin else { return None };
        if self.over {
            return None;
        }
        let tail = &self.tail;
        let (path, generation) = (tail.path.clone(), tail.generation.to_string());
        let found = (*found != path).then(|| found.clone());
        let (delivered, sent) = (tail.acknowledged, tail.evidence());
        Some(Entry {
            path,
            id: *id,
            generation,
            delivered,
            sent,
            found,
            missing: None,
            header: self.header(),
        })
    }

    /// The header of a CSV file, as far as it is kept for other content.
    pub(crate) fn header(&self) -> Vec<String> {
        let header = self.tail.header();
        let is_kept = header.iter().map(String::len).sum::<usize>() <= MAX_HEADER;
        if is_kept { header.to_vec() } else { Vec::new() }
    }

    /// To be called when the checkpoint is written, with what it says of the file. Meanwhile the file may have become
    /// another one.
    pub(crate) fn note_recorded(&mut self, written: Option<&Entry>) {
        if let (Origin::Foreign { id, recorded, .. }, Some(written)) = (&mut self.origin, written)
            && (*id, &*self.tail.generation) == (written.id, &*written.generation)
        {
            *recorded = Some(written.sent.offset);
        }
    }

    /// To be called when the acknowledgements are written, with what they say of the file; ends the use of a spool
    /// file's rows, unless more was acknowledged meanwhile.
    pub(crate) fn note_acknowledged(&mut self, written: Option<u64>) {
        if written == Some(self.tail.acknowledged.offset) {
            self.release();
        }
    }

    /// Lets the collector shed a spool file of which no rows are in flight. Its acknowledgement must be written: what
    /// isn't in there counts as lost.
    fn release(&mut self) {
        if let Origin::Spool { locked, .. } = &mut self.origin
            && *locked
            && self.tail.read == self.tail.acknowledged
            && let Err(e) = release_reading(self.tail.content.file()).map(|()| *locked = false)
        {
            let path = self.tail.path.display();
            throttled!(Warn, format!("release: {e}"), "{path}: its read lock can't be released: {e}");
        }
    }

    /// Whether the file can be let go; a spool file for which that holds goes as soon as all its readers have it. A foreign file whose name is gone
    /// is waited for as long as `linger` says: it may still be written to.
    pub(crate) fn is_over(&mut self, linger: Duration, reader: &SpoolReader) -> io::Result<bool> {
        if self.over {
            return Ok(true);
        }
        let gone = !mem::take(&mut self.named) && self.tail.is_gone()?;
        self.gone = gone.then(|| self.gone.unwrap_or_else(Instant::now));
        let is_spool = matches!(self.origin, Origin::Spool { .. });
        match self.gone {
            Some(_) if is_spool => return Ok(true),
            // It may be about to be found under another name, too.
            Some(since) if since.max(self.changed).elapsed() < linger => return Ok(false),
            None if !is_spool || is_being_written(self.tail.content.file())? => return Ok(false),
            _ => {}
        }
        if let Some(why) = &self.tail.stuck {
            if gone {
                let path = self.tail.path.display();
                throttled!(Error, format!("gone: {why}"), "{path}: is gone and was not shipped: {why}");
            }
            return Ok(gone);
        }
        // Asked after the writer's lock: what it wrote last is there by now.
        let size = self.tail.size()?;
        if self.tail.acknowledged.offset >= size {
            return if is_spool { self.leave(reader) } else { Ok(true) };
        }
        if !self.ended && self.tail.read.offset < size {
            (self.ended, self.dirty) = (true, true);
        }
        Ok(false)
    }

    /// Leaves a spool file that is delivered, and deletes it where nobody else reads it any more. Says whether it is left:
    /// who leaves one to others must have written down how far it is delivered, as the collector may shed it then.
    fn leave(&self, reader: &SpoolReader) -> io::Result<bool> {
        let generation = self.generation();
        let is_locked = matches!(self.origin, Origin::Spool { locked: true, .. });
        if is_locked && !reader.is_last(generation) {
            return Ok(false);
        }
        if reader.finish(generation) {
            kumon_spool::remove(&self.tail.path)?;
            reader.forget(generation);
        }
        Ok(true)
    }

    /// Whether no name leads to the file any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.tail.content.file().metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Bytes that stood in the file when it was last looked at and are not delivered for good.
    pub(crate) fn lag(&self) -> u64 {
        self.tail.known_size.max(self.tail.read.offset).saturating_sub(self.tail.acknowledged.offset)
    }

    /// What is worth knowing of it, though it is no fault.
    pub(crate) fn note(&self) -> Option<String> {
        let notes: Vec<String> = self.tail.holes.note().into_iter().chain(self.unfinished()).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// What is to be said of the rest of a foreign file that is no whole row, if it has been there for a while.
    fn unfinished(&self) -> Option<String> {
        let rest = self.tail.known_size.saturating_sub(self.tail.read.offset);
        let waits = rest > 0 && !self.dirty && !self.over && self.changed.elapsed() > UNFINISHED;
        let is_foreign = matches!(self.origin, Origin::Foreign { .. });
        (waits && is_foreign && self.trouble().is_none()).then(|| {
            format!("its last {rest} bytes are no whole row: they are shipped with the line end, or once it is gone")
        })
    }

    /// The same, if that was not told yet.
    pub(crate) fn is_unfinished_anew(&mut self) -> Option<String> {
        let why = self.unfinished().filter(|_| !self.told)?;
        self.told = true;
        Some(why)
    }

    /// Why it isn't shipped, where that takes a person.
    pub(crate) fn trouble(&self) -> Option<&String> {
        self.tail.stuck.as_ref().or(self.failed.as_ref())
    }
}
