//! Learning that files and folders changed: from inotify, and from the table of mounts.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::handle::Message;
use crate::listing::{Folders, Interest};

/// Above so many changed files a look at all of them is dearer by nothing.
const MOST_CHANGED: usize = 10_000;

/// Watches folders through inotify; where that fails, the shipper's scans have to be frequent.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    inotify: Option<Inotify>,
    /// Why not all is watched.
    trouble: Option<(PathBuf, String)>,
}

/// The kernel's side, and the thread that reads from it.
#[derive(Debug)]
struct Inotify {
    queue: Arc<OwnedFd>,
    /// Written to when the thread is to end.
    end: Arc<OwnedFd>,
}

#[derive(Debug)]
struct Shared {
    /// KuMon's own bookkeeping in there changes with every round.
    spool: PathBuf,
    state: Mutex<State>,
    messages: Sender<Message>,
}

#[derive(Debug, Default)]
struct State {
    /// By watch descriptor. One folder may have several names.
    watches: HashMap<i32, Vec<Watched>>,
    noticed: Noticed,
    /// Whether the loop was told that something was noticed, and has not asked what.
    told: bool,
}

#[derive(Debug)]
struct Watched {
    folder: PathBuf,
    interest: Interest,
    /// Device and inode: another file system may be mounted there.
    id: (u64, u64),
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

impl Watcher {
    /// A message tells when something happened; there is no second one until that was taken.
    pub(crate) fn new(spool: &Path, messages: Sender<Message>) -> Watcher {
        let shared = Arc::new(Shared { spool: spool.to_owned(), state: Mutex::default(), messages });
        let inotify = Inotify::start(shared.clone())
            .inspect_err(|e| log::warn!("files are polled, because inotify can't be used: {e}"))
            .ok();
        Watcher { shared, inotify, trouble: None }
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
        let Some(inotify) = &self.inotify else { return false };
        let (mut asked, mut is_new, mut trouble) = (HashMap::new(), false, None);
        for (folder, interest) in folders {
            // Asked each time: the name may lead to another folder by now.
            let mut state = self.shared.state();
            match inotify::add_watch(&inotify.queue, folder, flags(interest)) {
                Ok(watch) => {
                    asked.entry(watch).or_insert_with(Vec::new).push(folder);
                    is_new |= state.note(watch, folder, interest);
                }
                Err(e @ (Errno::NOSPC | Errno::NOMEM)) => {
                    trouble = Some((folder.clone(), io::Error::from(e)));
                    break;
                }
                // Gone meanwhile, or not to be read, which the listing tells.
                Err(e) => log::debug!("{}: can't be watched: {e}", folder.display()),
            }
        }
        self.heed(trouble);
        if self.trouble.is_none() {
            self.forget(&asked);
        }
        is_new
    }

    /// Ends the watches that nobody has asked for.
    fn forget(&self, asked: &HashMap<i32, Vec<&PathBuf>>) {
        let Some(inotify) = &self.inotify else { return };
        self.shared.state().watches.retain(|watch, all| {
            all.retain(|it| asked.get(watch).is_some_and(|folders| folders.contains(&&it.folder)));
            if all.is_empty() {
                // Its folder may be gone, and the watch with it.
                let _ = inotify::remove_watch(&inotify.queue, *watch);
            }
            !all.is_empty()
        });
    }

    fn heed(&mut self, trouble: Option<(PathBuf, io::Error)>) {
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
        if let Some(inotify) = &self.inotify {
            // A counter that is full has woken the thread already.
            let _ = rustix::io::write(&inotify.end, &1_u64.to_ne_bytes());
        }
    }
}

fn flags(interest: &Interest) -> WatchFlags {
    let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
    let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
    match interest {
        Interest::Files => names | own | WatchFlags::MODIFY,
        Interest::AnyName | Interest::Names(_) => names | own,
    }
}

impl Inotify {
    fn start(shared: Arc<Shared>) -> io::Result<Inotify> {
        let queue = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let mounts = File::open("/proc/self/mountinfo").ok();
        let (thread_queue, thread_end) = (queue.clone(), end.clone());
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || {
            if let Err(e) = read(&shared, &thread_queue, &thread_end, mounts.as_ref()) {
                log::error!("inotify can't be read any more ({e}): new files are found by looks only");
            }
        })?;
        Ok(Inotify { queue, end })
    }
}

/// Reads what the kernel tells until it is to end.
fn read(shared: &Shared, queue: &OwnedFd, end: &OwnedFd, mounts: Option<&File>) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    loop {
        let mut fds = vec![PollFd::new(end, PollFlags::IN), PollFd::new(queue, PollFlags::IN)];
        fds.extend(mounts.map(|mounts| PollFd::new(mounts, PollFlags::PRI)));
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return Ok(());
        }
        if ready.get(2) == Some(&true) && shared.is_mounted_over() {
            shared.notice(|state| state.noticed.names = true);
        }
        let mut events = inotify::Reader::new(queue, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    shared.notice(|state| state.heed(event.wd(), event.events(), name, &shared.spool));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
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
        let all = state.watches.values().flatten();
        let folders: Vec<_> = all.map(|watched| (watched.folder.clone(), watched.id)).collect();
        drop(state);
        folders.iter().any(|(folder, id)| identity(folder) != Some(*id))
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()))
}

impl State {
    /// Takes note of a watch; says whether it is a new one.
    fn note(&mut self, watch: i32, folder: &Path, interest: &Interest) -> bool {
        let all = self.watches.entry(watch).or_default();
        if let Some(known) = all.iter_mut().find(|it| it.folder == folder) {
            if known.interest == *interest {
                return false;
            }
            known.interest = interest.clone();
            return true;
        }
        let id = identity(folder).unwrap_or_default();
        all.push(Watched { folder: folder.to_owned(), interest: interest.clone(), id });
        true
    }

    /// Takes note of an event in a watched folder.
    fn heed(&mut self, watch: i32, what: ReadFlags, name: Option<&OsStr>, spool: &Path) {
        if what.contains(ReadFlags::IGNORED) {
            self.watches.remove(&watch);
        }
        let Some(name) = name else {
            // The folder itself: gone, renamed, unmounted; or events were lost.
            self.noticed.names = true;
            return;
        };
        let is_hidden = name.as_bytes().starts_with(b".");
        for watched in self.watches.get(&watch).into_iter().flatten() {
            if is_hidden && watched.folder.starts_with(spool) {
                continue;
            }
            let is_file = watched.interest == Interest::Files && !what.contains(ReadFlags::ISDIR);
            if is_file && what.intersects(ReadFlags::MODIFY | ReadFlags::DELETE) {
                let is_gone = self.noticed.changed.entry(watched.folder.join(name)).or_default();
                *is_gone |= what.contains(ReadFlags::DELETE);
                continue;
            }
            let is_named = is_file && what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if is_named && self.noticed.named.len() < MOST_CHANGED {
                let is_made = what.contains(ReadFlags::CREATE);
                self.noticed.named.insert(watched.folder.join(name), is_made);
            }
            self.noticed.names |= match &watched.interest {
                Interest::Names(names) => names.contains(name),
                Interest::AnyName | Interest::Files => !what.contains(ReadFlags::MODIFY),
            };
        }
        if self.noticed.changed.len() > MOST_CHANGED {
            self.noticed.changed.clear();
            self.noticed.names = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::{Folders, Interest, MOST_CHANGED, Watcher};
    use crate::handle::Message;

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
            assert_eq!(watcher.shared.state().watches.len(), 2, "{what}");
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
