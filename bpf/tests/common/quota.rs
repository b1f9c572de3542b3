//! Groups of processes with a quota of CPU time.

use std::path::{Path, PathBuf};
use std::process::Command;

use kumon_testing::{require, time_scale, wait_for};

/// A group whose processes run for so long in each period, together. It is removed in the end.
pub struct Quota {
    folder: PathBuf,
}

impl Quota {
    /// So many microseconds of each period of 50 ms; times [`time_scale`] both. None where no cgroup hierarchy has the cpu
    /// controller.
    pub fn new(name: &str, microseconds: u32) -> Option<Quota> {
        let (microseconds, period) = (microseconds * time_scale(), 50_000 * time_scale());
        let (mount, first) = hierarchy()?;
        let folder = mount.join(format!("kumon-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let quota = Quota { folder };
        if first {
            quota.write("cpu.cfs_period_us", &period.to_string());
            quota.write("cpu.cfs_quota_us", &microseconds.to_string());
        } else {
            quota.write("cpu.max", &format!("{microseconds} {period}"));
        }
        Some(quota)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    /// A command that runs in it from before its exec on.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.folder).arg(program);
        command.args(arguments);
        command
    }

    /// Takes a process in that runs already.
    pub fn take_in(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// In how many periods it was used up.
    pub fn times_used_up(&self) -> i64 {
        self.stat("nr_throttled ").unwrap()
    }

    /// How long it was used up on any CPU, ns.
    pub fn used_up(&self) -> i64 {
        self.stat("throttled_time ").unwrap_or_else(|| self.stat("throttled_usec ").unwrap() * 1_000)
    }

    fn stat(&self, name: &str) -> Option<i64> {
        let stat = std::fs::read_to_string(self.folder.join("cpu.stat")).unwrap();
        stat.lines().find_map(|line| line.strip_prefix(name)).map(|number| number.parse().unwrap())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        wait_for("the group to be empty", std::time::Duration::from_secs(10), || {
            std::fs::remove_dir(&self.folder).is_ok()
        });
    }
}

/// Where groups with the cpu controller are made, and whether that is the first version of cgroups.
fn hierarchy() -> Option<(PathBuf, bool)> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount_point = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
    let first = mounts.lines().find(|line| {
        let options = line.split_once(" - cgroup ").map(|(_, rest)| rest.rsplit(' ').next().unwrap());
        options.is_some_and(|options| options.split(',').any(|option| option == "cpu"))
    });
    if let Some(line) = first {
        return Some((mount_point(line)?, true));
    }
    let second = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(mount_point);
    let found = second.filter(|mount| has_cpu(mount));
    require(found.is_some(), "a cgroup hierarchy with the cpu controller").then_some((found?, false))
}

fn has_cpu(mount: &Path) -> bool {
    let _ = std::fs::write(mount.join("cgroup.subtree_control"), "+cpu");
    std::fs::read_to_string(mount.join("cgroup.subtree_control"))
        .is_ok_and(|on| on.split_whitespace().any(|one| one == "cpu"))
}
