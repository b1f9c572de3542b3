//! Where /proc and /sys are.

use std::fs::File;
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

    /// Where a file is that tells of the node's network, such as `dev`. It is the network of the first process: a service may
    /// have one of its own, as kumon-collect.service has (PrivateNetwork). Where that process can't be seen (hidepid) it has
    /// to be the own one.
    pub(crate) fn net(&self, file: &str) -> PathBuf {
        let of_first = self.path("/proc/1/net").join(file);
        if File::open(&of_first).is_ok() { of_first } else { self.path("/proc/net").join(file) }
    }
}

impl Default for Root {
    fn default() -> Root {
        Root::at("/")
    }
}
