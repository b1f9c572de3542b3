//! Cgroups without a watch; the watch itself is in `tests/containers.rs`.

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

/// The id of a cgroup's container.
fn id(node: &mut Node, cgroup: u64, seen: u64) -> String {
    node.names(cgroup, seen).container_id().to_owned()
}

#[test]
fn without_handles_cgroups_are_walked_over_where_one_may_have_come_since() {
    let folder = tempfile::tempdir().unwrap();
    let (outer, inner) = make(folder.path(), ID);
    let mut node = Node { has_handles: false, ..Node::below(Some(folder.path().to_owned())) };
    let seen = clock::boottime();
    assert_eq!(id(&mut node, inner, seen), ID);
    assert_eq!(id(&mut node, 1, seen), "");

    let other = ID.replace('0', "f");
    let (other_outer, other_inner) = make(folder.path(), &other);
    assert_eq!(id(&mut node, other_outer, seen), "", "nobody can have been there before the walk");
    node.rest_until = u64::MAX;
    assert_eq!(id(&mut node, other_inner, clock::boottime()), "", "it is too early to walk again");
    node.rest_until = 0;
    assert_eq!(id(&mut node, other_inner, clock::boottime()), other);
    std::fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(id(&mut node, outer, clock::boottime()), ID, "it is remembered, although it is gone");
}

#[test]
fn a_cgroup_is_opened_by_its_id() {
    let Some(mount) = cgroup2_mount(&std::fs::read_to_string("/proc/self/mountinfo").unwrap()) else {
        return;
    };
    if !require_root() {
        return;
    }
    let container = format!("{:064x}", std::process::id());
    let (outer, inner) = make(&mount, &container);
    let mut node = Node::below(Some(mount.clone()));
    assert_eq!(id(&mut node, inner, 0), container);
    let folder = mount.join(format!("docker-{container}.scope"));
    std::fs::remove_dir(folder.join("init.scope")).unwrap();
    std::fs::remove_dir(folder).unwrap();
    assert_eq!(id(&mut node, inner, 0), container, "it is remembered, although it is gone");
    assert_eq!((id(&mut node, outer, 0).as_str(), node.walked), ("", 0), "gone, and not walked for");
}
