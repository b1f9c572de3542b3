//! The metric process: what processes use, of the files in /proc/<pid>.

mod details;
mod emit;
mod list;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kumon_collect::settings::interval;
use kumon_collect::{Candidate, Emitter, Filter, boottime, top};
use serde::Deserialize;

use self::details::{Details, Io};
use self::emit::{Row, Scale};
use self::list::{Listed, Processes, Times};
use crate::Root;
use crate::cgroups::Cgroups;
use crate::counter::added;
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::hierarchies::Hierarchies;
use crate::metric::{Metric, Period};
use crate::namespaces::Namespaces;
use crate::node::Node;
use crate::parse;

/// Settings of the metric process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Processes with rows of their own: those that took most CPU time.
    pub top_by_cpu: usize,
    /// The same: those that have most memory.
    pub top_by_memory: usize,
    /// Only these processes; others are not in the row `other` either.
    pub filter: Filter,
}

impl Default for ProcessSettings {
    /// cputime has the CPU time of processes in shorter intervals.
    fn default() -> ProcessSettings {
        ProcessSettings {
            enabled: true,
            interval: Duration::from_secs(60),
            top_by_cpu: 50,
            top_by_memory: 50,
            filter: Filter::default(),
        }
    }
}

pub(crate) struct Process {
    root: Root,
    settings: ProcessSettings,
    processes: Processes,
    delays: KernelFile,
    cgroups: Cgroups,
    networks: Namespaces,
    node: Node,
    scale: Scale,
    before: HashMap<u32, Known>,
    /// I/O of those that had rows.
    io_before: HashMap<u32, (u64, Io)>,
    /// When the last reading began, in ticks since the boot.
    began: u64,
    content: Vec<u8>,
}

/// What is known of a process since the last reading.
#[derive(Clone, Copy)]
struct Known {
    /// Another process of the same pid has another one.
    start: u64,
    times: Times,
}

/// A process, and what it used in the interval; none where it was there before and could not be seen.
#[derive(Clone, Copy)]
struct Used {
    process: Listed,
    times: Option<Times>,
    is_new: bool,
}

impl Used {
    fn cpu(&self) -> u64 {
        self.times.map_or(0, |times| times[0].saturating_add(times[1]))
    }
}

impl Metric for Process {
    const NAME: &'static str = "process";
    const FILE: &'static str = "/proc/<pid>/stat";
    /// There may be thousands of processes, and files of one wait for its locks.
    const MAY_HANG: bool = true;
    type Settings = ProcessSettings;

    fn start(root: &Root, settings: &ProcessSettings) -> Result<Process, ReadError> {
        let path = root.path("/proc");
        let processes = Processes::open(&path).map_err(|source| ReadError { path, source })?;
        // A node without cgroups has processes all the same.
        let mount = Hierarchies::find(root).ok().and_then(|hierarchies| hierarchies.unified);
        let mut process = Process {
            root: root.clone(),
            settings: settings.clone(),
            processes,
            delays: KernelFile::at(root.path("/proc/sys/kernel/task_delayacct")),
            cgroups: Cgroups::new(mount),
            networks: Namespaces::new(root),
            node: Node::new(root),
            scale: Scale::of_kernel(),
            before: HashMap::new(),
            io_before: HashMap::new(),
            began: 0,
            content: Vec::new(),
        };
        let used = process.read_all()?;
        let (chosen, _) = process.choose(used);
        for used in &chosen {
            process.details(&used.process);
            process.networks.of(used.process.pid);
        }
        Ok(process)
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let used = self.read_all()?;
        let (chosen, others) = self.choose(used);
        self.networks.begin();
        let io_before = std::mem::take(&mut self.io_before);
        let node = self.node.read();
        // Before Linux 5.14 there is no such switch.
        let accounts_delays = parse::value(self.delays.read_if_any()) != Some(0);
        for used in &chosen {
            let Listed { pid, start, .. } = used.process;
            let Some(details) = self.details(&used.process) else { continue };
            let io_before = io_before.get(&pid).filter(|(of, _)| *of == start).map(|(_, io)| *io);
            let row = Row {
                used,
                details,
                io_before,
                traffic: self.networks.of(pid),
                accounts_delays,
                node,
                scale: self.scale,
            };
            row.emit(period, emitter);
        }
        emit::others(&others, self.scale, period, emitter);
        Ok(())
    }
}

impl Process {
    /// All processes that the filter lets through, and what they used since the last reading.
    fn read_all(&mut self) -> Result<Vec<Used>, ReadError> {
        self.cgroups.begin();
        let (last, now) = (self.began, self.scale.ticks(boottime()));
        let listed = self.processes.list();
        let mut listed = listed.map_err(|source| ReadError { path: self.root.path("/proc"), source })?;
        if self.settings.filter != Filter::default() {
            listed.retain(|process| self.selects(process));
        }
        let mut known = HashMap::with_capacity(listed.len());
        let mut used = Vec::with_capacity(listed.len());
        for process in listed {
            let Listed { pid, start, times, .. } = process;
            let before = self.before.get(&pid).filter(|before| before.start == start);
            let is_new = before.is_none() && start >= last;
            let before = before.map(|before| before.times).or(is_new.then_some([0; 5]));
            let times = before.map(|before| std::array::from_fn(|at| added(before[at], times[at])));
            used.push(Used { process, times, is_new });
            known.insert(pid, Known { start, times: process.times });
        }
        (self.before, self.began) = (known, now);
        Ok(used)
    }

    fn selects(&mut self, process: &Listed) -> bool {
        let Process { processes, cgroups, content, settings, .. } = self;
        let Ok(folder) = processes.folder(process.pid) else { return false };
        let Some([uid, _]) = parse::owner(folder.read_if_any("status", content)) else { return false };
        let mount = cgroups.mount().to_owned();
        let (cgroup, cgroup_ids) = cgroups.of(&folder, content).unwrap_or_default();
        let cgroup = std::str::from_utf8(cgroup).unwrap_or_default();
        let names = match cgroup_ids.first() {
            Some(own) if settings.filter.has_names() => {
                kumon_collect::Cgroups::of_this_node().names(*own, self.scale.time(process.start))
            }
            _ => Arc::default(),
        };
        let candidate =
            Candidate { pid: process.pid, comm: process.name(), uid, cgroup, cgroup_ids, names: &names };
        settings.filter.selects(&candidate, &mount)
    }

    /// Those with rows of their own, and the others. Of equals it is those with the lowest pids.
    fn choose(&self, used: Vec<Used>) -> (Vec<Used>, Vec<Used>) {
        let ProcessSettings { top_by_cpu, top_by_memory, .. } = self.settings;
        let largest = |limit, weight: fn(&Used) -> u64| {
            let some = used.iter().filter(|used| weight(used) > 0).collect();
            let (largest, _) = top(some, limit, |used| weight(used));
            largest.into_iter().map(|used| used.process.pid).collect::<Vec<_>>()
        };
        let mut chosen: HashSet<u32> = largest(top_by_cpu, Used::cpu).into_iter().collect();
        chosen.extend(largest(top_by_memory, |used| used.process.resident));
        used.into_iter().partition(|used| chosen.contains(&used.process.pid))
    }

    /// None of a process that has ended meanwhile.
    fn details(&mut self, process: &Listed) -> Option<Details> {
        let folder = self.processes.folder(process.pid).ok()?;
        let details = Details::read(&folder, &mut self.cgroups, &mut self.content);
        if let Some(io) = details.io {
            self.io_before.insert(process.pid, (process.start, io));
        }
        Some(details)
    }
}
