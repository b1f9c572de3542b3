//! Recognising the files that the last run knew, whatever happened to them meanwhile.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::{Finder, Look};
use crate::checkpoint::FileId;
use crate::content::Content;
use crate::content::unpack::{is_later, later};
use crate::options::Input;
use crate::sources::inputs::file_index::FileIndex;
use crate::sources::inputs::remembered::{find_sibling, is_unmounted};
use crate::sources::inputs::rotated::{self, may_hold};
use crate::throttle::throttled;

impl Finder {
    /// What the last run says of a file, if it still holds what was sent of it, and its content.
    pub(super) fn recognise(
        &mut self,
        file: File,
        path: &Path,
        id: &FileId,
    ) -> io::Result<Option<(u64, Content)>> {
        let Some(key) = self.remembered.of_file(path, id) else { return Ok(None) };
        let Some(entry) = self.remembered.get(key) else { return Ok(None) };
        let mut content = self.opener.content(file)?;
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
    pub(super) fn go_on_remembered(
        &mut self,
        key: u64,
        input: &Input,
        path: &Path,
        content: Content,
        id: FileId,
        known: &mut FileIndex<'_>,
    ) -> io::Result<()> {
        let Some(entry) = self.remembered.get(key) else { return Ok(()) };
        let file = self.opener.go_on(input, path, content, id, entry)?;
        self.remembered.take(key);
        file.into_iter().for_each(|file| known.push(file));
        Ok(())
    }

    /// Files of the last run that lie in their folder under a name that no pattern matches: rotated while nobody
    /// looked. They are kept under their old name, which is what makes them go away when they are shipped. Answers
    /// the entries of files that can't be read now: they may be again, and must not be taken for new then.
    pub(super) fn find_renamed(&mut self, known: &mut FileIndex<'_>) -> HashSet<u64> {
        let mut unclear = HashSet::new();
        for key in self.remembered.wanted() {
            let Some(entry) = self.remembered.get(key) else { continue };
            let Some(input) = self.opener.input_of_entry(entry) else { continue };
            if self.waiting.has(&entry.id) {
                unclear.insert(key);
                continue;
            }
            let renamed = find_sibling(entry, &self.opener.unpacker).and_then(|sibling| match sibling {
                Some((id, content)) => self.opener.go_on(input, &entry.path, content, id, entry),
                None => Ok(None),
            });
            match renamed {
                Ok(Some(file)) => {
                    known.push(file);
                    self.remembered.take(key);
                }
                Ok(None) => {}
                Err(_) => _ = unclear.insert(key),
            }
        }
        unclear
    }

    /// The entry whose file's content this is, under a rotator's name or in a file that took its name.
    pub(super) fn entry_of_content(
        &self,
        path: &Path,
        id: &FileId,
        content: &mut Content,
        look: &Look<'_>,
    ) -> io::Result<Option<u64>> {
        let mut is_unknown = false;
        for (key, entry) in self.remembered.unfinished().filter(|(key, _)| !look.unclear.contains(key)) {
            let is_candidate = match path == entry.path {
                true => !self.made.contains(path) && !entry.id.is_reused_by(id, content.file()),
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

    /// Files of the last run of which only a copy is left. What was deleted is forgotten; only where the folder can't
    /// be seen, it may come back.
    pub(super) fn find_copies(&mut self, known: &mut FileIndex<'_>, unclear: &HashSet<u64>) {
        for key in self.remembered.wanted().into_iter().filter(|key| !unclear.contains(key)) {
            let Some(entry) = self.remembered.get(key) else { continue };
            let Some(input) = self.opener.input_of_entry(entry) else { continue };
            let found = match rotated::find(
                &entry.path,
                entry.sent,
                |id| known.has_file(id),
                &self.opener.unpacker,
            ) {
                Ok(Some(copy)) => self.opener.go_on(input, &entry.path, copy.content, copy.id, entry),
                Ok(None) => Ok(None),
                Err(e) => Err(e),
            };
            match found {
                Ok(Some(file)) => {
                    known.push(file);
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
}
