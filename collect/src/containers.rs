//! From a cgroup's id to the container that runs in it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cgroup_path::container_id;
use crate::clock;

/// Cgroups that are remembered: at least so many of those that were asked for last, at most twice as many. One that is gone
/// can't be looked up again, and rows of the interval in which it went are still to come.
const MAX_KNOWN: usize = 16_384;

/// The containers of this node's cgroups. What one collector has seen while it lived the others know as well: a summary
/// is made when many a container is gone.
#[derive(Debug, Clone)]
pub struct Containers {
    node: Arc<Mutex<Node>>,
}

/// By cgroup id, which is the inode of the cgroup's folder.
type Known = HashMap<u64, Option<Arc<str>>>;

/// Looked up in the cgroup v2 mount, and remembered.
#[derive(Debug)]
struct Node {
    /// Where cgroup v2 is mounted; none on nodes that have cgroup v1 only.
    mount: Option<PathBuf>,
    /// Whether cgroups can be opened by their ids.
    has_handles: bool,
    known: Known,
    /// What was known before that was full.
    former: Known,
    /// When all cgroups were walked over last, CLOCK_BOOTTIME in ns.
    walked: u64,
    /// Until when they are not, as `walked`.
    rest_until: u64,
}

/// A walk over thousands of cgroups takes tens of ms: so many times as long as it took there is none.
const REST: u64 = 20;

impl Containers {
    /// Finds the mount in /proc/self/mountinfo.
    pub fn of_this_node() -> Containers {
        static NODE: LazyLock<Containers> = LazyLock::new(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            Containers::below(cgroup2_mount(&mounts))
        });
        NODE.clone()
    }

    fn below(mount: Option<PathBuf>) -> Containers {
        Containers { node: Arc::new(Mutex::new(Node::below(mount))) }
    }

    /// The id of the container of a cgroup in which a process was at `seen` (CLOCK_BOOTTIME, ns); none outside of
    /// containers, and when the cgroup is already gone.
    pub fn id(&self, cgroup: u64, seen: u64) -> Option<Arc<str>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).id(cgroup, seen)
    }
}

impl Node {
    fn below(mount: Option<PathBuf>) -> Node {
        Node {
            mount,
            has_handles: true,
            known: HashMap::new(),
            former: HashMap::new(),
            walked: 0,
            rest_until: 0,
        }
    }

    fn id(&mut self, cgroup: u64, seen: u64) -> Option<Arc<str>> {
        if let Some(container) = self.known.get(&cgroup) {
            return container.clone();
        }
        if self.known.len() >= MAX_KNOWN {
            self.former = std::mem::take(&mut self.known);
        }
        if let Some(container) = self.former.get(&cgroup) {
            return self.known.entry(cgroup).or_insert(container.clone()).clone();
        }
        if self.has_handles {
            self.open(cgroup);
        }
        if !self.has_handles && !self.known.contains_key(&cgroup) && !self.walk(seen) {
            return None;
        }
        // An id that was not found is not looked for again: its cgroup is gone, and ids don't come back.
        self.known.entry(cgroup).or_default().clone()
    }

    /// Looks a cgroup up by its id, as root and others with CAP_DAC_READ_SEARCH can.
    fn open(&mut self, cgroup: u64) {
        match self.mount.as_deref().map(|mount| path_of(mount, cgroup)) {
            Some(Ok(path)) => {
                let mut names = path.iter().rev().filter_map(OsStr::to_str);
                self.known.insert(cgroup, names.find_map(container_id).map(Arc::from));
            }
            Some(Err(Errno::STALE)) | None => {}
            Some(Err(e)) => {
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
            walk(mount, None, &mut self.known);
        }
        let end = clock::boottime();
        (self.walked, self.rest_until) = (begin, end + REST * (end - begin));
        true
    }
}

/// Where the cgroup with this id is, which is its handle (open_by_handle_at(2)): ESTALE where it is gone.
fn path_of(mount: &Path, cgroup: u64) -> Result<PathBuf, Errno> {
    /// `struct file_handle`, with the 8 bytes of FILEID_KERNFS of include/linux/exportfs.h.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    const KERNFS: i32 = 0xfe;
    let mount = rustix::fs::open(mount, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: cgroup.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle is laid out as the kernel has it and says how long it is; the descriptor is open.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // SAFETY: the descriptor is new and nobody else's.
    let folder = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", folder.as_raw_fd()), Vec::new())?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}

/// Remembers the cgroup `folder` and all below it. A cgroup below a container's belongs to it too. Folders may
/// vanish meanwhile.
fn walk(folder: &Path, parent: Option<&Arc<str>>, known: &mut Known) {
    let Ok(metadata) = fs::metadata(folder) else { return };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let container = container_id(&name).map(Arc::from).or_else(|| parent.cloned());
    if let Ok(entries) = fs::read_dir(folder) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if known.len() < MAX_KNOWN {
                walk(&entry.path(), container.as_ref(), known);
            }
        }
    }
    known.insert(metadata.ino(), container);
}

/// The mount point of cgroup v2 in the text of /proc/<pid>/mountinfo (man 5 proc): on hybrid nodes it is
/// /sys/fs/cgroup/unified.
pub fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kumon_testing::require_root;

    use super::{Node, cgroup2_mount, clock};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_mount_is_found_on_hybrid_and_on_unified_nodes() {
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(hybrid).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let unified = "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_mount(unified).as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(cgroup2_mount("35 25 0:30 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu\n"), None);
    }

    /// The ids of two cgroups, the outer one a container's.
    fn make(mount: &Path, container: &str) -> (u64, u64) {
        let path = mount.join(format!("docker-{container}.scope/init.scope"));
        std::fs::create_dir_all(&path).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        (inode(path.parent().unwrap()), inode(&path))
    }

    #[test]
    fn without_handles_cgroups_are_walked_over_where_one_may_have_come_since() {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = make(folder.path(), ID);
        let mut node = Node { has_handles: false, ..Node::below(Some(folder.path().to_owned())) };
        let seen = clock::boottime();
        assert_eq!(node.id(inner, seen).as_deref(), Some(ID));
        assert_eq!(node.id(1, seen), None);

        let other = ID.replace('0', "f");
        let (other_outer, other_inner) = make(folder.path(), &other);
        assert_eq!(node.id(other_outer, seen), None, "nobody can have been there before the walk");
        node.rest_until = u64::MAX;
        assert_eq!(node.id(other_inner, clock::boottime()), None, "it is too early to walk again");
        node.rest_until = 0;
        assert_eq!(node.id(other_inner, clock::boottime()).as_deref(), Some(other.as_str()));
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(
            node.id(outer, clock::boottime()).as_deref(),
            Some(ID),
            "it is remembered, although it is gone"
        );
    }

    #[test]
    fn a_cgroup_is_opened_by_its_id() {
        let Some(mount) = cgroup2_mount(&std::fs::read_to_string("/proc/self/mountinfo").unwrap()) else {
            return;
        };
        if !require_root() {
            return;
        }
        let id = format!("{:064x}", std::process::id());
        let (outer, inner) = make(&mount, &id);
        let mut node = Node::below(Some(mount.clone()));
        assert_eq!(node.id(inner, 0).as_deref(), Some(id.as_str()));
        let folder = mount.join(format!("docker-{id}.scope"));
        std::fs::remove_dir(folder.join("init.scope")).unwrap();
        std::fs::remove_dir(folder).unwrap();
        assert_eq!(node.id(inner, 0).as_deref(), Some(id.as_str()), "it is remembered, although it is gone");
        assert_eq!((node.id(outer, 0), node.walked), (None, 0), "gone, and not walked for");
    }
}
