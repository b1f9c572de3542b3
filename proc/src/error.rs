//! Why a file of the kernel could not be used.

use std::io;
use std::path::PathBuf;

/// Why a file of the kernel could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct ReadError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl ReadError {
    /// What stands in the file is not what Linux writes there.
    pub(crate) fn not_understood(path: PathBuf) -> ReadError {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it is not what Linux writes there");
        ReadError { path, source }
    }
}
