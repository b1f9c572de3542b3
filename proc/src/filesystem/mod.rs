//! The metric filesystem: how full the mounted file systems are, of /proc/1/mountinfo and statfs.

mod ask;
mod mounts;

use std::time::Duration;

use kumon_collect::settings::interval;
use kumon_collect::{Emitter, NamePatterns, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::error::ReadError;
use crate::metric::{Metric, Period, share};
use crate::parse::Mount;
use ask::{Answer, Asker, Numbers};
use mounts::Mounts;

/// Settings of the metric filesystem.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesystemSettings {
    pub enabled: bool,
    /// Time between two rows of a file system.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Types of file systems without rows.
    pub exclude_types: NamePatterns,
    /// Mount points that don't count.
    pub exclude_mount_points: NamePatterns,
}

impl Default for FilesystemSettings {
    /// Those left out are mostly what prometheus-node-exporter leaves out too: what holds no files of anybody's, images
    /// that are always full, and what container runtimes mount for each container.
    fn default() -> FilesystemSettings {
        let exclude_types = NamePatterns::of(&[
            "autofs",
            "binfmt_misc",
            "bpf",
            "cgroup*",
            "configfs",
            "debugfs",
            "devpts",
            "devtmpfs",
            "efivarfs",
            "erofs",
            "fuse.lxcfs",
            "fuse.snapfuse",
            "fusectl",
            "hugetlbfs",
            "iso9660",
            "mqueue",
            "nsfs",
            "overlay",
            "proc",
            "pstore",
            "ramfs",
            "rpc_pipefs",
            "securityfs",
            "selinuxfs",
            "squashfs",
            "sysfs",
            "tracefs",
        ]);
        let exclude_mount_points = NamePatterns::of(&[
            "/dev/*",
            "/proc/*",
            "/sys/*",
            "/run/containerd/*",
            "/run/credentials/*",
            "/var/lib/containers/storage/*",
            "/var/lib/docker/*",
            "/var/lib/kubelet/pods/*",
        ]);
        let interval = Duration::from_secs(60);
        FilesystemSettings { enabled: true, interval, exclude_types, exclude_mount_points }
    }
}

pub(crate) struct Filesystem {
    mounts: Mounts,
    asker: Asker,
}

impl Metric for Filesystem {
    const NAME: &'static str = "filesystem";
    const FILE: &'static str = "/proc/1/mountinfo";
    /// It waits for answers, though not for long.
    const MAY_HANG: bool = true;
    type Settings = FilesystemSettings;

    fn start(root: &Root, settings: &FilesystemSettings) -> Result<Filesystem, ReadError> {
        let mut mounts = Mounts::of_node(root, settings);
        mounts.file_systems()?;
        Ok(Filesystem { mounts, asker: Asker::default() })
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let file_systems = self.mounts.file_systems()?;
        let mut answers =
            self.asker.ask(file_systems.iter().map(|of| (of.device, of.places.clone())).collect());
        for file_system in &file_systems {
            let mut emit = |mount: usize, state, error: &str, numbers| {
                emit(period, &file_system.mounts[mount], state, error, numbers, emitter);
            };
            match answers.remove(&file_system.device) {
                Some(Answer::Numbers(numbers, mount)) => emit(mount, "ok", "", Some(&numbers)),
                Some(Answer::Unreadable(error)) => emit(0, "unreadable", &error, None),
                // Others lie over it: nobody can use it, and df doesn't show it either.
                Some(Answer::OutOfSight) if self.mounts.are_as_the_node_sees_them() => {}
                Some(Answer::OutOfSight) => emit(0, "unreadable", "KuMon's service can't see it", None),
                Some(Answer::Nothing) => {}
                Some(Answer::Hanging) => emit(0, "hanging", "", None),
                None => emit(0, "hanging", "not asked, as too many others hang", None),
            }
        }
        Ok(())
    }
}

fn emit(
    period: Period,
    mount: &Mount,
    state: &str,
    error: &str,
    numbers: Option<&Numbers>,
    emitter: &mut Emitter<'_>,
) {
    let number = |of: fn(&Numbers) -> u64| numbers.map(of);
    let used = number(|of| of.total.saturating_sub(of.free));
    // What only root may use is no part of the whole, as df and Elastic's agents have it.
    let usable = number(|of| of.total.saturating_sub(of.free).saturating_add(of.available));
    // Some file systems make inodes as they need them, and have no number of them.
    let inodes = numbers.filter(|of| of.inodes > 0);
    let row = rows::Filesystem {
        timestamp: period.timestamp,
        interval: period.interval,
        mount_point: &mount.point,
        device: &mount.source,
        file_system_type: &mount.kind,
        state: state.as_bytes(),
        error: error.as_bytes(),
        read_only: mount.read_only || mount.mounted_read_only,
        turned_read_only: mount.read_only && !mount.mounted_read_only,
        total: number(|of| of.total),
        free: number(|of| of.free),
        available: number(|of| of.available),
        used,
        used_pct: share(used, usable),
        inodes: inodes.map(|of| of.inodes),
        inodes_free: inodes.map(|of| of.inodes_free),
        inodes_used_pct: share(
            inodes.map(|of| of.inodes.saturating_sub(of.inodes_free)),
            inodes.map(|of| of.inodes),
        ),
    };
    emitter.emit(&row, &Subject::Node);
}

#[cfg(test)]
mod tests;
