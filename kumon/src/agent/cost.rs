//! What KuMon itself costs.

use std::fs;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// CPU time and memory of this process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// User and system time since the process's start, ns (CLOCK_PROCESS_CPUTIME_ID).
    pub(crate) cpu: u64,
    /// Resident memory, bytes (/proc/self/statm).
    pub(crate) memory: u64,
}

impl Cost {
    /// As of now.
    pub(crate) fn now() -> Cost {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        Cost { cpu: (cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec) as u64, memory: pages * page_size() as u64 }
    }
}
