//! Where cgroups are: one tree in cgroup v2, a tree for each controller in v1, or some of both.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Root;
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::parse;

/// The mounted cgroup hierarchies. A controller is in one of them: that of v2 where v1 has none of its own.
#[derive(Debug, Default)]
pub(crate) struct Hierarchies {
    /// That of cgroup v2.
    pub(crate) unified: Option<PathBuf>,
    /// Those of cgroup v1, by controller.
    pub(crate) cpu: Option<PathBuf>,
    pub(crate) cpuacct: Option<PathBuf>,
    pub(crate) memory: Option<PathBuf>,
    pub(crate) blkio: Option<PathBuf>,
    pub(crate) pids: Option<PathBuf>,
}

impl Hierarchies {
    pub(crate) const FILE: &'static str = "/proc/self/mountinfo";

    /// Those that are mounted now.
    pub(crate) fn find(root: &Root) -> Result<Hierarchies, ReadError> {
        let mut found = Hierarchies::default();
        let mut mounts = KernelFile::at(root.path(Hierarchies::FILE));
        parse::cgroup_mounts(mounts.read()?, |mount, controllers| {
            let folder = || root.path(&OsStr::from_bytes(mount).to_string_lossy());
            let Some(controllers) = controllers else {
                found.unified.get_or_insert_with(folder);
                return;
            };
            for controller in controllers.split(|byte| *byte == b',') {
                let place = match controller {
                    b"cpu" => &mut found.cpu,
                    b"cpuacct" => &mut found.cpuacct,
                    b"memory" => &mut found.memory,
                    b"blkio" => &mut found.blkio,
                    b"pids" => &mut found.pids,
                    _ => continue,
                };
                place.get_or_insert_with(folder);
            }
        });
        Ok(found)
    }

    /// The folders in which every cgroup that something is known of can be found.
    pub(crate) fn trees(&self) -> Result<Vec<&Path>, ReadError> {
        // systemd makes a service a cgroup in the hierarchies whose controllers it is to have only: by default not in that of
        // cpuacct. Container runtimes use all of them.
        let of_v1 = [&self.memory, &self.cpuacct].into_iter().flatten();
        let mut trees: Vec<&Path> = of_v1.map(PathBuf::as_path).collect();
        if self.memory.is_none() || self.cpuacct.is_none() {
            trees.extend(self.unified.as_deref());
        }
        if trees.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted");
            return Err(ReadError { path: Hierarchies::FILE.into(), source });
        }
        Ok(trees)
    }
}
