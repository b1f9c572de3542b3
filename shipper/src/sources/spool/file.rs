//! A file of the spool that is being shipped. Its writer's lock tells when it is complete; while rows of it are in
//! flight, a lock of our own keeps the collector from shedding it.

use std::io;

use kumon_spool::{FileName, is_being_written, lock_for_reading, release_reading};

use super::SpoolReader;
use crate::batch::Batch;
use crate::sources::source_file::SourceFile;
use crate::sources::tail::{Filled, Tail};
use crate::throttle::throttled;

#[derive(Debug)]
pub(crate) struct SpoolFile {
    pub(crate) base: SourceFile,
    pub(crate) name: FileName,
    /// Whether the lock is held that keeps the collector from shedding the file.
    is_locked: bool,
}

impl SpoolFile {
    pub(crate) fn new(tail: Tail, name: FileName) -> SpoolFile {
        SpoolFile { base: SourceFile::new(tail), name, is_locked: false }
    }

    /// Takes note of what was written to it.
    pub(crate) fn look(&mut self) {
        if self.base.has_changed(None)
            && let Err(e) = self.base.tail.look_again()
        {
            self.base.fail(&e);
        }
    }

    /// Appends rows to the batch, up to `limit` bytes of it.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize) -> io::Result<()> {
        let was_locked = self.is_locked;
        self.is_locked = was_locked || lock_for_reading(self.base.tail.content.file())?;
        if !self.is_locked || self.base.tail.is_gone()? {
            // Shed by the collector, which has counted its rows: the next scan lets go of it.
            self.base.dirty = false;
            return Ok(());
        }
        if self.base.fill(batch, limit)? == Filled::End {
            if self.base.is_rest_due() {
                // A row of KuMon's own without line end was cut by a crash or a full disk.
                self.base.tail.give_up_rest(batch)?;
            }
            if !was_locked {
                // There was nothing new: what was acknowledged before is written down already.
                self.release();
            }
        }
        Ok(())
    }

    /// To be called when the acknowledgements are written, with what they say of the file; ends the use of its rows,
    /// unless more was acknowledged meanwhile.
    pub(crate) fn acknowledgement_written(&mut self, written: Option<u64>) {
        if written == Some(self.base.tail.acknowledged.offset) {
            self.release();
        }
    }

    /// Lets the collector shed a file of which no rows are in flight. Its acknowledgement must be written: what isn't in
    /// there counts as lost.
    fn release(&mut self) {
        let tail = &self.base.tail;
        if self.is_locked
            && tail.read == tail.acknowledged
            && let Err(e) = release_reading(tail.content.file()).map(|()| self.is_locked = false)
        {
            let path = tail.path.display();
            throttled!(Warn, format!("release: {e}"), "{path}: its read lock can't be released: {e}");
        }
    }

    /// Whether the file can be let go: it is complete and delivered, or gone. The former is deleted as soon as all its
    /// readers have it.
    pub(crate) fn is_over(&mut self, reader: &SpoolReader) -> io::Result<bool> {
        if self.base.tail.is_gone()? {
            return Ok(true);
        }
        if is_being_written(self.base.tail.content.file())? || self.base.tail.stuck.is_some() {
            return Ok(false);
        }
        // Asked after the writer's lock: what it wrote last is there by now.
        Ok(self.base.is_delivered_to_its_end()? && self.leave(reader)?)
    }

    /// Leaves a file that is delivered, and deletes it where nobody else reads it any more. Says whether it is left: who
    /// leaves one to others must have written down how far it is delivered, as the collector may shed it then.
    fn leave(&self, reader: &SpoolReader) -> io::Result<bool> {
        let generation = self.base.generation();
        if self.is_locked && !reader.is_last(generation) {
            return Ok(false);
        }
        if reader.finish(generation) {
            kumon_spool::remove(&self.base.tail.path)?;
            reader.forget(generation);
        }
        Ok(true)
    }
}
