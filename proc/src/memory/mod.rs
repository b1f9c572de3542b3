//! The metric memory: what memory is used for, of /proc/meminfo and /proc/vmstat.

use std::time::Duration;

use kumon_collect::settings::{INTERVAL, interval};
use kumon_collect::{Emitter, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::counter::added_if_known;
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::metric::{Metric, Period, share};
use crate::parse;
use crate::pressure::Pressure;

/// Settings of the metric memory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
}

impl Default for MemorySettings {
    fn default() -> MemorySettings {
        MemorySettings { enabled: true, interval: INTERVAL }
    }
}

pub(crate) struct Memory {
    /// Bytes of a page.
    page: u64,
    meminfo: KernelFile,
    vmstat: KernelFile,
    pressure: Pressure,
    before: Counters,
}

/// In KiB, in the order in which Linux writes them.
const SIZES: [&str; 25] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "Unevictable",
    "Mlocked",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "CommitLimit",
    "Committed_AS",
    "Hugetlb",
];
const COUNTERS: [&str; 9] =
    ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfree", "pgfault", "pgmajfault", "pgreuse", "oom_kill"];
type Counters = [Option<u64>; COUNTERS.len()];

impl Metric for Memory {
    const NAME: &'static str = "memory";
    const FILE: &'static str = "/proc/meminfo";
    const MAY_HANG: bool = false;
    type Settings = MemorySettings;

    fn start(root: &Root, _: &MemorySettings) -> Result<Memory, ReadError> {
        let mut meminfo = KernelFile::at(root.path(Memory::FILE));
        meminfo.read_as(sizes)?;
        let mut vmstat = KernelFile::at(root.path("/proc/vmstat"));
        let before = parse::pairs(vmstat.read_if_any(), &COUNTERS);
        let pressure = Pressure::of("memory", root);
        Ok(Memory { page: rustix::param::page_size() as u64, meminfo, vmstat, pressure, before })
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let sizes = self.meminfo.read_as(sizes)?;
        let now = parse::pairs(self.vmstat.read_if_any(), &COUNTERS);
        let stalled = self.pressure.added();
        let added = |at: usize| added_if_known(self.before[at], now[at]);
        let scaled = |at, scale: u64| added(at).map(|count: u64| count.saturating_mul(scale));
        let [
            total,
            free,
            available,
            buffers,
            cached,
            active_anon,
            inactive_anon,
            active_file,
            inactive_file,
            unevictable,
            locked,
            swap_total,
            swap_free,
            dirty,
            writeback,
            anonymous,
            mapped,
            shared,
            slab_reclaimable,
            slab_unreclaimable,
            kernel_stacks,
            page_tables,
            commit_limit,
            committed,
            huge_pages,
        ] = sizes;
        let [used, not_free] = [available, free].map(|rest| Some(total?.saturating_sub(rest?)));
        let swap_used = swap_total.zip(swap_free).map(|(total, free)| total.saturating_sub(free));
        let row = rows::Memory {
            timestamp: period.timestamp,
            interval: period.interval,
            total,
            free,
            available,
            used,
            used_pct: share(used, total),
            not_free,
            not_free_pct: share(not_free, total),
            buffers,
            cached,
            shared,
            anonymous,
            mapped,
            active_anon,
            inactive_anon,
            active_file,
            inactive_file,
            unevictable,
            locked,
            dirty,
            writeback,
            slab_reclaimable,
            slab_unreclaimable,
            kernel_stacks,
            page_tables,
            committed,
            commit_limit,
            huge_pages,
            swap_total,
            swap_free,
            swap_used,
            swap_used_pct: share(swap_used, swap_total),
            paged_in: scaled(0, 1024),
            paged_out: scaled(1, 1024),
            swapped_in: scaled(2, self.page),
            swapped_out: scaled(3, self.page),
            pages_freed: added(4),
            page_faults: added(5),
            major_page_faults: added(6),
            pages_reused: added(7),
            oom_kills: added(8),
            pressure_some: stalled.some,
            pressure_full: stalled.full,
        };
        emitter.emit(&row, &Subject::Node);
        self.before = now;
        Ok(())
    }
}

/// In bytes; none where it is no /proc/meminfo.
fn sizes(text: &[u8]) -> Option<[Option<u64>; SIZES.len()]> {
    let sizes = parse::pairs(text, &SIZES).map(|size| size?.checked_mul(1024));
    sizes[0].map(|_| sizes)
}

#[cfg(test)]
mod tests {
    use crate::Settings;
    use crate::testing::Node;

    const MEMINFO: &str = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nBuffers: 10 kB\nCached: 250 kB\n\
        SwapCached: 0 kB\nActive: 5 kB\nActive(anon): 21 kB\nInactive(anon): 22 kB\nActive(file): 23 kB\n\
        Inactive(file): 24 kB\nUnevictable: 3 kB\nMlocked: 2 kB\nSwapTotal: 200 kB\nSwapFree: 150 kB\nDirty: 4 kB\n\
        Writeback: 1 kB\nAnonPages: 300 kB\nMapped: 50 kB\nShmem: 30 kB\nSReclaimable: 60 kB\nSUnreclaim: 70 kB\n\
        KernelStack: 8 kB\nPageTables: 9 kB\nCommitLimit: 700 kB\nCommitted_AS: 800 kB\nHugetlb: 0 kB\n";

    #[test]
    fn a_row_has_what_stands_and_what_came() {
        let node = Node::new();
        node.write("proc/meminfo", "MemTotal: 5 kB\n");
        node.write(
            "proc/vmstat",
            "nr_free_pages 7\npgpgin 10\npgpgout 20\npswpin 1\npswpout 2\npgfree 9\npgfault 100\n\
            pgmajfault 3\npgreuse 4\noom_kill 0\n",
        );
        node.write("proc/pressure/memory", "some total=10\nfull total=5\n");
        let mut reading = node.start("memory", Settings::default());
        node.write("proc/meminfo", MEMINFO);
        node.write(
            "proc/vmstat",
            "pgpgin 12\npgpgout 23\npswpin 2\npswpout 4\npgfree 14\npgfault 107\n\
            pgmajfault 11\npgreuse 13\noom_kill 10\n",
        );
        node.write("proc/pressure/memory", "some total=12\nfull total=6\n");
        let page = rustix::param::page_size();
        let (swapped_in, swapped_out) = (page.to_string(), (2 * page).to_string());
        reading.expect(&[&[
            ("event_module", "system"),
            ("event_dataset", "system.memory"),
            ("total", "1024000"),
            ("free", "102400"),
            ("available", "409600"),
            ("used", "614400"),
            ("used_pct", "0.6"),
            ("not_free", "921600"),
            ("not_free_pct", "0.9"),
            ("buffers", "10240"),
            ("cached", "256000"),
            ("shared", "30720"),
            ("anonymous", "307200"),
            ("mapped", "51200"),
            ("active_anon", "21504"),
            ("inactive_anon", "22528"),
            ("active_file", "23552"),
            ("inactive_file", "24576"),
            ("unevictable", "3072"),
            ("locked", "2048"),
            ("dirty", "4096"),
            ("writeback", "1024"),
            ("slab_reclaimable", "61440"),
            ("slab_unreclaimable", "71680"),
            ("kernel_stacks", "8192"),
            ("page_tables", "9216"),
            ("committed", "819200"),
            ("commit_limit", "716800"),
            ("huge_pages", "0"),
            ("swap_total", "204800"),
            ("swap_free", "153600"),
            ("swap_used", "51200"),
            ("swap_used_pct", "0.25"),
            ("paged_in", "2048"),
            ("paged_out", "3072"),
            ("swapped_in", &swapped_in),
            ("swapped_out", &swapped_out),
            ("pages_freed", "5"),
            ("page_faults", "7"),
            ("major_page_faults", "8"),
            ("pages_reused", "9"),
            ("oom_kills", "10"),
            ("pressure_some", "2000"),
            ("pressure_full", "1000"),
        ]]);
    }

    #[test]
    fn what_a_kernel_does_not_tell_is_empty_and_not_zero() {
        let node = Node::new();
        node.write(
            "proc/meminfo",
            "MemTotal: 1000 kB\nMemFree: 2000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nDirty: many kB\n",
        );
        let mut reading = node.start("memory", Settings::default());
        reading.expect(&[&[
            ("event_module", "system"),
            ("event_dataset", "system.memory"),
            ("total", "1024000"),
            ("free", "2048000"),
            ("not_free", "0"),
            ("not_free_pct", "0"),
            ("swap_total", "0"),
            ("swap_free", "0"),
            ("swap_used", "0"),
        ]]);
        node.write("proc/meminfo", "\u{0}garbage\n");
        assert!(reading.failure().contains("/proc/meminfo: it is not what Linux writes there"));
    }
}
