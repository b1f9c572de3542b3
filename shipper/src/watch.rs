//! Learning that files changed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::shipper::Message;

/// Watches folders through inotify; where that fails, the shipper's scans have to be frequent.
#[derive(Debug)]
pub(crate) struct Watcher {
    inner: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
}

impl Watcher {
    pub(crate) fn new(messages: Sender<Message>) -> Watcher {
        let handler = move |event: notify::Result<Event>| {
            if let Ok(event) = event
                && !matches!(event.kind, EventKind::Access(_))
            {
                // The receiver only goes away with the shipper itself.
                let _ = messages.send(Message::Changed(event.paths));
            }
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

    /// Watches a folder (not its subfolders) from now on.
    pub(crate) fn add(&mut self, folder: &Path) {
        let Some(inner) = &mut self.inner else { return };
        if self.watched.contains(folder) {
            return;
        }
        match inner.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_owned());
            }
            Err(e) => {
                log::warn!(
                    "{}: can't be watched ({e}), so files are polled; fs.inotify.max_user_watches may be too low",
                    folder.display()
                );
                self.inner = None;
            }
        }
    }
}
