//! What only some processes are asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, statat};

use crate::file::Folder;
use crate::parse;

/// What is dearer to read than what all processes are asked for. What can't be read is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Details {
    /// In pages, as in /proc/<pid>/statm.
    pub(super) memory: Option<[u64; 7]>,
    pub(super) io: Option<Io>,
    pub(super) descriptors: Option<u64>,
    pub(super) owner: Option<[u32; 2]>,
    /// The inode of its cgroup's folder in cgroup v2.
    pub(super) cgroup: Option<u64>,
}

/// What a process did since it was started: calls to read and to write, bytes of disks, bytes of all calls.
pub(super) type Io = [u64; 6];

impl Details {
    pub(super) fn read(process: &Folder, cgroups: &mut Cgroups, content: &mut Vec<u8>) -> Details {
        Details {
            memory: parse::statm(process.read_if_any("statm", content)),
            io: io(process.read_if_any("io", content)),
            descriptors: descriptors(process),
            owner: parse::owner(process.read_if_any("status", content)),
            cgroup: cgroups.of(process, content).and_then(|(_, folders)| folders.first().copied()),
        }
    }
}

fn io(text: &[u8]) -> Option<Io> {
    let names = ["syscr", "syscw", "read_bytes", "write_bytes", "rchar", "wchar"];
    let mut numbers = [0; 6];
    for (place, number) in numbers.iter_mut().zip(parse::pairs(text, &names)) {
        *place = number?;
    }
    Some(numbers)
}

/// Since Linux 6.2 the size of the folder is their number. Before they have to be counted.
fn descriptors(process: &Folder) -> Option<u64> {
    let size = statat(process, "fd", AtFlags::empty()).ok()?.st_size;
    if size > 0 {
        return u64::try_from(size).ok();
    }
    let names = process.entries("fd").ok()?.flatten();
    Some(names.filter(|entry| entry.file_name().to_bytes().first().is_some_and(u8::is_ascii_digit)).count()
        as u64)
}

/// Cgroups (v2) by their paths, looked up once in a reading.
pub(super) struct Cgroups {
    /// Where cgroup v2 is mounted.
    mount: Option<PathBuf>,
    known: HashMap<String, Vec<u64>>,
}

impl Cgroups {
    pub(super) fn new(mount: Option<PathBuf>) -> Cgroups {
        Cgroups { mount, known: HashMap::new() }
    }

    /// Begins another reading.
    pub(super) fn begin(&mut self) {
        self.known.clear();
    }

    pub(super) fn mount(&self) -> &Path {
        self.mount.as_deref().unwrap_or(Path::new(""))
    }

    /// The path of a process's cgroup, and the inodes of its folder and of all above it.
    pub(super) fn of(&mut self, process: &Folder, content: &mut Vec<u8>) -> Option<(&str, &[u64])> {
        let path = std::str::from_utf8(parse::cgroup_of(process.read_if_any("cgroup", content))?).ok()?;
        if !self.known.contains_key(path) {
            let folders = self.folders(path);
            self.known.insert(path.to_owned(), folders);
        }
        let (path, folders) = self.known.get_key_value(path)?;
        Some((path, folders))
    }

    /// None of a cgroup that is gone.
    fn folders(&self, path: &str) -> Vec<u64> {
        let Some(mount) = &self.mount else { return Vec::new() };
        let folder = mount.join(path.trim_start_matches('/'));
        let up = folder.ancestors().take_while(|folder| folder.starts_with(mount));
        up.map_while(|folder| Some(rustix::fs::stat(folder).ok()?.st_ino)).collect()
    }
}
