//! What the files of all sources have in common while they are being shipped.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use super::tail::{Filled, Tail};
use crate::batch::Batch;
use crate::content::FileState;
use crate::content::unpack::is_later;
use crate::file_position::FilePosition;
use crate::throttle::throttled;

/// A file that is being shipped: its tail, and whether that is worth reading now.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) tail: Tail,
    /// There may be something to read.
    pub(crate) dirty: bool,
    /// It is being decompressed: the next look tries again.
    pub(crate) waits: bool,
    /// It won't grow any more: what stands behind the last line end is due, too.
    pub(crate) ended: bool,
    /// Nothing of it is left that could be read.
    pub(crate) over: bool,
    /// When it was last found changed.
    pub(crate) changed: Instant,
    /// What it was at the last look.
    looked: Option<FileState>,
    /// Why it could not be read; the next look tries again.
    failed: Option<String>,
}

impl SourceFile {
    pub(crate) fn new(tail: Tail) -> SourceFile {
        SourceFile {
            tail,
            dirty: true,
            waits: false,
            ended: false,
            over: false,
            changed: Instant::now(),
            looked: None,
            failed: None,
        }
    }

    pub(crate) fn generation(&self) -> &Arc<str> {
        &self.tail.generation
    }

    /// Compares the file, as it was listed or else as it is, with what it was at the last look; says whether it changed.
    pub(crate) fn has_changed(&mut self, listed: Option<FileState>) -> bool {
        let open = |file: &File| file.metadata().and_then(|file| Ok((file.len(), file.modified()?))).ok();
        let now = listed.or_else(|| open(self.tail.content.file()));
        self.dirty |= self.failed.take().is_some() | mem::take(&mut self.waits);
        let has_changed = now != self.looked;
        if has_changed {
            (self.looked, self.changed, self.dirty) = (now, Instant::now(), true);
        }
        has_changed
    }

    /// Lets the next look take it for changed.
    pub(crate) fn forget_look(&mut self) {
        self.looked = None;
    }

    /// For new content in the file: all of it is to be read.
    pub(crate) fn begin_again(&mut self) {
        (self.dirty, self.ended, self.looked) = (true, false, None);
    }

    /// For a file that goes on in another one.
    pub(crate) fn move_on(&mut self) {
        self.begin_again();
        (self.changed, self.failed) = (Instant::now(), None);
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

    /// Whether all that can be read of it was read, and the sink has taken that.
    pub(crate) fn is_idle(&self) -> bool {
        let waits_for_hole = || self.tail.holes.settles().is_some_and(|settles| settles > Instant::now());
        !self.is_ready() && !self.waits && !waits_for_hole() && self.tail.delivered == self.tail.read
    }

    /// Appends rows to the batch, up to `limit` bytes of it.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize) -> io::Result<Filled> {
        let filled = self.tail.fill(batch, limit, false)?;
        match filled {
            Filled::More => self.dirty = true,
            Filled::End => self.dirty = false,
            Filled::Rewritten => {}
        }
        Ok(filled)
    }

    /// Whether what stands behind the last line end, where all else was read, is due.
    pub(crate) fn is_rest_due(&self) -> bool {
        self.ended && self.tail.stuck.is_none() && self.tail.holes.settles().is_none()
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

    /// Reads on at a mark that lies before what was read.
    pub(crate) fn go_on_at(&mut self, mark: FilePosition) {
        self.tail.go_on_at(mark);
        self.dirty = true;
    }

    /// Goes back to what is delivered for good, as the sink says.
    pub(crate) fn rewind(&mut self, acknowledged: u64) {
        self.dirty = true;
        self.tail.rewind(acknowledged);
    }

    /// For a file that nobody writes to any more: whether all of it is delivered for good. What is not read yet is due
    /// from now on.
    pub(crate) fn is_delivered_to_its_end(&mut self) -> io::Result<bool> {
        let size = self.tail.size()?;
        if self.tail.acknowledged.offset >= size {
            return Ok(true);
        }
        if !self.ended && self.tail.read.offset < size {
            (self.ended, self.dirty) = (true, true);
        }
        Ok(false)
    }

    /// Says that it should have been let go, and can't be.
    pub(crate) fn tell_kept(&self, e: &io::Error) {
        let path = self.tail.path.display();
        throttled!(Warn, format!("let go: {e}"), "{path}: can't be let go: {e}");
    }

    /// Whether no name leads to the file any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.tail.content.file().metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Bytes that stood in the file when it was last looked at and are not delivered for good.
    pub(crate) fn lag(&self) -> u64 {
        self.tail.known_size.max(self.tail.read.offset).saturating_sub(self.tail.acknowledged.offset)
    }

    /// Why it isn't shipped, where that takes a person.
    pub(crate) fn trouble(&self) -> Option<&String> {
        self.tail.stuck.as_ref().or(self.failed.as_ref())
    }
}
