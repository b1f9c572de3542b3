//! How large the node is: what shares are shares of.

use crate::Root;
use crate::file::KernelFile;
use crate::parse;

pub(crate) struct Node {
    stat: KernelFile,
    meminfo: KernelFile,
}

/// What shares are shares of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// CPUs that are online.
    pub(crate) cpus: Option<u64>,
    /// Memory, in bytes.
    pub(crate) memory: Option<u64>,
}

impl Node {
    pub(crate) fn new(root: &Root) -> Node {
        Node {
            stat: KernelFile::at(root.path("/proc/stat")),
            meminfo: KernelFile::at(root.path("/proc/meminfo")),
        }
    }

    /// Its size now.
    pub(crate) fn read(&mut self) -> Size {
        let stat = parse::stat(self.stat.read_if_any());
        let [kibibytes] = parse::pairs(self.meminfo.read_if_any(), &["MemTotal"]);
        Size {
            cpus: stat.map(|stat| stat.cpus.len() as u64),
            memory: kibibytes.map(|kibibytes| kibibytes.saturating_mul(1024)),
        }
    }
}
