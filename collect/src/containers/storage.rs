//! The storage that Podman and CRI-O share: `<driver>-containers/<id>/userdata/config.json` is a container's bundle, and
//! `containers.json` beside the folders names all of them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bundle::Bundle;
use super::files::{Folder, Unreadable, folders_in, parse};
use super::{Container, crio, podman};

/// Root's storage, and where both keep what is gone at the next boot.
const STORAGES: [&str; 2] = ["var/lib/containers/storage", "run/containers/storage"];
/// A user's own, below the home folder.
const IN_HOME: &str = ".local/share/containers/storage";
/// Those of `podman run --rm` are in the second one.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// What the storage says of a container.
#[derive(Debug, Deserialize)]
struct Entry<'a> {
    id: &'a str,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// JSON once more.
    #[serde(default)]
    metadata: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Metadata {
    pub(super) image_name: String,
    #[serde(skip)]
    pub(super) name: String,
}

/// The folders with containers of root's.
pub(super) fn folders(node: &Path) -> Vec<PathBuf> {
    STORAGES.iter().map(|storage| node.join(storage)).collect()
}

/// The container with an id: of root's, or of the user whose slice the cgroup's path is in.
pub(super) fn find(node: &Path, id: &str, path: &str) -> Result<Option<Container>, Unreadable> {
    let home = owner(path).and_then(|uid| podman::home(node, uid));
    let of_user = home.map(|home| home.join(IN_HOME));
    for storage in folders(node).into_iter().chain(of_user) {
        for folder in folders_in(&storage)?.iter().filter(|folder| folder.ends_with("-containers")) {
            let containers = storage.join(folder);
            let Some(bundle) = Bundle::read(&containers, &Path::new(id).join("userdata"))? else { continue };
            if bundle.annotations.manager != "libpod" && !bundle.annotations.crio_type.is_empty() {
                return Ok(Some(crio::container(node, id, &bundle)));
            }
            let metadata = metadata(&containers, id)?;
            return Ok(Some(podman::container(node, id, &bundle, metadata)));
        }
    }
    Ok(None)
}

/// The user that a rootless container's cgroup belongs to: `/user.slice/user-1000.slice/…`.
fn owner(path: &str) -> Option<u32> {
    path.split('/').find_map(|name| name.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok())
}

fn metadata(containers: &Path, id: &str) -> Result<Option<Metadata>, Unreadable> {
    let Some(folder) = Folder::open(containers)? else { return Ok(None) };
    for list in LISTS {
        let Some(text) = folder.read(list)? else { continue };
        let entries: Vec<Entry<'_>> = parse(&text, &containers.join(list))?;
        let Some(entry) = entries.into_iter().find(|entry| entry.id == id) else { continue };
        let mut metadata: Metadata = serde_json::from_str(&entry.metadata).unwrap_or_default();
        metadata.name = entry.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
        return Ok(Some(metadata));
    }
    Ok(None)
}
