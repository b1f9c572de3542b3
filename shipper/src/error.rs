//! Why shipping can't be started.

use std::io;
use std::path::{Path, PathBuf};

use glob::PatternError;

use crate::checkpoint::CheckpointError;

/// Why the shipper could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ShipperError {
    #[error("{}: another shipper uses this state folder; stop it, or give this one its own path.state", .0.display())]
    InUse(PathBuf),
    #[error("{}: {source}; the folder must be readable and writable for the user that ships", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Checkpoint(String),
    #[error("no thread for sending or for the checkpoint can be started: {0}")]
    Thread(io::Error),
    #[error("'{pattern}' is no glob pattern: {source}")]
    Pattern { pattern: String, source: PatternError },
}

impl From<CheckpointError> for ShipperError {
    fn from(e: CheckpointError) -> ShipperError {
        ShipperError::Checkpoint(e.to_string())
    }
}

impl ShipperError {
    pub(crate) fn folder(path: &Path, source: io::Error) -> ShipperError {
        ShipperError::Folder { path: path.to_owned(), source }
    }
}
