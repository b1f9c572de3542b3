//! What happened in the folders that are watched.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use notify::event::{CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use crate::sources::source::{Folders, Interest};

/// Above so many changed files a look at all of them is dearer by nothing.
pub(super) const MOST_CHANGED: usize = 10_000;

/// Device and inode: the name of a folder may lead to another one by now, or another file system be mounted there.
pub(super) type FolderId = (u64, u64);

/// The folders that are watched, and what was noticed in them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) watched: HashMap<PathBuf, (FolderId, Interest)>,
    /// One folder may have several names, of which events tell one.
    names: HashMap<FolderId, Vec<PathBuf>>,
    pub(super) noticed: Noticed,
    /// Whether the loop was told that something was noticed, and has not asked what.
    pub(super) told: bool,
}

/// What happened since that was last asked.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    /// Files that were written to, and whether their names went.
    pub(crate) changed: HashMap<PathBuf, bool>,
    /// Names that files got, and whether they were made under them, rather than renamed to them.
    pub(crate) named: HashMap<PathBuf, bool>,
    /// Whether names have to be looked for.
    pub(crate) names: bool,
}

impl State {
    pub(super) fn id_of(&self, folder: &Path) -> Option<FolderId> {
        self.watched.get(folder).map(|(id, _)| *id)
    }

    /// Takes note of a folder; says whether more is worth a look in it than was.
    pub(super) fn note(&mut self, folder: &Path, id: FolderId, interest: &Interest) -> bool {
        let former = self.watched.insert(folder.to_owned(), (id, interest.clone()));
        if former.as_ref().is_none_or(|(former, _)| *former != id) {
            if let Some((former, _)) = &former {
                self.unname(*former, folder);
            }
            self.names.entry(id).or_default().push(folder.to_owned());
        }
        former.is_none_or(|(_, former)| former != *interest)
    }

    pub(super) fn forget(&mut self, folder: &Path) {
        if let Some((id, _)) = self.watched.remove(folder) {
            self.unname(id, folder);
        }
    }

    fn unname(&mut self, id: FolderId, folder: &Path) {
        if let Some(names) = self.names.get_mut(&id) {
            names.retain(|name| name != folder);
            if names.is_empty() {
                self.names.remove(&id);
            }
        }
    }

    /// Forgets the folders that are not among those, and answers them.
    pub(super) fn retain(&mut self, folders: &Folders) -> Vec<PathBuf> {
        let gone = self.watched.keys().filter(|folder| !folders.contains_key(*folder));
        let gone: Vec<PathBuf> = gone.cloned().collect();
        gone.iter().for_each(|folder| self.forget(folder));
        gone
    }

    /// Takes note of an event.
    pub(super) fn handle_event(&mut self, event: &Event, spool: &Path) {
        if event.need_rescan() {
            self.noticed.names = true;
        }
        if matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_))) {
            return;
        }
        for path in &event.paths {
            let is_written = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)));
            if !is_written && self.watched.contains_key(path) {
                // The folder itself: gone or renamed, and its watch with it. It is watched anew where its name leads.
                self.forget(path);
                self.noticed.names = true;
            }
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let Some(id) = self.id_of(folder) else { continue };
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            for folder in self.names.get(&id).into_iter().flatten() {
                if is_hidden && folder.starts_with(spool) {
                    continue;
                }
                let Some((_, interest)) = self.watched.get(folder) else { continue };
                let is_gone = matches!(event.kind, EventKind::Remove(_));
                if *interest == Interest::Files && (is_written || is_gone) {
                    *self.noticed.changed.entry(folder.join(name)).or_default() |= is_gone;
                    continue;
                }
                let is_made = match event.kind {
                    EventKind::Create(CreateKind::File) => Some(true),
                    EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(false),
                    _ => None,
                };
                if let Some(is_made) = is_made
                    && *interest == Interest::Files
                    && self.noticed.named.len() < MOST_CHANGED
                {
                    self.noticed.named.insert(folder.join(name), is_made);
                }
                self.noticed.names |= match interest {
                    Interest::Names(names) => !is_written && names.contains(name),
                    Interest::AnyName | Interest::Files => !is_written,
                };
            }
        }
        if self.noticed.changed.len() > MOST_CHANGED {
            self.noticed.changed.clear();
            self.noticed.names = true;
        }
    }
}
