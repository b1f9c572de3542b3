//! Which cgroup (v2) a process is in.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::file::Folder;
use crate::parse;

/// Cgroups (v2) by their paths, looked up once in a reading.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// Where cgroup v2 is mounted.
    mount: Option<PathBuf>,
    known: HashMap<Vec<u8>, Vec<u64>>,
}

impl Cgroups {
    pub(crate) fn new(mount: Option<PathBuf>) -> Cgroups {
        Cgroups { mount, known: HashMap::new() }
    }

    /// Begins another reading.
    pub(crate) fn begin(&mut self) {
        self.known.clear();
    }

    pub(crate) fn mount(&self) -> &Path {
        self.mount.as_deref().unwrap_or(Path::new(""))
    }

    /// The path of a process's cgroup, and the inodes of its folder and of all above it.
    pub(crate) fn of(&mut self, process: &Folder, content: &mut Vec<u8>) -> Option<(&[u8], &[u64])> {
        let path = parse::cgroup_of(process.read_if_any("cgroup", content))?;
        if !self.known.contains_key(path) {
            let folders = self.folders(path);
            self.known.insert(path.to_owned(), folders);
        }
        let (path, folders) = self.known.get_key_value(path)?;
        Some((path, folders))
    }

    /// None of a cgroup that is gone.
    fn folders(&self, path: &[u8]) -> Vec<u64> {
        let Some(mount) = &self.mount else { return Vec::new() };
        let folder = mount.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        let up = folder.ancestors().take_while(|folder| folder.starts_with(mount));
        up.map_while(|folder| Some(rustix::fs::stat(folder).ok()?.st_ino)).collect()
    }
}
