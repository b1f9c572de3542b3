//! How far the shipper has delivered each file: what the collector must not count as lost when it sheds.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::file::{read, replace};

/// Bytes delivered, by file name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged(pub BTreeMap<String, u64>);

const NAME: &str = ".acknowledged";

impl Acknowledged {
    /// What the shipper wrote last; empty where it never did.
    ///
    /// # Errors
    /// When the file can't be read or is damaged.
    pub fn read(root: &Path) -> io::Result<Acknowledged> {
        match read(&root.join(NAME)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Acknowledged).map_err(io::Error::from),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Acknowledged::default()),
            Err(e) => Err(e),
        }
    }

    /// Replaces it in one step.
    ///
    /// # Errors
    /// When the spool folder can't be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        replace(&root.join(NAME), &root.join(".acknowledged.new"), &serde_json::to_vec(&self.0)?, false)
    }
}
