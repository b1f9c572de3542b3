//! From a cgroup's id to the container that runs in it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Cgroups that are remembered; where there are more, all are looked up anew.
const MAX_KNOWN: usize = 16_384;

/// The containers of this node's cgroups. What one collector has seen while it lived the others know as well: a summary
/// is made when many a container is gone.
#[derive(Debug, Clone)]
pub struct Containers {
    node: Arc<Mutex<Node>>,
}

/// By cgroup id, which is the inode of the cgroup's folder.
type Known = HashMap<u64, Option<Arc<str>>>;

/// Looked up by walking the cgroup v2 mount, and remembered.
#[derive(Debug)]
struct Node {
    /// Where cgroup v2 is mounted; none on nodes that have cgroup v1 only.
    mount: Option<PathBuf>,
    known: Known,
}

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
        Containers { node: Arc::new(Mutex::new(Node { mount, known: HashMap::new() })) }
    }

    /// The id of the container of a cgroup; none outside of containers, and when the cgroup is already gone.
    pub fn id(&self, cgroup: u64) -> Option<Arc<str>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).id(cgroup)
    }
}

impl Node {
    fn id(&mut self, cgroup: u64) -> Option<Arc<str>> {
        if !self.known.contains_key(&cgroup) {
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            if let Some(mount) = &self.mount {
                walk(mount, None, &mut self.known);
            }
            // An id that was not found is not looked for again: its cgroup is gone, and ids don't come back.
            self.known.entry(cgroup).or_default();
        }
        self.known.get(&cgroup)?.clone()
    }
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

/// The 64 hex digits that Docker, containerd, CRI-O and Podman name a container's cgroup by: plain, or as in
/// `docker-<id>.scope` and `cri-containerd-<id>.scope`. Podman's and CRI-O's `…-conmon-<id>` is the monitor's.
fn container_id(name: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    if name.contains("conmon") {
        return None;
    }
    let mut parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    parts.find(|part| part.len() == DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The mount point of cgroup v2 in the text of /proc/<pid>/mountinfo (man 5 proc): on hybrid nodes it is
/// /sys/fs/cgroup/unified.
pub(crate) fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Containers, cgroup2_mount, container_id};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_container_is_found_in_every_runtimes_name_of_its_cgroup() {
        for name in [ID.to_owned(), format!("docker-{ID}.scope"), format!("cri-containerd-{ID}.scope")] {
            assert_eq!(container_id(&name), Some(ID), "{name}");
        }
        for name in ["system.slice", "docker-0123.scope", &format!("libpod-conmon-{ID}.scope"), &ID.repeat(2)]
        {
            assert_eq!(container_id(name), None, "{name}");
        }
    }

    #[test]
    fn the_mount_is_found_on_hybrid_and_on_unified_nodes() {
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(hybrid).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let unified = "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_mount(unified).as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(cgroup2_mount("35 25 0:30 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn an_unknown_cgroup_is_walked_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let container = folder.path().join(format!("docker-{ID}.scope"));
        let inner = container.join("init.scope");
        std::fs::create_dir_all(&inner).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        let (outer_id, inner_id) = (inode(&container), inode(&inner));

        let containers = Containers::below(Some(folder.path().to_owned()));
        assert_eq!(containers.id(inner_id).as_deref(), Some(ID));
        assert_eq!(containers.id(1), None);
        std::fs::remove_dir_all(&container).unwrap();
        assert_eq!(containers.id(outer_id).as_deref(), Some(ID), "it is remembered, although it is gone");
    }
}
