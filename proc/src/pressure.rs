//! How long tasks waited for a resource: the kernel's pressure stall information (PSI).

use crate::Root;
use crate::counter::added_if_known;
use crate::file::KernelFile;
use crate::parse;

/// A file of /proc/pressure. A kernel without PSI has none, and tells nothing then.
#[derive(Debug)]
pub(crate) struct Pressure {
    file: KernelFile,
    before: parse::Pressure,
}

/// What was added since the last reading, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stalled {
    pub(crate) some: Option<u64>,
    pub(crate) full: Option<u64>,
}

impl Pressure {
    /// Of `cpu`, `memory` or `io`.
    pub(crate) fn of(resource: &str, root: &Root) -> Pressure {
        let file = KernelFile::at(root.path("proc/pressure").join(resource));
        let mut pressure = Pressure { file, before: parse::Pressure::default() };
        pressure.added();
        pressure
    }

    pub(crate) fn added(&mut self) -> Stalled {
        let now = parse::pressure(self.file.read_if_any());
        let before = std::mem::replace(&mut self.before, now);
        let added =
            |before, now| added_if_known(before, now).map(|microseconds| microseconds.saturating_mul(1_000));
        Stalled { some: added(before.some, now.some), full: added(before.full, now.full) }
    }
}
