//! The processes that there are, of the folders of /proc.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kumon_collect::{Process, Subject, cgroup2_mount};

use crate::Root;
use crate::error::ReadError;
use crate::parse;

/// Reads them.
#[derive(Debug)]
pub(crate) struct Tasks {
    proc: PathBuf,
    /// Where cgroup v2 is mounted; none on nodes that have cgroup v1 only.
    cgroups: Option<PathBuf>,
    /// Nanoseconds of a clock tick.
    tick: u64,
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
        let mounts = fs::read_to_string(root.path("/proc/self/mountinfo")).unwrap_or_default();
        let tasks = Tasks {
            proc: root.path("/proc"),
            cgroups: cgroup2_mount(&mounts),
            tick: 1_000_000_000 / rustix::param::clock_ticks_per_second(),
        };
        tasks.pids()?;
        Ok(tasks)
    }

    /// All of them, by their ids.
    pub(crate) fn all(&self) -> Result<Vec<Task>, ReadError> {
        let (seen, mut cgroups) = (kumon_collect::boottime(), HashMap::new());
        // Those that have ended meanwhile are no more.
        Ok(self.pids()?.into_iter().filter_map(|pid| self.task(pid, seen, &mut cgroups)).collect())
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

    fn task(&self, pid: u32, seen: u64, cgroups: &mut HashMap<Vec<u8>, u64>) -> Option<Task> {
        let folder = self.folder(pid);
        let stat = fs::read(folder.join("stat")).ok()?;
        let stat = parse::process_stat(&stat)?;
        let ids = fs::read(folder.join("status")).ok().and_then(|text| parse::owner(&text));
        Some(Task {
            pid,
            name: stat.name.to_vec(),
            state: stat.state,
            parent: stat.parent.try_into().ok()?,
            threads: stat.threads,
            start: stat.start.saturating_mul(self.tick),
            ids,
            cgroup: self.cgroup(&folder, cgroups),
            seen,
        })
    }

    /// The id of its cgroup, which is the inode of the cgroup's folder; 0 where it can't be found out.
    fn cgroup(&self, folder: &Path, known: &mut HashMap<Vec<u8>, u64>) -> u64 {
        let Some(mount) = &self.cgroups else { return 0 };
        let text = fs::read(folder.join("cgroup")).unwrap_or_default();
        let Some(path) = parse::cgroup_of(&text) else { return 0 };
        if let Some(id) = known.get(path) {
            return *id;
        }
        let below = OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path));
        let id = fs::metadata(mount.join(below)).map_or(0, |folder| folder.ino());
        known.insert(path.to_vec(), id);
        id
    }
}
