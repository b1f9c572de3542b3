//! runc and crun by themselves: each keeps a folder for a container, with its state. They take any name as an id, so that a
//! container is told by the path of its cgroup.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Container;
use super::files::{Folder, Unreadable, below, folders_in, parse};
use super::users::{IdMap, Inside};

/// The runtime, its folder, and the file in a container's folder.
const RUNTIMES: [(&str, &str, &str); 2] =
    [("runc", "run/runc", "state.json"), ("crun", "run/crun", "status")];

/// The state of either.
#[derive(Deserialize)]
struct State {
    /// runc's, by the controllers of v1; that of v2 is the one without a name.
    #[serde(default)]
    cgroup_paths: HashMap<String, String>,
    /// crun's, from the root of the hierarchy.
    #[serde(default, rename = "cgroup-path")]
    cgroup_path: String,
    /// runc's.
    #[serde(default)]
    config: Config,
    /// crun's.
    #[serde(default)]
    rootfs: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    rootfs: PathBuf,
    uid_mappings: Option<Vec<IdMap>>,
}

/// The folders with a folder for each container.
pub(super) fn folders(node: &Path) -> Vec<PathBuf> {
    RUNTIMES.iter().map(|(_, folder, _)| node.join(folder)).collect()
}

pub(super) fn find_by_path(node: &Path, path: &str) -> Result<Option<Container>, Unreadable> {
    for (runtime, folder, file) in RUNTIMES {
        let containers = node.join(folder);
        let Some(root) = Folder::open(&containers)? else { continue };
        for id in folders_in(&containers)? {
            let file = Path::new(&id).join(file);
            let Some(text) = root.read(&file)? else { continue };
            // That of another container may be half-written.
            let Ok(state) = parse::<State>(&text, &containers.join(&file)) else { continue };
            if !state.has(path) {
                continue;
            }
            let State { config: Config { rootfs, uid_mappings }, rootfs: of_crun, .. } = state;
            let rootfs = if rootfs.as_os_str().is_empty() { of_crun } else { rootfs };
            let users = Inside::of(&below(node, &rootfs), uid_mappings.unwrap_or_default());
            return Ok(Some(Container { name: id.clone(), id, runtime, users, ..Container::default() }));
        }
    }
    Ok(None)
}

impl State {
    /// Whether the container's cgroup has this path, from the root of the hierarchy.
    fn has(&self, path: &str) -> bool {
        // Where a hierarchy is mounted: /sys/fs/cgroup, or a folder in it.
        let below_mount = |whole: &String| {
            let mount = whole.strip_suffix(path).and_then(|mount| mount.strip_prefix("/sys/fs/cgroup"));
            mount.is_some_and(|mount| mount.rfind('/').is_none_or(|at| at == 0))
        };
        let crun = self.cgroup_path.trim_matches('/');
        self.cgroup_paths.values().any(below_mount) || (!crun.is_empty() && crun == path.trim_matches('/'))
    }
}
