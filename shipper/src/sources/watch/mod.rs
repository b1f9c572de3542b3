//! Learning that files and folders changed: from inotify, and from the table of mounts.

mod noticed;

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use self::noticed::{FolderId, Noticed, State};
use super::source::Folders;
use crate::handle::Message;

/// Watches folders through inotify; where that fails, the shipper's scans have to be frequent.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    inotify: Option<RecommendedWatcher>,
    /// Written to when the thread that looks at the mounts is to end; none where it can't run.
    end: Option<Arc<OwnedFd>>,
    /// Why not all is watched.
    trouble: Option<(PathBuf, String)>,
}

#[derive(Debug)]
struct Shared {
    /// KuMon's own bookkeeping in there changes with every round.
    spool: PathBuf,
    state: Mutex<State>,
    messages: Sender<Message>,
}

impl Watcher {
    /// A message tells when something happened; there is no second one until that was taken.
    pub(crate) fn new(spool: &Path, messages: Sender<Message>) -> Watcher {
        let shared = Arc::new(Shared { spool: spool.to_owned(), state: Mutex::default(), messages });
        let handler = shared.clone();
        let inotify = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // What it can't read it tells by asking for a look at everything.
            if let Ok(event) = event {
                handler.notice(|state| state.handle_event(&event, &handler.spool));
            }
        });
        let inotify =
            inotify.inspect_err(|e| log::warn!("files are polled, because inotify can't be used: {e}")).ok();
        let end = watch_mounts(shared.clone())
            .inspect_err(|e| log::warn!("what is mounted over a folder is found by looks only: {e}"))
            .ok();
        Watcher { shared, inotify, end, trouble: None }
    }

    /// Whether every folder asked for is really watched.
    pub(crate) fn works(&self) -> bool {
        self.inotify.is_some() && self.trouble.is_none()
    }

    /// The first folder that can't be watched, and what to do.
    pub(crate) fn trouble(&self) -> Option<&(PathBuf, String)> {
        self.trouble.as_ref()
    }

    /// What happened since the last time.
    pub(crate) fn noticed(&self) -> Noticed {
        let mut state = self.shared.state();
        state.told = false;
        mem::take(&mut state.noticed)
    }

    /// Watches these folders (not their subfolders) from now on. Says whether one is new: what happened in it until
    /// now has to be looked for.
    pub(crate) fn watch(&mut self, folders: &Folders) -> bool {
        let Some(inotify) = &mut self.inotify else { return false };
        let gone = self.shared.state().retain(folders);
        // The kernel may have forgotten it with its folder.
        gone.iter().for_each(|folder| _ = inotify.unwatch(folder));
        let (mut is_new, mut trouble) = (false, None);
        for (folder, interest) in folders {
            let Some(id) = identity(folder) else { continue };
            let known = self.shared.state().id_of(folder);
            if known == Some(id) {
                is_new |= self.shared.state().note(folder, id, interest);
                continue;
            }
            // A name that led to another folder: that one's watch has it still.
            _ = inotify.unwatch(folder);
            // Known before the first event can come. Not locked meanwhile: events are taken by the thread that watches.
            self.shared.state().note(folder, id, interest);
            match inotify.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => is_new = true,
                Err(e) => {
                    self.shared.state().forget(folder);
                    if is_limit(&e) {
                        trouble = Some((folder.clone(), e));
                        break;
                    }
                    // Gone meanwhile, or not to be read, which the listing tells.
                    log::debug!("{}: can't be watched: {e}", folder.display());
                }
            }
        }
        self.handle_trouble(trouble);
        is_new
    }

    fn handle_trouble(&mut self, trouble: Option<(PathBuf, notify::Error)>) {
        match &trouble {
            Some((folder, e)) if self.trouble.is_none() => log::warn!(
                "{}: can't be watched ({e}), so files are polled four times a second; raise \
                 fs.inotify.max_user_watches, or let the patterns match fewer folders",
                folder.display()
            ),
            None if self.trouble.is_some() => log::info!("all folders are watched again"),
            _ => {}
        }
        self.trouble = trouble.map(|(folder, e)| {
            let why =
                format!("is polled, because it can't be watched ({e}): raise fs.inotify.max_user_watches");
            (folder, why)
        });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            // A counter that is full has woken the thread already.
            let _ = rustix::io::write(end, &1_u64.to_ne_bytes());
        }
    }
}

/// Whether the kernel has no room for a further watch.
fn is_limit(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::MaxFilesWatch => true,
        ErrorKind::Io(e) => e.kind() == io::ErrorKind::OutOfMemory,
        _ => false,
    }
}

/// Starts the thread that learns of mounts; what it returns ends it when it is written to.
fn watch_mounts(shared: Arc<Shared>) -> io::Result<Arc<OwnedFd>> {
    let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let (mounts, thread_end) = (File::open("/proc/self/mountinfo")?, end.clone());
    let thread = std::thread::Builder::new().name("mounts".to_owned());
    thread.spawn(move || {
        loop {
            let mut fds = [PollFd::new(&thread_end, PollFlags::IN), PollFd::new(&mounts, PollFlags::PRI)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Ok(_) if fds[0].revents().is_empty() => {
                    if shared.is_mounted_over() {
                        shared.notice(|state| state.noticed.names = true);
                    }
                }
                Ok(_) => return,
                Err(e) => {
                    log::error!("the table of mounts can't be watched any more: {e}");
                    return;
                }
            }
        }
    })?;
    Ok(end)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something be noted, and tells the loop once.
    fn notice(&self, note: impl FnOnce(&mut State)) {
        let mut state = self.state();
        note(&mut state);
        let is_news = state.noticed.names || !state.noticed.changed.is_empty();
        if is_news && !mem::replace(&mut state.told, true) {
            // The receiver only goes away with the shipper itself.
            let _ = self.messages.send(Message::Noticed);
        }
    }

    /// Whether the name of a watched folder leads to another one by now.
    fn is_mounted_over(&self) -> bool {
        let state = self.state();
        let folders: Vec<_> = state.watched.iter().map(|(folder, (id, _))| (folder.clone(), *id)).collect();
        drop(state);
        folders.iter().any(|(folder, id)| identity(folder) != Some(*id))
    }
}

fn identity(folder: &Path) -> Option<FolderId> {
    fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::noticed::MOST_CHANGED;
    use super::{Folders, Watcher};
    use crate::handle::Message;
    use crate::sources::source::Interest;

    fn watcher(folder: &Path) -> (Watcher, Receiver<Message>, Folders) {
        let (sender, messages) = channel();
        let mut watcher = Watcher::new(&folder.join("spool"), sender);
        let folders = Folders::from([
            (folder.to_owned(), Interest::Names(BTreeSet::from(["in".into()]))),
            (folder.join("in"), Interest::Files),
        ]);
        assert!(watcher.watch(&folders) && !watcher.watch(&folders) && watcher.works());
        (watcher, messages, folders)
    }

    fn is_told(messages: &Receiver<Message>) -> bool {
        messages.recv_timeout(Duration::from_secs(5)).is_ok()
    }

    #[test]
    fn whatever_happens_while_nobody_asks_makes_one_message_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("in");
        fs::create_dir(&inside).unwrap();
        let (watcher, messages, _) = watcher(folder.path());
        for _ in 0..100 {
            fs::write(inside.join("a"), "a").unwrap();
        }
        assert!(is_told(&messages));
        kumon_testing::wait_for("the change", Duration::from_secs(5), || {
            watcher.shared.state().noticed.changed.contains_key(&inside.join("a"))
        });
        for file in 0..MOST_CHANGED + 10 {
            fs::write(inside.join(format!("{file}")), "").unwrap();
            fs::remove_file(inside.join(format!("{file}"))).unwrap();
            assert!(watcher.shared.state().noticed.changed.len() <= MOST_CHANGED);
        }
        assert!(watcher.noticed().names);
        assert!(messages.try_iter().count() <= 1);
    }

    #[test]
    fn a_folder_is_watched_whatever_happened_to_its_name() {
        type Happening = fn(&Path);
        let happenings: [(&str, Happening); 3] = [
            ("removed and made again", |folder| {
                fs::remove_dir_all(folder).unwrap();
                fs::create_dir(folder).unwrap();
            }),
            ("renamed, and another one made", |folder| {
                fs::rename(folder, folder.with_extension("old")).unwrap();
                fs::create_dir(folder).unwrap();
            }),
            ("replaced by another one", |folder| {
                let other = folder.with_extension("other");
                fs::create_dir(&other).unwrap();
                fs::rename(folder, folder.with_extension("old")).unwrap();
                fs::rename(other, folder).unwrap();
            }),
        ];
        for (what, happening) in happenings {
            let folder = tempfile::tempdir().unwrap();
            let inside = folder.path().join("in");
            fs::create_dir(&inside).unwrap();
            let (mut watcher, messages, folders) = watcher(folder.path());
            happening(&inside);
            assert!(is_told(&messages) && watcher.noticed().names, "{what}");
            assert!(watcher.watch(&folders), "{what}");
            // What is told of the old folder's end, it has been by now.
            while messages.recv_timeout(Duration::from_millis(50)).is_ok() {
                watcher.noticed();
            }
            fs::write(inside.join("a"), "a").unwrap();
            assert!(is_told(&messages), "{what}");
            assert_eq!(watcher.shared.state().watched.len(), 2, "{what}");
        }
    }

    #[test]
    fn names_that_nobody_waits_for_wake_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let (watcher, messages, _) = watcher(folder.path());
        fs::create_dir(folder.path().join("other")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        fs::create_dir(folder.path().join("in/new")).unwrap();
        assert!(is_told(&messages) && watcher.noticed().changed.is_empty());
        assert!(messages.try_recv().is_err());
    }
}
