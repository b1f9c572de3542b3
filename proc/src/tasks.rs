//! The processes that there are, of the folders of /proc.

use std::fs;
use std::path::PathBuf;

use kumon_collect::{Process, Subject, tick};

use crate::Root;
use crate::cgroups::Cgroups;
use crate::error::ReadError;
use crate::file::Folder;
use crate::hierarchies::Hierarchies;
use crate::parse;

/// Reads them.
#[derive(Debug)]
pub(crate) struct Tasks {
    proc: PathBuf,
    /// Where cgroup v2 is mounted; none on nodes that have cgroup v1 only.
    cgroups: Option<PathBuf>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) pid: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) threads: u64,
    /// Nanoseconds of CLOCK_BOOTTIME.
    pub(crate) start: u64,
    ids: Option<[u32; 2]>,
    /// 0 where it can't be found out.
    cgroup: u64,
    seen: u64,
}

impl Task {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::Process(Process {
            pid: self.pid,
            start: self.start,
            name: &self.name,
            uid: self.ids.map(|[uid, _]| uid),
            gid: self.ids.map(|[_, gid]| gid),
            cgroup: self.cgroup,
            seen: self.seen,
        })
    }
}

impl Tasks {
    pub(crate) fn of_node(root: &Root) -> Result<Tasks, ReadError> {
        let cgroups = Hierarchies::find(root).ok().and_then(|hierarchies| hierarchies.unified);
        let tasks = Tasks { proc: root.path("/proc"), cgroups };
        tasks.pids()?;
        Ok(tasks)
    }

    /// All of them, by their ids.
    pub(crate) fn all(&self) -> Result<Vec<Task>, ReadError> {
        let (seen, mut cgroups) = (kumon_collect::boottime(), Cgroups::new(self.cgroups.clone()));
        let mut content = Vec::new();
        // Those that have ended meanwhile are no more.
        let pids = self.pids()?.into_iter();
        Ok(pids.filter_map(|pid| self.task(pid, seen, &mut cgroups, &mut content)).collect())
    }

    /// Sorted.
    fn pids(&self) -> Result<Vec<u32>, ReadError> {
        let failed = |source| ReadError { path: self.proc.clone(), source };
        let entries = fs::read_dir(&self.proc).map_err(failed)?;
        let mut pids: Vec<u32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Where the files of a process are.
    pub(crate) fn folder(&self, pid: u32) -> PathBuf {
        self.proc.join(pid.to_string())
    }

    fn task(&self, pid: u32, seen: u64, cgroups: &mut Cgroups, content: &mut Vec<u8>) -> Option<Task> {
        let folder = Folder::open(&self.folder(pid)).ok()?;
        let stat = parse::process_stat(folder.read("stat", content).ok()?)?;
        let mut task = Task {
            pid,
            name: stat.name.to_vec(),
            state: stat.state,
            parent: stat.parent.try_into().ok()?,
            threads: stat.threads,
            start: stat.start.saturating_mul(tick()),
            ids: None,
            cgroup: 0,
            seen,
        };
        task.ids = parse::owner(folder.read_if_any("status", content));
        if let Some((_, [own, ..])) = cgroups.of(&folder, content) {
            task.cgroup = *own;
        }
        Some(task)
    }
}
