//! Learning that files changed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::ModifyKind;
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::handle::Message;

/// Watches folders through inotify; where that fails, the shipper's scans have to be frequent.
#[derive(Debug)]
pub(crate) struct Watcher {
    inner: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
}

impl Watcher {
    pub(crate) fn new(messages: Sender<Message>) -> Watcher {
        let handler = move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            let message = match event.kind {
                _ if event.need_rescan() => Message::Appeared(Vec::new()),
                EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return,
                EventKind::Modify(ModifyKind::Data(_)) => Message::Changed(event.paths),
                EventKind::Remove(_) => Message::Removed(event.paths),
                _ => Message::Appeared(event.paths),
            };
            // The receiver only goes away with the shipper itself.
            let _ = messages.send(message);
        };
        let inner = notify::recommended_watcher(handler)
            .inspect_err(|e| log::warn!("files are polled, because inotify can't be used: {e}"))
            .ok();
        Watcher { inner, watched: HashSet::new() }
    }

    /// Whether every folder asked for is really watched.
    pub(crate) fn works(&self) -> bool {
        self.inner.is_some()
    }

    /// Watches these folders (not their subfolders) from now on. Says whether one is new: what happened in it until
    /// now has to be looked for.
    pub(crate) fn watch(&mut self, folders: &[PathBuf]) -> bool {
        // The kernel forgets a folder that is removed; it may come back.
        self.watched.retain(|folder| folders.contains(folder));
        let mut is_new = false;
        for folder in folders {
            if !self.watched.contains(folder) && self.add(folder) {
                self.watched.insert(folder.clone());
                is_new = true;
            }
        }
        is_new
    }

    fn add(&mut self, folder: &Path) -> bool {
        let Some(inner) = &mut self.inner else { return false };
        match inner.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => return true,
            // Removed meanwhile.
            Err(e) if matches!(e.kind, ErrorKind::PathNotFound) => {}
            Err(e) => {
                log::warn!(
                    "{}: can't be watched ({e}), so files are polled; fs.inotify.max_user_watches may be too low",
                    folder.display()
                );
                self.inner = None;
            }
        }
        false
    }
}
