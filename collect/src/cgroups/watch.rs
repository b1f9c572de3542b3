//! Watches cgroups come and go. A container lives for some ms at times: who it is has to be read while it is there, which is
//! long before its rows are. Its runtime has written that before it makes the cgroup (runc by itself: before the first
//! program runs).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Timespec, inotify};
use rustix::io::Errno;

use super::{CgroupNames, Cgroups, Names, folders, join};
use crate::clock::boottime;
use crate::containers::{Container, Runtimes, Unreadable};

/// Before other programs, but not before what is real-time: it sleeps nearly always, and is late easily.
const PRIORITY: i32 = -10;
/// How long a start waits until those that are there have been seen.
const PATIENCE: Duration = Duration::from_secs(2);
/// One whose container isn't known yet is tried again so often for so long, unless there are more than a few.
const SOON: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
const FEW: usize = 64;
/// Then later and later, at the earliest after the first, until the second; and at last with those that may be renamed.
const LATER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often containers are looked at that may have another name.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The thread that watches.
pub(super) struct Watch {
    cgroups: Cgroups,
    runtimes: Runtimes,
    /// The root of the hierarchy.
    mount: PathBuf,
    inotify: OwnedFd,
    /// Rung by who waits for an answer.
    bell: Arc<OwnedFd>,
    /// Paths below the mount, by watch.
    watched: HashMap<i32, String>,
    /// By path.
    live: HashMap<String, Live>,
    pending: Vec<Pending>,
    looked_again: Instant,
    /// How often a container's names could not be read.
    unreadable: u64,
}

/// Why a cgroup is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It was there before the watch.
    Start,
    Came,
    /// Events were lost.
    Rescan,
}

/// A cgroup that is there.
struct Live {
    id: u64,
    watch: Option<i32>,
    names: Arc<Names>,
}

/// A cgroup whose container isn't known yet, if it has one.
struct Pending {
    path: String,
    id: u64,
    since: Instant,
    next: Instant,
}

impl Watch {
    /// Starts it, and waits until it has seen all cgroups that are there.
    pub(super) fn start(cgroups: Cgroups, runtimes: Runtimes) {
        let Some(mount) = cgroups.lock().mount.clone() else { return };
        let refused = |e: &dyn std::fmt::Display| {
            log::warn!("cgroups can't be watched, containers have no names: {e}");
        };
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let (inotify, bell) = match (inotify, bell) {
            (Ok(inotify), Ok(bell)) => (inotify, Arc::new(bell)),
            (Err(e), _) | (_, Err(e)) => return refused(&e),
        };
        let watch = Watch {
            cgroups,
            runtimes,
            mount,
            inotify,
            bell,
            watched: HashMap::new(),
            live: HashMap::new(),
            pending: Vec::new(),
            looked_again: Instant::now(),
            unreadable: 0,
        };
        let (seen, has_seen) = channel();
        if let Err(e) = std::thread::Builder::new().name("cgroups".into()).spawn(move || watch.run(seen)) {
            return refused(&e);
        }
        // Its other end goes when they have been.
        let _ = has_seen.recv_timeout(PATIENCE);
    }

    fn run(mut self, seen: Sender<()>) {
        // Without CAP_SYS_NICE it goes without.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        self.enter(String::new(), Why::Start);
        self.cgroups.lock().bell = Some(Arc::clone(&self.bell));
        drop(seen);
        loop {
            self.wait();
            let (began, asked) = (boottime(), self.cgroups.lock().asked);
            let has_to_answer = asked > self.cgroups.lock().answered;
            self.read_events();
            self.try_pending(has_to_answer);
            if has_to_answer {
                self.cgroups.answer(asked, began);
            }
            if self.looked_again.elapsed() >= LOOK_AGAIN {
                self.look_again();
            }
        }
    }

    /// Until something happens, somebody asks, or something is to be tried again.
    fn wait(&self) {
        let now = Instant::now();
        let next = self.pending.iter().map(|pending| pending.next).min();
        let next = next.unwrap_or(self.looked_again + LOOK_AGAIN).min(self.looked_again + LOOK_AGAIN);
        let timeout = Timespec::try_from(next.saturating_duration_since(now)).ok();
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&*self.bell, PollFlags::IN)];
        // Interrupted by a signal, or not: whatever there is to do is looked for.
        let _ = poll(&mut fds, timeout.as_ref());
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
    }

    fn read_events(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 16_384];
        let mut events = Vec::new();
        loop {
            let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
            while let Ok(event) = reader.next() {
                let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                events.push((event.wd(), event.events(), name));
                if reader.is_buffer_empty() {
                    break;
                }
            }
            if events.is_empty() {
                return;
            }
            for (watch, what, name) in events.drain(..) {
                self.event(watch, what, name);
            }
        }
    }

    fn event(&mut self, watch: i32, what: inotify::ReadFlags, name: Option<String>) {
        use inotify::ReadFlags as Flags;
        if what.contains(Flags::QUEUE_OVERFLOW) {
            log::debug!("cgroups come and go faster than they are looked at; all are looked at again");
            return self.enter(String::new(), Why::Rescan);
        }
        if what.contains(Flags::IGNORED) {
            self.watched.remove(&watch);
            return;
        }
        let (Some(folder), Some(name)) = (self.watched.get(&watch), name) else { return };
        let path = join(folder, &name);
        if what.contains(Flags::CREATE | Flags::ISDIR) {
            self.enter(path, Why::Came);
        } else if what.contains(Flags::DELETE | Flags::ISDIR) {
            self.leave(&path);
        }
    }

    /// Takes note of a cgroup and all below it.
    fn enter(&mut self, path: String, why: Why) {
        let folder = self.mount.join(&path);
        // First: what comes below it from now on is an event, and what came before is listed.
        let watch = match self.watch(&folder) {
            Err(Errno::NOENT) => return,
            watch => watch.ok(),
        };
        let Ok(metadata) = fs::symlink_metadata(&folder) else { return };
        let id = metadata.ino();
        if self.live.get(&path).is_some_and(|live| live.id != id) {
            self.leave(&path);
        }
        if let Some(watch) = watch {
            self.watched.insert(watch, path.clone());
        }
        if !self.live.contains_key(&path) {
            self.name(&path, id, watch, why == Why::Start);
        } else if why == Why::Came {
            // Its event comes behind the list that it was found in.
            return;
        }
        for name in folders(&folder) {
            self.enter(join(&path, &name), why);
        }
    }

    fn watch(&mut self, folder: &Path) -> Result<i32, Errno> {
        use inotify::WatchFlags as Flags;
        let flags = Flags::CREATE | Flags::DELETE | Flags::ONLYDIR | Flags::DONT_FOLLOW;
        let watch = inotify::add_watch(&self.inotify, folder, flags);
        if let Err(e) = watch
            && e != Errno::NOENT
            && self.unreadable == 0
        {
            self.unreadable += 1;
            log::warn!(
                "{} can't be watched, short-lived containers below it have no names: {e}; where there is no space, raise \
                 fs.inotify.max_user_watches",
                folder.display()
            );
        }
        watch
    }

    /// Finds out who a cgroup is.
    fn name(&mut self, path: &str, id: u64, watch: Option<i32>, is_old: bool) {
        let outer = self.live.get(parent(path)).and_then(|live| live.names.container().cloned());
        let own = CgroupNames::of(path).container_id;
        let mut is_pending = false;
        let container = match outer {
            // It is a part of that container.
            Some(outer) if own.is_none_or(|own| own == outer.id) => Some(outer),
            outer => self.find(path, is_old).or_else(|| {
                is_pending = !is_old && may_become_known(path);
                // The runtime of one within a pod's container keeps its files in there.
                outer.filter(|outer| !outer.pod.is_empty()).map(|outer| Arc::new(outer.pod_of(own)))
            }),
        };
        if is_pending {
            let since = Instant::now();
            self.pending.push(Pending { path: path.to_owned(), id, since, next: since + SOON.0 });
        }
        let names = Arc::new(Names::of(path, container));
        self.live.insert(path.to_owned(), Live { id, watch, names: Arc::clone(&names) });
        self.cgroups.lock().is_there(id, names, is_pending);
    }

    fn find(&mut self, path: &str, complain: bool) -> Option<Arc<Container>> {
        match self.runtimes.find(&format!("/{path}")) {
            Ok(found) => found.map(Arc::new),
            Err(e) => {
                if complain {
                    self.complain(&e);
                }
                None
            }
        }
    }

    /// Says the first time, the tenth, the hundredth, and so on.
    fn complain(&mut self, unreadable: &Unreadable) {
        self.unreadable += 1;
        if 10_u64.pow(self.unreadable.ilog10()) == self.unreadable {
            let Unreadable { path, why } = unreadable;
            let advice = match why.kind() {
                io::ErrorKind::PermissionDenied => "; see 'kumon check'",
                _ => "",
            };
            log::warn!(
                "the names of a container can't be read ({} so far): {}: {why}{advice}",
                self.unreadable,
                path.display()
            );
        }
    }

    /// Tries those that are due, or all.
    fn try_pending(&mut self, all: bool) {
        let now = Instant::now();
        let few = self.pending.len() <= FEW;
        let due: Vec<Pending> = self.pending.extract_if(.., |pending| all || pending.next <= now).collect();
        for mut pending in due {
            if self.live.get(&pending.path).is_none_or(|live| live.id != pending.id) {
                continue;
            }
            let age = now - pending.since;
            let is_last = age >= LATER.1;
            if let Some(found) = self.find(&pending.path, is_last) {
                self.rename(&pending.path, Some(found));
            } else if is_last || (age >= SOON.1 && CgroupNames::of(&pending.path).container_id.is_none()) {
                self.cgroups.lock().settle(pending.id);
            } else {
                pending.next = now + if few && age < SOON.1 { SOON.0 } else { LATER.0.max(age / 2) };
                self.pending.push(pending);
            }
        }
    }

    /// Gives a cgroup and all below it that belong to the same container its names.
    fn rename(&mut self, path: &str, container: Option<Arc<Container>>) {
        let below = format!("{path}/");
        let own = CgroupNames::of(path).container_id;
        let mut node = self.cgroups.lock();
        for (path, live) in
            self.live.iter_mut().filter(|(other, _)| *other == path || other.starts_with(&below))
        {
            if CgroupNames::of(path).container_id == own {
                live.names = Arc::new(Names::of(path, container.clone()));
                node.is_there(live.id, Arc::clone(&live.names), false);
            }
        }
    }

    fn leave(&mut self, path: &str) {
        let below = format!("{path}/");
        let gone: Vec<String> =
            self.live.keys().filter(|other| *other == path || other.starts_with(&below)).cloned().collect();
        for path in gone {
            let Some(Live { id, watch, .. }) = self.live.remove(&path) else { continue };
            if let Some(watch) = watch {
                self.watched.remove(&watch);
                // The kernel doesn't end the watch of a cgroup that is gone by itself.
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
            self.cgroups.lock().is_gone(id);
        }
    }

    /// Docker and Podman give containers other names; others became known late, or their files readable. Folders whose end
    /// was missed are gone.
    fn look_again(&mut self) {
        self.looked_again = Instant::now();
        let gone = |path: &&String| !self.mount.join(path).is_dir();
        for path in self.live.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.leave(&path);
        }
        let may_differ = |live: &Live| match live.names.container() {
            Some(container) => ["docker", "podman"].contains(&container.runtime),
            None => !live.names.container_id().is_empty(),
        };
        let outermost =
            |path: &str| CgroupNames::of(parent(path)).container_id != CgroupNames::of(path).container_id;
        let live = self.live.iter().filter(|(path, live)| may_differ(live) && outermost(path));
        for path in live.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            let found = self.find(&path, true);
            let differs = |live: &Live| live.names.container() != found.as_ref();
            if found.is_some() && self.live.get(&path).is_some_and(differs) {
                self.rename(&path, found);
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a runtime may say later who runs in a cgroup.
fn may_become_known(path: &str) -> bool {
    let is_unit =
        [".slice", ".service", ".mount", ".socket", ".swap"].iter().any(|kind| path.ends_with(kind));
    CgroupNames::of(path).container_id.is_some() || !(is_unit || path.is_empty())
}
