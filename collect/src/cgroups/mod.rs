//! From a cgroup's id to who runs in it.

mod mount;
mod names;
mod path;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::io::Errno;

use crate::clock;
use crate::containers::Runtimes;
pub use mount::cgroup2_mount;
use mount::path_of;
pub use names::Names;
pub use path::CgroupNames;
use watch::Watch;

/// Cgroups that are remembered after they are gone: at least so many of those that were asked for last, at most twice as many.
/// Rows of the interval in which one went are still to come, and it can't be looked up again.
const MAX_KNOWN: usize = 16_384;

/// Who runs in this node's cgroups. What one collector has seen while it lived the others know as well: a summary
/// is made when many a container is gone.
#[derive(Clone)]
pub struct Cgroups {
    node: Arc<Mutex<Node>>,
    answered: Arc<Condvar>,
}

/// Wants to know of cgroups that come and go, at once.
pub trait Follow: Send + Sync {
    /// One is there, or is known by other names.
    fn is_there(&self, cgroup: u64, names: &Names);

    fn is_gone(&self, cgroup: u64);
}

/// By cgroup id, which is the inode of the cgroup's folder.
type Known = HashMap<u64, Arc<Names>>;

/// Looked up in the cgroup v2 mount, and remembered.
struct Node {
    /// Where cgroup v2 is mounted; none on nodes that have cgroup v1 only.
    mount: Option<PathBuf>,
    /// Whether cgroups can be opened by their ids.
    has_handles: bool,
    /// Those that are there, with their containers' names: the watch keeps them. Without it there are none.
    live: Known,
    /// Those that are gone, or that the watch hasn't seen.
    known: Known,
    /// What was known before that was full.
    former: Known,
    /// By path, of a node without cgroup v2.
    by_path: HashMap<String, Arc<Names>>,
    /// When all cgroups were walked over last, CLOCK_BOOTTIME in ns.
    walked: u64,
    /// Until when they are not, as `walked`.
    rest_until: u64,
    /// Those of `live` whose containers may become known.
    pending: HashSet<u64>,
    followers: Vec<Weak<dyn Follow>>,
    /// Wakes the watch; none without one.
    bell: Option<Arc<OwnedFd>>,
    /// How many questions it was asked, and up to which one it has answered them.
    asked: u64,
    answered: u64,
    /// Since when it has looked at everything for its last answer, CLOCK_BOOTTIME in ns.
    looked: u64,
    /// An answer takes too long: none is waited for until it comes.
    is_late: bool,
}

/// How long a row waits for the watch: it takes far less than 1 ms unless a disk hangs.
const PATIENCE: Duration = Duration::from_millis(50);

/// A walk over thousands of cgroups takes tens of ms: so many times as long as it took there is none.
const REST: u64 = 20;

impl Cgroups {
    /// Finds the mount in /proc/self/mountinfo.
    pub fn of_this_node() -> Cgroups {
        static NODE: LazyLock<Cgroups> = LazyLock::new(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            Cgroups::below(cgroup2_mount(&mounts))
        });
        NODE.clone()
    }

    fn below(mount: Option<PathBuf>) -> Cgroups {
        Cgroups { node: Arc::new(Mutex::new(Node::below(mount))), answered: Arc::default() }
    }

    /// Watches cgroups come and go from now on, and reads of each whom its runtime says it is, before its first process
    /// runs. Returns when it has seen all that are there.
    pub(crate) fn watch_this_node() -> Cgroups {
        static WATCH: LazyLock<()> = LazyLock::new(|| {
            Watch::start(Cgroups::of_this_node(), Runtimes::of_this_node());
        });
        LazyLock::force(&WATCH);
        Cgroups::of_this_node()
    }

    /// Who was in a cgroup at `seen` (CLOCK_BOOTTIME, ns); nobody that is known where the cgroup was gone before anybody
    /// could look.
    pub fn names(&self, cgroup: u64, seen: u64) -> Arc<Names> {
        let mut node = self.lock();
        if node.may_learn(cgroup, seen) {
            node = self.ask(node);
        }
        node.names(cgroup, seen)
    }

    /// Who is in a cgroup of a node without cgroup v2, where nothing has an id.
    pub(crate) fn names_by_path(&self, path: &str) -> Arc<Names> {
        if let Some(names) = self.lock().by_path.get(path) {
            return Arc::clone(names);
        }
        // What can't be read now may be later.
        let container = Runtimes::of_this_node().find(path).unwrap_or_default().map(Arc::new);
        let is_known = container.is_some() || CgroupNames::of(path).container_id.is_none();
        let names = Arc::new(Names::of(path, container));
        let mut node = self.lock();
        if is_known {
            if node.by_path.len() >= MAX_KNOWN {
                node.by_path.clear();
            }
            node.by_path.insert(path.to_owned(), Arc::clone(&names));
        }
        names
    }

    /// Tells it of all cgroups that are there, and from now on of those that come and go, as long as it is there itself.
    pub fn follow(&self, follower: &Arc<impl Follow + 'static>) {
        let mut node = self.lock();
        node.live.iter().for_each(|(cgroup, names)| follower.is_there(*cgroup, names));
        let weak = Arc::downgrade(follower);
        node.followers.push(weak);
    }

    /// Waits until the watch has looked at all that has happened until now.
    fn ask<'a>(&'a self, mut node: MutexGuard<'a, Node>) -> MutexGuard<'a, Node> {
        let Some(bell) = node.bell.clone() else { return node };
        node.asked += 1;
        let question = node.asked;
        let _ = rustix::io::write(&*bell, &1_u64.to_ne_bytes());
        let waited = self.answered.wait_timeout_while(node, PATIENCE, |node| node.answered < question);
        let (mut node, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        node.is_late = timeout.timed_out();
        node
    }

    /// The watch has looked at everything since `looked`.
    fn answer(&self, question: u64, looked: u64) {
        let mut node = self.lock();
        (node.answered, node.looked, node.is_late) = (question, looked, false);
        self.answered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn below(mount: Option<PathBuf>) -> Node {
        Node {
            mount,
            has_handles: true,
            live: HashMap::new(),
            known: HashMap::new(),
            former: HashMap::new(),
            by_path: HashMap::new(),
            walked: 0,
            rest_until: 0,
            pending: HashSet::new(),
            followers: Vec::new(),
            bell: None,
            asked: 0,
            answered: 0,
            looked: 0,
            is_late: false,
        }
    }

    /// Whether the watch may know more than stands here of who was in a cgroup at `seen`.
    fn may_learn(&self, cgroup: u64, seen: u64) -> bool {
        let is_known = |known: &Known| known.contains_key(&cgroup);
        self.bell.is_some()
            && !self.is_late
            && seen > self.looked
            && (self.pending.contains(&cgroup)
                || !(is_known(&self.live) || is_known(&self.known) || is_known(&self.former)))
    }

    fn names(&mut self, cgroup: u64, seen: u64) -> Arc<Names> {
        if let Some(names) = self.live.get(&cgroup).or_else(|| self.known.get(&cgroup)) {
            return Arc::clone(names);
        }
        self.make_room();
        if let Some(names) = self.former.get(&cgroup) {
            return Arc::clone(self.known.entry(cgroup).or_insert(Arc::clone(names)));
        }
        if self.has_handles {
            self.open(cgroup);
        }
        if !self.has_handles && !self.known.contains_key(&cgroup) && !self.walk(seen) {
            return Arc::default();
        }
        // An id that was not found is not looked for again: its cgroup is gone, and ids don't come back.
        Arc::clone(self.known.entry(cgroup).or_default())
    }

    fn make_room(&mut self) {
        if self.known.len() >= MAX_KNOWN {
            self.former = std::mem::take(&mut self.known);
        }
    }

    /// Takes note of one that is there. A `pending` one's container may become known.
    fn is_there(&mut self, cgroup: u64, names: Arc<Names>, pending: bool) {
        self.known.remove(&cgroup);
        self.tell(|follower| follower.is_there(cgroup, &names));
        self.live.insert(cgroup, names);
        if pending {
            self.pending.insert(cgroup);
        } else {
            self.settle(cgroup);
        }
    }

    /// No more will be known of it.
    fn settle(&mut self, cgroup: u64) {
        self.pending.remove(&cgroup);
    }

    /// Takes note of one that is gone.
    fn is_gone(&mut self, cgroup: u64) {
        self.settle(cgroup);
        if let Some(names) = self.live.remove(&cgroup) {
            self.tell(|follower| follower.is_gone(cgroup));
            self.make_room();
            self.known.insert(cgroup, names);
        }
    }

    fn tell(&mut self, of: impl Fn(&dyn Follow)) {
        self.followers.retain(|follower| follower.upgrade().inspect(|follower| of(&**follower)).is_some());
    }

    /// Looks a cgroup up by its id, as root and others with CAP_DAC_READ_SEARCH can.
    fn open(&mut self, cgroup: u64) {
        let Some(mount) = self.mount.as_deref() else { return };
        match path_of(mount, cgroup) {
            Ok(path) => {
                let below = path.strip_prefix(mount).unwrap_or(&path).to_string_lossy();
                self.known.insert(cgroup, Arc::new(Names::of(&below, None)));
            }
            Err(Errno::STALE) => {}
            Err(e) => {
                log::debug!("cgroups can't be opened by their ids, they are walked over instead: {e}");
                self.has_handles = false;
            }
        }
    }

    /// Walks over all cgroups, unless the last walk would have found what was there at `seen`. False where it is too
    /// early for another walk.
    fn walk(&mut self, seen: u64) -> bool {
        let begin = clock::boottime();
        if seen < self.walked {
            return true;
        }
        if begin < self.rest_until {
            return false;
        }
        if let Some(mount) = &self.mount {
            walk(mount, "", &mut self.known);
        }
        let end = clock::boottime();
        (self.walked, self.rest_until) = (begin, end + REST * (end - begin));
        true
    }
}

/// Remembers the cgroup at `path` below the mount and all below it. Folders may vanish meanwhile.
fn walk(mount: &Path, path: &str, known: &mut Known) {
    let folder = mount.join(path);
    let Ok(metadata) = fs::metadata(&folder) else { return };
    for child in folders(&folder) {
        if known.len() < MAX_KNOWN {
            walk(mount, &join(path, &child), known);
        }
    }
    known.entry(metadata.ino()).or_insert_with(|| Arc::new(Names::of(path, None)));
}

/// The names of the cgroups right below one.
fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The path of a cgroup below the mount, of its parent's; the root's is empty.
fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}
