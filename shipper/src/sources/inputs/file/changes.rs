//! What becomes of a file whose content or name changes: written to, rotated, copied, compressed, truncated, rewritten.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::InputFile;
use crate::checkpoint::FileId;
use crate::content::Content;
use crate::content::unpack::is_later;
use crate::file_position::FilePosition;
use crate::sources::inputs::listing::{Listing, Seen};
use crate::sources::inputs::open::open;
use crate::sources::inputs::opener::new_generation;
use crate::sources::inputs::rotated::{Copy, is_named_after, may_hold};
use crate::throttle::throttled;

/// A file that was truncated is waited for so long: `cp` writes the same content once more, and more of it.
const REWRITING: Duration = Duration::from_millis(250);

impl InputFile {
    /// Compares the file with what it was at the last look; says whether it holds other content than what was read.
    pub(crate) fn look(&mut self, listing: &Listing) -> bool {
        let mut seen = self.seen(listing);
        if seen.is_none() {
            match self.follow() {
                Ok(true) => seen = self.seen(listing),
                Ok(false) => {}
                Err(e) => self.base.fail(&e),
            }
        }
        self.compare(seen)
    }

    /// The same for one that was found just now.
    pub(crate) fn look_first(&mut self) {
        self.compare(None);
    }

    fn seen(&self, listing: &Listing) -> Option<Seen> {
        listing.seen(&self.id()?, &self.base.tail.path)
    }

    /// For a file that became another one as its file system tells: on overlayfs one of a lower layer does when it is
    /// first written to. Opens it anew; says whether it is still the same by its content.
    fn follow(&mut self) -> io::Result<bool> {
        let tail = &mut self.base.tail;
        let now = FileId::of(&tail.content.file().metadata()?);
        if self.base.over || now == self.id || tail.is_gone()? {
            return Ok(false);
        }
        let content = tail.content.reopened(open(&tail.path)?)?;
        if FileId::of(&content.file().metadata()?) != now {
            return Ok(false);
        }
        (self.id, self.recorded) = (now, None);
        tail.content = content;
        Ok(true)
    }

    /// `seen` is the file as it was listed.
    fn compare(&mut self, seen: Option<Seen>) -> bool {
        if self.base.over {
            return false;
        }
        self.named = seen.is_some_and(|seen| seen.is_named);
        if !self.base.has_changed(seen.map(|seen| seen.state)) {
            return false;
        }
        self.told = false;
        self.look_into().unwrap_or_else(|e| {
            if is_later(&e) {
                self.base.forget_look();
            }
            self.base.fail(&e);
            false
        })
    }

    fn look_into(&mut self) -> io::Result<bool> {
        let tail = &mut self.base.tail;
        let was_plain = tail.content.is_plain();
        tail.look_again()?;
        self.base.ended = false;
        let was_unread = tail.evidence().offset == 0;
        if tail.is_rewritten()? || (was_unread && was_plain != tail.content.is_plain()) {
            return Ok(true);
        }
        self.doubted = None;
        if tail.stuck.is_some() {
            // Other content may have come that can be read.
            tail.unread();
        }
        if tail.content.is_plain() {
            tail.note_seen()?;
        }
        Ok(false)
    }

    /// For a file that was found to hold something else: it may have been compressed in place, or only now is what it
    /// is going to be. Says whether it goes on with what was read of it.
    pub(crate) fn stands(&mut self) -> io::Result<bool> {
        let tail = &mut self.base.tail;
        tail.look_again()?;
        if let Some(emptied) = &self.emptied
            && !tail.content.is_plain()
            && emptied.sent.stands_in(&mut tail.content)?
        {
            self.emptied.take().into_iter().for_each(|emptied| _ = tail.go_back_to(emptied));
            self.recorded = None;
        }
        let stands = tail.evidence().offset > 0 && !tail.is_rewritten()?;
        self.base.dirty |= stands;
        self.doubted.take_if(|_| stands);
        Ok(stands)
    }

    /// Whether a file that no name of an input leads to holds other content by now.
    pub(crate) fn is_overwritten(&mut self) -> bool {
        let tail = &mut self.base.tail;
        !self.base.over && tail.is_gone().unwrap_or(false) && tail.is_rewritten().unwrap_or(false)
    }

    /// For a file that was overwritten: what it holds now is not its own.
    pub(crate) fn give_up(&mut self) {
        (self.base.over, self.base.dirty, self.doubted) = (true, false, None);
    }

    /// Whether the file, whose name is gone, goes on in another one: compressed, copied and deleted, or replaced by one
    /// of the same name.
    pub(crate) fn is_replaced_by(&mut self, path: &Path, content: &mut Content) -> io::Result<bool> {
        let tail = &mut self.base.tail;
        let mark = tail.evidence();
        if mark.offset == 0 || !tail.is_gone()? {
            return Ok(false);
        }
        let size = tail.size()?;
        if path == tail.path {
            // All of it has to be there: what was not read yet, too.
            return Ok(self.base.is_deleted()
                && FilePosition::of(content, size)? == FilePosition::of(&mut self.base.tail.content, size)?
                && mark.stands_in(content)?);
        }
        Ok(may_hold(content, path, &tail.path) && content.size()? >= size && mark.stands_in(content)?)
    }

    /// Whether another file, named as a rotator names copies, holds nothing but what stands in this one.
    pub(crate) fn is_copied_by(&mut self, path: &Path, content: &mut Content) -> io::Result<bool> {
        let tail = &mut self.base.tail;
        if !is_named_after(path, &tail.path) || tail.is_gone()? {
            return Ok(false);
        }
        let (copied, own) = (content.size()?, tail.size()?);
        let both = copied.min(own);
        Ok((own > 0 || copied == 0)
            && FilePosition::of(content, both)? == FilePosition::of(&mut tail.content, both)?)
    }

    /// Goes on in a copy of the file's former content, under the same identity.
    pub(crate) fn move_to(&mut self, copy: Copy) -> io::Result<()> {
        let tail = &mut self.base.tail;
        let (path, copy_path) = (tail.path.display(), copy.found.display());
        match tail.path == copy.found {
            true => throttled!(Info, "replaced", "{path}: was replaced by a file that holds all of it"),
            false => throttled!(Info, "goes on in a copy", "{path}: goes on in its copy {copy_path}"),
        }
        tail.move_to(copy.path, copy.content)?;
        (self.id, self.recorded) = (copy.id, None);
        self.base.move_on();
        (self.named, self.doubted) = (false, None);
        Ok(())
    }

    /// Whether a file that holds other content than what was read is shorter than that, and may be about to hold it
    /// again.
    pub(crate) fn is_being_rewritten(&mut self) -> io::Result<bool> {
        let tail = &self.base.tail;
        if tail.size()? >= tail.read.or_behind(tail.sent).offset {
            // It was shorter when it was looked at, and may hold all of it again by now.
            return self.stands();
        }
        // Looked at again, whatever it is then.
        self.base.dirty = false;
        self.base.forget_look();
        Ok(self.doubted.get_or_insert_with(Instant::now).elapsed() < REWRITING)
    }

    /// Whether that is not decided yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubted.is_some()
    }

    /// For other content than what was read; answers the generations that are no more.
    pub(crate) fn start_anew(&mut self) -> io::Result<Vec<Arc<str>>> {
        let tail = &mut self.base.tail;
        let path = tail.path.display();
        throttled!(Info, "rewritten", "{path}: was truncated or rewritten; its content is new");
        let former = tail.start_anew(new_generation()?);
        let mut gone = Vec::new();
        let former = match (former.sent.offset, tail.size()?) {
            (0, _) => Some(former),
            (_, 0) => self.emptied.replace(former),
            _ => {
                gone.extend(self.emptied.take().map(|emptied| emptied.generation));
                Some(former)
            }
        };
        gone.extend(former.map(|former| former.generation));
        self.base.begin_again();
        (self.doubted, self.recorded) = (None, None);
        Ok(gone)
    }

    /// What stands in a file that was emptied is new: answers the generation that is no more.
    pub(crate) fn forget_emptied(&mut self) -> Option<Arc<str>> {
        let emptied = self.emptied.take_if(|_| self.base.tail.read.offset > 0)?;
        Some(emptied.generation)
    }
}
