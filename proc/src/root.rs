//! Where /proc and /sys are.

use std::path::PathBuf;

/// The folder that holds `proc` and `sys`: `/`, or one of a test's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// One in another place.
    pub fn at(folder: impl Into<PathBuf>) -> Root {
        Root(folder.into())
    }

    /// Where a file is whose place is `/proc/stat` and the like.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file.trim_start_matches('/'))
    }
}

impl Default for Root {
    fn default() -> Root {
        Root::at("/")
    }
}
