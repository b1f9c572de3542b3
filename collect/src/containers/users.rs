//! The users that a container knows.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::files::Folder;
use crate::users::Users;

/// Of a container no more users are kept, and no larger a file is read: who makes containers must not fill the memory.
const MAX_USERS: usize = 128;
const MAX_BYTES: u64 = 256 << 10;

/// A range of user ids of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct IdMap {
    #[serde(rename = "containerID", alias = "container_id")]
    container: u32,
    #[serde(rename = "hostID", alias = "host_id")]
    host: u32,
    size: u32,
}

/// The users inside of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    /// None where they can't be read.
    users: Option<Users>,
    /// Empty where the container is in the node's user namespace.
    ids: Vec<IdMap>,
}

impl Inside {
    /// Reads etc/passwd of the container's root folder.
    pub(super) fn of(root: &Path, ids: Vec<IdMap>) -> Inside {
        let text = match Folder::open(root) {
            Ok(Some(root)) => root.read_as_root("etc/passwd", MAX_BYTES).ok().flatten(),
            _ => None,
        };
        Inside { users: text.map(|text| Users::parse(&text, MAX_USERS)), ids }
    }

    /// The name of the user with an id of the node.
    pub(crate) fn name(&self, uid: u32) -> Option<Arc<str>> {
        self.users.as_ref()?.name(self.inside(uid)?)
    }

    fn inside(&self, uid: u32) -> Option<u32> {
        if self.ids.is_empty() {
            return Some(uid);
        }
        self.ids.iter().find_map(|ids| {
            let at = uid.checked_sub(ids.host).filter(|at| *at < ids.size)?;
            ids.container.checked_add(at)
        })
    }
}
