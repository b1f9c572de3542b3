//! What containers are called: what their runtimes leave of it on the node's disk. Nobody is asked over a network or a
//! socket.

mod bundle;
mod containerd;
mod crio;
mod docker;
mod files;
mod podman;
mod runc;
mod storage;
#[cfg(test)]
mod tests;
mod users;

use std::io;
use std::path::PathBuf;

pub(crate) use files::Unreadable;
pub(crate) use users::Inside;

use crate::CgroupNames;

/// What a pause container is called, which holds a pod's namespaces: as the kubelet calls it.
pub(crate) const POD: &str = "POD";

/// A container. What its runtime doesn't say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) runtime: &'static str,
    /// The pod's.
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) pod_uid: String,
    /// What it is called within its pod.
    pub(crate) in_pod: String,
    pub(crate) users: Inside,
}

impl Container {
    /// One within it, of which no more is known than its id: it is in the same pod.
    pub(crate) fn pod_of(&self, id: Option<&str>) -> Container {
        let Container { namespace, pod, pod_uid, .. } = self.clone();
        let id = id.unwrap_or_default().to_owned();
        Container { id, namespace, pod, pod_uid, ..Container::default() }
    }
}

/// Folders of container runtimes of this node that can't be looked into, with the reason: these containers have no names.
pub fn unreadable_runtimes() -> Vec<(PathBuf, io::Error)> {
    Runtimes::of_this_node().unreadable()
}

/// The container runtimes of a node.
#[derive(Debug, Clone)]
pub(crate) struct Runtimes {
    /// The node's root folder.
    node: PathBuf,
}

impl Runtimes {
    pub(crate) fn of_this_node() -> Runtimes {
        Runtimes::below("/".into())
    }

    pub(crate) fn below(node: PathBuf) -> Runtimes {
        Runtimes { node }
    }

    /// What can't be looked into of what is there, with the reason.
    fn unreadable(&self) -> Vec<(PathBuf, io::Error)> {
        let node = &self.node;
        let folders = containerd::folders(node).into_iter().chain(storage::folders(node));
        let folders = folders.chain(runc::folders(node)).chain([docker::folder(node)]);
        let unreadable = folders.filter_map(|folder| {
            let e = std::fs::read_dir(&folder).err().filter(|e| e.kind() != io::ErrorKind::NotFound)?;
            Some((folder, e))
        });
        unreadable.collect()
    }

    /// The container whose cgroup has this path, from the root of the hierarchy; none where no runtime knows one, or not yet.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Container>, Unreadable> {
        let node = &self.node;
        let Some(id) = CgroupNames::of(path).container_id else {
            return match containerd::find_by_path(node, path)? {
                None => runc::find_by_path(node, path),
                found => Ok(found),
            };
        };
        let readers: [&dyn Fn() -> Result<Option<Container>, Unreadable>; 4] = [
            &|| docker::find(node, id),
            &|| containerd::find(node, id),
            &|| storage::find(node, id, path),
            &|| runc::find_by_path(node, path),
        ];
        // What can't be read may be another runtime's.
        let mut unreadable = None;
        for read in readers {
            match read() {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(e) => unreadable = unreadable.or(Some(e)),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }
}
