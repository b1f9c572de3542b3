//! All processes, as far as one file of each tells.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::file::Folder;
use crate::parse;

/// A process at the time of a reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) pid: u32,
    name: [u8; MAX_NAME],
    length: u8,
    pub(super) state: u8,
    pub(super) threads: u64,
    /// Ticks since the boot.
    pub(super) start: u64,
    /// In pages.
    pub(super) resident: u64,
    pub(super) times: Times,
}

/// In ticks: of its own in user mode and in the kernel, the same of its children, its wait for I/O.
pub(super) type Times = [u64; 5];

/// What the kernel keeps of a name, include/linux/sched.h: TASK_COMM_LEN without the NUL. In /proc some of the kernel's own
/// threads have longer ones.
const MAX_NAME: usize = 15;

impl Listed {
    pub(super) fn name(&self) -> &[u8] {
        &self.name[..self.length.into()]
    }
}

/// The folder of all processes.
pub(super) struct Processes {
    folder: Folder,
    content: Vec<u8>,
    path: String,
}

impl Processes {
    pub(super) fn open(path: &Path) -> io::Result<Processes> {
        Ok(Processes { folder: Folder::open(path)?, content: Vec::new(), path: String::new() })
    }

    /// Those that can be seen, in no order. One that ends meanwhile is left out.
    pub(super) fn list(&mut self) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in self.folder.entries(".")? {
            let pid = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
            all.extend(pid.and_then(|pid| self.read(pid)));
        }
        Ok(all)
    }

    fn read(&mut self, pid: u32) -> Option<Listed> {
        self.path.clear();
        let _ = write!(self.path, "{pid}/stat");
        let stat = parse::process_stat(self.folder.read(&self.path, &mut self.content).ok()?)?;
        let (mut name, length) = ([0; MAX_NAME], stat.name.len().min(MAX_NAME));
        name[..length].copy_from_slice(&stat.name[..length]);
        Some(Listed {
            pid,
            name,
            length: length as u8,
            state: stat.state,
            threads: stat.threads,
            start: stat.start,
            resident: stat.resident,
            times: [stat.user, stat.system, stat.children_user, stat.children_system, stat.io_wait],
        })
    }

    /// The folder of one of them.
    pub(super) fn folder(&self, pid: u32) -> io::Result<Folder> {
        self.folder.folder(&pid.to_string())
    }
}
