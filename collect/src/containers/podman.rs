//! Podman, root's and users' own.

use std::path::{Path, PathBuf};

use super::Container;
use super::bundle::Bundle;
use super::files::below;
use super::storage::Metadata;

pub(super) fn container(node: &Path, id: &str, bundle: &Bundle, metadata: Option<Metadata>) -> Container {
    let Metadata { image_name, name } = metadata.unwrap_or_default();
    Container {
        id: id.to_owned(),
        name,
        image: image_name,
        runtime: "podman",
        users: bundle.users(node),
        ..Container::default()
    }
}

/// The home folder of a user, of the node's /etc/passwd.
pub(super) fn home(node: &Path, uid: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(node.join("etc/passwd")).ok()?;
    let home = text.lines().find_map(|line| {
        let columns: Vec<&str> = line.split(':').collect();
        (columns.get(2)?.parse() == Ok(uid)).then(|| columns.get(5).copied())?
    })?;
    Some(below(node, Path::new(home)))
}
