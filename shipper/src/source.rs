//! The files that are being shipped, and where each comes from.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use kumon_spool::{FileName, is_being_written, lock_for_reading, release_reading};

use crate::batch::Batch;
use crate::checkpoint::fingerprint;
use crate::inputs::new_generation;
use crate::tail::Tail;

/// A foreign file whose name is gone may still be written to for a while.
const LINGER: Duration = Duration::from_secs(10);

/// A file being shipped.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tail: Tail,
    pub(crate) origin: Origin,
    /// There may be something to read.
    pub(crate) dirty: bool,
    /// When it was last found changed.
    pub(crate) changed: Instant,
}

/// Where a file comes from decides how its end and its identity are told.
#[derive(Debug)]
pub(crate) enum Origin {
    Spool {
        name: FileName,
        /// Whether the lock is held that keeps the collector from shedding the file.
        locked: bool,
    },
    Foreign {
        device: u64,
        inode: u64,
        /// Of the content before the tail's `read`.
        fingerprint: u32,
    },
}

impl Source {
    pub(crate) fn new(tail: Tail, origin: Origin) -> Source {
        Source { tail, origin, dirty: true, changed: Instant::now() }
    }

    /// Appends rows to the batch, up to `limit` bytes of it.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize) -> io::Result<()> {
        match &mut self.origin {
            Origin::Spool { locked, .. } => {
                if !*locked {
                    *locked = lock_for_reading(&self.tail.file)?;
                }
                if !*locked || self.tail.file.metadata()?.nlink() == 0 {
                    // Shed by the collector, which has counted its rows: the next scan lets go of it.
                    self.dirty = false;
                    return Ok(());
                }
                self.dirty = self.tail.fill(batch, limit, false)?;
            }
            Origin::Foreign { fingerprint: known, .. } => {
                if fingerprint(&self.tail.file, self.tail.read)? != Some(*known) {
                    log::info!(
                        "{}: was truncated or rewritten; its content is new",
                        self.tail.path.display()
                    );
                    self.tail.start_anew(new_generation()?);
                    *known = empty_fingerprint();
                    // Its new identity has to be durable before anything is sent under it: see Shipper::scan.
                    return Ok(());
                }
                self.dirty = self.tail.fill(batch, limit, false)?;
                *known = fingerprint(&self.tail.file, self.tail.read)?.unwrap_or(*known);
            }
        }
        Ok(())
    }

    /// Appends the rest of a file that will not grow: its rows up to `limit` bytes, then what has no line end.
    pub(crate) fn fill_rest(&mut self, batch: &mut Batch, limit: usize) -> io::Result<()> {
        self.fill(batch, limit)?;
        if self.dirty || self.tail.read >= self.tail.size()? {
            return Ok(());
        }
        match self.origin {
            // A row of KuMon's own without line end was cut by a crash or a full disk.
            Origin::Spool { .. } => self.tail.give_up_rest(batch),
            Origin::Foreign { .. } => self.tail.fill(batch, usize::MAX, true).map(|_| ()),
        }
    }

    /// Goes back to what is delivered for good, as the sink says.
    pub(crate) fn rewind(&mut self, acknowledged: u64) {
        self.tail.acknowledged = acknowledged;
        self.tail.rewind();
        self.dirty = true;
        if let Origin::Foreign { fingerprint: known, .. } = &mut self.origin {
            // A file that can't be read now shows as rewritten at the next fill.
            *known = fingerprint(&self.tail.file, acknowledged).ok().flatten().unwrap_or(*known);
        }
    }

    /// Ends the use of a spool file's rows; to be called when the acknowledgements are written.
    pub(crate) fn release(&mut self) {
        if let Origin::Spool { locked, .. } = &mut self.origin
            && *locked
            && self.tail.read == self.tail.acknowledged
            && let Err(e) = release_reading(&self.tail.file).map(|()| *locked = false)
        {
            log::warn!("{}: its read lock can't be released: {e}", self.tail.path.display());
        }
    }

    /// Bytes that stand in the file and are not delivered for good.
    pub(crate) fn lag(&self) -> u64 {
        self.tail.size().unwrap_or(0).saturating_sub(self.tail.acknowledged)
    }

    pub(crate) fn generation(&self) -> &Arc<str> {
        &self.tail.generation
    }
}

/// Whether a file's time is over.
pub(crate) enum Over {
    No,
    /// It won't grow any more, and not all of it is read: what follows the last line end, for one.
    Rest,
    Yes,
}

impl Source {
    /// Whether the file can be let go; deletes a spool file for which that holds.
    pub(crate) fn is_over(&self) -> io::Result<Over> {
        if self.tail.stuck.is_some() {
            return Ok(Over::No);
        }
        let gone = self.tail.is_gone();
        match &self.origin {
            Origin::Spool { .. } if gone => return Ok(Over::Yes),
            Origin::Spool { .. } if is_being_written(&self.tail.file)? => return Ok(Over::No),
            Origin::Foreign { .. } if !gone || self.changed.elapsed() < LINGER => return Ok(Over::No),
            _ => {}
        }
        // Asked after the writer's lock: what it wrote last is there by now.
        let size = self.tail.size()?;
        if self.tail.acknowledged == size {
            if let Origin::Spool { .. } = self.origin {
                fs::remove_file(&self.tail.path)?;
            }
            return Ok(Over::Yes);
        }
        Ok(if self.tail.read < size { Over::Rest } else { Over::No })
    }
}

/// The fingerprint of nothing, before the first byte.
pub(crate) fn empty_fingerprint() -> u32 {
    crc32fast::hash(&[])
}
