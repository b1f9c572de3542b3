//! The networks of processes that don't use the node's.

use std::collections::HashMap;
use std::mem;

use rustix::fs::readlink;

use crate::Root;
use crate::counter::added;
use crate::file::KernelFile;
use crate::parse;

/// What all interfaces of a network but the loopback have received and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) received_bytes: u64,
    pub(crate) received_packets: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_packets: u64,
}

impl Traffic {
    /// What was added since.
    pub(crate) fn since(self, before: Traffic) -> Traffic {
        Traffic {
            received_bytes: added(before.received_bytes, self.received_bytes),
            received_packets: added(before.received_packets, self.received_packets),
            sent_bytes: added(before.sent_bytes, self.sent_bytes),
            sent_packets: added(before.sent_packets, self.sent_packets),
        }
    }
}

/// The network namespaces of processes.
pub(crate) struct Namespaces {
    root: Root,
    /// That of the node's first process. Where that can't be seen it has to be the own one, as in [`Root::net`].
    of_node: Option<u64>,
    before: HashMap<u64, Traffic>,
    now: HashMap<u64, Traffic>,
}

impl Namespaces {
    pub(crate) fn new(root: &Root) -> Namespaces {
        let of_node = namespace(root, "1").or_else(|| namespace(root, "self"));
        Namespaces { root: root.clone(), of_node, before: HashMap::new(), now: HashMap::new() }
    }

    /// Begins another reading.
    pub(crate) fn begin(&mut self) {
        self.before = mem::take(&mut self.now);
    }

    /// The traffic of the process's namespace at the last reading, where it was read then, and now; none where that is the
    /// node's or can't be seen. It is read once for all processes in it.
    pub(crate) fn of(&mut self, pid: u32) -> Option<(Option<Traffic>, Traffic)> {
        let namespace = namespace(&self.root, &pid.to_string());
        let namespace = namespace.filter(|of| self.of_node.is_some_and(|node| node != *of))?;
        let now = match self.now.get(&namespace) {
            Some(now) => *now,
            None => *self.now.entry(namespace).or_insert(traffic(&self.root, pid)?),
        };
        Some((self.before.get(&namespace).copied(), now))
    }
}

/// Its inode: the link is a text such as `net:[4026531840]`.
fn namespace(root: &Root, process: &str) -> Option<u64> {
    let link = readlink(root.path(&format!("/proc/{process}/ns/net")), Vec::new()).ok()?;
    link.to_str().ok()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn traffic(root: &Root, pid: u32) -> Option<Traffic> {
    let mut dev = KernelFile::at(root.path(&format!("/proc/{pid}/net/dev")));
    dev.read_as(|text| {
        let mut sum = Traffic::default();
        let is_right = parse::interfaces(text, |name, numbers| {
            if name != b"lo" {
                sum.received_bytes = sum.received_bytes.saturating_add(numbers[0]);
                sum.received_packets = sum.received_packets.saturating_add(numbers[1]);
                sum.sent_bytes = sum.sent_bytes.saturating_add(numbers[8]);
                sum.sent_packets = sum.sent_packets.saturating_add(numbers[9]);
            }
        });
        is_right.then_some(sum)
    })
    .ok()
}
