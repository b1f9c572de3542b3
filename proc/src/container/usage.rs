//! What a cgroup has used, as its files tell.

use std::path::{Path, PathBuf};

use crate::file::Folder;
use crate::hierarchies::Hierarchies;
use crate::parse::{self, Device, DiskUse, Pressure};

/// What a cgroup has used since it was made, and what it uses now; with all cgroups inside of it. What its kernel, or its
/// controllers, don't tell is none.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
    pub(super) disks: Vec<(Device, Disk)>,
    pub(super) pids: Option<u64>,
    pub(super) pids_limit: Option<u64>,
    /// For a CPU, memory and I/O.
    pub(super) pressure: [Pressure; 3],
}

/// Times in ns.
#[derive(Debug, Clone, Default)]
pub(super) struct Cpu {
    pub(super) time: Option<u64>,
    pub(super) user: Option<u64>,
    pub(super) system: Option<u64>,
    pub(super) periods: Option<u64>,
    pub(super) throttled: Option<u64>,
    pub(super) throttled_time: Option<u64>,
    /// In CPUs.
    pub(super) limit: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) usage: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) kinds: [Option<u64>; MEMORY_KINDS],
    pub(super) oom_kills: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Disk {
    pub(super) bytes: DiskUse,
    pub(super) operations: DiskUse,
}

const MEMORY_KINDS: usize = 12;

/// What `Memory::kinds` has, by the names of v1, which counts what is in cgroups inside of it apart.
const KINDS_OF_V1: [&str; MEMORY_KINDS] = [
    "total_rss",
    "total_cache",
    "total_mapped_file",
    "total_pgpgin",
    "total_pgpgout",
    "total_pgfault",
    "total_pgmajfault",
    "total_active_anon",
    "total_inactive_anon",
    "total_active_file",
    "total_inactive_file",
    "total_unevictable",
];

/// The same by the names of v2, which doesn't tell how many pages were charged.
const KINDS_OF_V2: [&str; MEMORY_KINDS] = [
    "anon",
    "file",
    "file_mapped",
    "",
    "",
    "pgfault",
    "pgmajfault",
    "active_anon",
    "inactive_anon",
    "active_file",
    "inactive_file",
    "unevictable",
];

/// What v1 says where there is no limit: a number of pages that no machine has.
const NO_LIMIT: u64 = 1 << 62;

/// Reads cgroups.
pub(super) struct Reader {
    hierarchies: Hierarchies,
    /// Nanoseconds of a tick.
    tick: u64,
    content: Vec<u8>,
}

impl Reader {
    pub(super) fn new(hierarchies: Hierarchies) -> Reader {
        Reader { hierarchies, tick: kumon_collect::tick(), content: Vec::new() }
    }

    /// What the cgroup with that path has used; none where it is gone.
    pub(super) fn read(&mut self, path: &str) -> Option<Usage> {
        let Reader { hierarchies, tick, content } = self;
        let folder = |hierarchy: &Option<PathBuf>| open(hierarchy.as_deref()?, path);
        let unified = folder(&hierarchies.unified);
        let of_v2 = |of_v1: &Option<PathBuf>| of_v1.is_none().then_some(unified.as_ref()).flatten();
        let mut usage = Usage::default();

        if let Some(folder) = folder(&hierarchies.cpuacct) {
            cpu_time_of_v1(&folder, *tick, &mut usage.cpu, content);
        } else if let Some(folder) = of_v2(&hierarchies.cpuacct) {
            cpu_time_of_v2(folder, &mut usage.cpu, content);
        }
        if let Some(folder) = folder(&hierarchies.cpu) {
            quota_of_v1(&folder, &mut usage.cpu, content);
        } else if let Some(folder) = of_v2(&hierarchies.cpu) {
            quota_of_v2(folder, &mut usage.cpu, content);
        }
        if let Some(folder) = folder(&hierarchies.memory) {
            usage.memory = memory_of_v1(&folder, content);
        } else if let Some(folder) = of_v2(&hierarchies.memory) {
            usage.memory = memory_of_v2(folder, content);
        }
        if let Some(folder) = folder(&hierarchies.blkio) {
            usage.disks = disks_of_v1(&folder, content);
        } else if let Some(folder) = of_v2(&hierarchies.blkio) {
            usage.disks = disks_of_v2(folder, content);
        }
        // These are the same in both.
        let of_pids = folder(&hierarchies.pids);
        if let Some(folder) = of_pids.as_ref().or(of_v2(&hierarchies.pids)) {
            usage.pids = parse::value(folder.read_if_any("pids.current", content));
            usage.pids_limit = parse::value(folder.read_if_any("pids.max", content));
        }
        if let Some(folder) = &unified {
            usage.pressure = ["cpu.pressure", "memory.pressure", "io.pressure"]
                .map(|file| parse::pressure(folder.read_if_any(file, content)));
        }
        let is_there = [usage.cpu.time, usage.memory.usage, usage.pids].iter().any(Option::is_some);
        is_there.then_some(usage)
    }

    /// The inode of its folder in cgroup v2.
    pub(super) fn id(&self, path: &str) -> Option<u64> {
        let unified = self.hierarchies.unified.as_deref()?;
        Some(rustix::fs::stat(below(unified, path)).ok()?.st_ino)
    }

    /// The inode of its folder in another hierarchy.
    pub(super) fn folder(&self, path: &str) -> Option<u64> {
        let trees = self.hierarchies.trees().ok()?;
        trees.iter().find_map(|tree| Some(rustix::fs::stat(below(tree, path)).ok()?.st_ino))
    }

    /// One of the processes in it, or in the cgroups inside of it.
    pub(super) fn process(&mut self, path: &str) -> Option<u32> {
        let trees = self.hierarchies.trees().ok()?;
        trees.iter().find_map(|tree| first_process(&below(tree, path), 3, &mut self.content))
    }

    pub(super) fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }
}

fn below(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/'))
}

fn open(tree: &Path, path: &str) -> Option<Folder> {
    Folder::open(&below(tree, path)).ok()
}

fn cpu_time_of_v1(folder: &Folder, tick: u64, cpu: &mut Cpu, content: &mut Vec<u8>) {
    cpu.time = parse::value(folder.read_if_any("cpuacct.usage", content));
    let ticks = parse::pairs(folder.read_if_any("cpuacct.stat", content), &["user", "system"]);
    [cpu.user, cpu.system] = ticks.map(|ticks| ticks.map(|ticks| ticks.saturating_mul(tick)));
}

fn cpu_time_of_v2(folder: &Folder, cpu: &mut Cpu, content: &mut Vec<u8>) {
    let names = ["usage_usec", "user_usec", "system_usec"];
    let times = parse::pairs(folder.read_if_any("cpu.stat", content), &names);
    [cpu.time, cpu.user, cpu.system] = times.map(nanoseconds);
}

fn quota_of_v1(folder: &Folder, cpu: &mut Cpu, content: &mut Vec<u8>) {
    let names = ["nr_periods", "nr_throttled", "throttled_time"];
    [cpu.periods, cpu.throttled, cpu.throttled_time] =
        parse::pairs(folder.read_if_any("cpu.stat", content), &names);
    let quota = parse::value(folder.read_if_any("cpu.cfs_quota_us", content));
    cpu.limit = quota.and_then(|quota| {
        parse::cpus(quota, parse::value(folder.read_if_any("cpu.cfs_period_us", content))?)
    });
}

fn quota_of_v2(folder: &Folder, cpu: &mut Cpu, content: &mut Vec<u8>) {
    let names = ["nr_periods", "nr_throttled", "throttled_usec"];
    let throttled_time;
    [cpu.periods, cpu.throttled, throttled_time] =
        parse::pairs(folder.read_if_any("cpu.stat", content), &names);
    cpu.throttled_time = nanoseconds(throttled_time);
    cpu.limit = parse::cpu_max(folder.read_if_any("cpu.max", content));
}

fn nanoseconds(microseconds: Option<u64>) -> Option<u64> {
    microseconds.map(|time| time.saturating_mul(1_000))
}

fn memory_of_v1(folder: &Folder, content: &mut Vec<u8>) -> Memory {
    let limit = parse::value(folder.read_if_any("memory.limit_in_bytes", content));
    Memory {
        usage: parse::value(folder.read_if_any("memory.usage_in_bytes", content)),
        limit: limit.filter(|limit| *limit < NO_LIMIT),
        kinds: parse::pairs(folder.read_if_any("memory.stat", content), &KINDS_OF_V1),
        oom_kills: parse::pairs(folder.read_if_any("memory.oom_control", content), &["oom_kill"])[0],
    }
}

fn memory_of_v2(folder: &Folder, content: &mut Vec<u8>) -> Memory {
    Memory {
        usage: parse::value(folder.read_if_any("memory.current", content)),
        limit: parse::value(folder.read_if_any("memory.max", content)),
        kinds: parse::pairs(folder.read_if_any("memory.stat", content), &KINDS_OF_V2),
        oom_kills: parse::pairs(folder.read_if_any("memory.events", content), &["oom_kill"])[0],
    }
}

/// Since Linux 6.10 the files of blk-throttle have those disks only for which there is a limit, of any cgroup. The others
/// can be in those of the scheduler bfq.
fn disks_of_v1(folder: &Folder, content: &mut Vec<u8>) -> Vec<(Device, Disk)> {
    let mut disks: Vec<(Device, Disk)> = Vec::new();
    for by in ["throttle", "bfq"] {
        let known = disks.len();
        let bytes = format!("blkio.{by}.io_service_bytes_recursive");
        parse::blkio(folder.read_if_any(&bytes, content), |device, bytes| {
            if disks[..known].iter().all(|(of, _)| *of != device) {
                disks.push((device, Disk { bytes: *bytes, ..Disk::default() }));
            }
        });
        let operations = format!("blkio.{by}.io_serviced_recursive");
        parse::blkio(folder.read_if_any(&operations, content), |device, operations| {
            if let Some((_, disk)) = disks[known..].iter_mut().find(|(of, _)| *of == device) {
                disk.operations = *operations;
            }
        });
    }
    disks
}

fn disks_of_v2(folder: &Folder, content: &mut Vec<u8>) -> Vec<(Device, Disk)> {
    let mut disks = Vec::new();
    parse::io_stat(folder.read_if_any("io.stat", content), |device, bytes, operations| {
        disks.push((device, Disk { bytes: *bytes, operations: *operations }));
    });
    disks
}

fn first_process(folder: &Path, levels: usize, content: &mut Vec<u8>) -> Option<u32> {
    let processes =
        Folder::open(folder).ok()?.read("cgroup.procs", content).ok().map(parse::first_process)?;
    if processes.is_some() || levels == 0 {
        return processes;
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.find_map(|entry| first_process(&entry.path(), levels - 1, content))
}
