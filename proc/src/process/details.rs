//! What only some processes are asked for.

use rustix::fs::{AtFlags, statat};

use crate::cgroups::Cgroups;
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
