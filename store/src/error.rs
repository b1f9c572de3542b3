//! Why the store can't be opened or used.

use std::io;
use std::path::{Path, PathBuf};

use tantivy::TantivyError;

/// Why the store can't be opened or used. The message says what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the store {root} is being written by process {pid}; stop that one, or give this one a state folder of its own",
        root = root.display()
    )]
    InUse { root: PathBuf, pid: String },
    #[error("could not {doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "could not {doing} the index {path}: {source}; if it is damaged, move that folder away",
        path = path.display()
    )]
    Index { doing: &'static str, path: PathBuf, source: TantivyError },
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { doing, path, source }
    }

    pub(crate) fn index(doing: &'static str, path: &Path) -> impl FnOnce(TantivyError) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Index { doing, path, source }
    }
}
