//! What this process may do, and what to say where the kernel refuses it something.

use std::fs;
use std::io;

/// What loading BPF programs takes, with the bits of capabilities(7).
const NEEDED: [(&str, u32); 2] = [("CAP_BPF", 39), ("CAP_PERFMON", 38)];
/// Includes both of them, as it did before Linux 5.8.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_NET_ADMIN: u32 = 12;

/// The capabilities that loading BPF programs takes, and whether this process has them.
pub fn capabilities() -> [(&'static str, bool); 2] {
    let effective = effective();
    NEEDED.map(|(name, bit)| (name, effective & (1 << bit | 1 << CAP_SYS_ADMIN) != 0))
}

/// Whether it may look at what belongs to other users' processes in /proc.
pub(crate) fn may_look_into_processes() -> bool {
    effective() & 1 << CAP_SYS_PTRACE != 0
}

/// Whether it may attach programs to network interfaces.
pub(crate) fn may_administer_networks() -> bool {
    effective() & 1 << CAP_NET_ADMIN != 0
}

/// CapEff of /proc/self/status; nothing where /proc doesn't tell.
fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// What to do where the kernel doesn't permit what loading and attaching BPF programs takes; goes behind the refusal.
pub(crate) fn advice() -> &'static str {
    if capabilities().iter().all(|(_, has)| *has) {
        "; that isn't for want of CAP_BPF and CAP_PERFMON, which this process has: the kernel forbids it, see its \
         lockdown and security modules"
    } else {
        "; run as root or with CAP_BPF and CAP_PERFMON"
    }
}

/// A refusal with what to do about it.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}{}", advice()),
        _ => error.to_string(),
    }
}
