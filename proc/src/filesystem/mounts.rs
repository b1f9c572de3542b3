//! Which file systems are mounted, and where they can be asked.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kumon_collect::NamePatterns;

use super::FilesystemSettings;
use crate::Root;
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::parse::{self, Mount};

/// The node's mounts: those that the first process sees. A service may have others, and does where systemd protects files
/// from it (ProtectSystem, PrivateTmp).
#[derive(Debug)]
pub(super) struct Mounts {
    of_node: KernelFile,
    exclude_types: NamePatterns,
    exclude_mount_points: NamePatterns,
    /// Below it are the mount points.
    root: PathBuf,
    /// KuMon's own mounts, where the first process's root is closed to it: they have other ids, and other places.
    own: Option<KernelFile>,
}

/// Major and minor number.
pub(super) type Device = (u64, u64);

/// A file system, once, however often it is mounted.
#[derive(Debug)]
pub(super) struct FileSystem {
    pub(super) device: Device,
    /// Of the node, the one to be named first: as df does, one of the whole before one of a folder of it, then the one that
    /// is nearest to the root. There is at least one.
    pub(super) mounts: Vec<Mount>,
    pub(super) places: Vec<Place>,
}

/// Where a file system can be asked.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Which of its mounts is there.
    pub(super) mount: usize,
    pub(super) path: PathBuf,
    /// By which it is known whether something else lies over it.
    pub(super) id: u64,
}

impl Mounts {
    pub(super) fn of_node(root: &Root, settings: &FilesystemSettings) -> Mounts {
        let (own, files) = (root.path("/proc/self/mountinfo"), root.path("/"));
        let (first, first_files) = (root.path("/proc/1/mountinfo"), root.path("/proc/1/root"));
        // Where /proc hides the first process (hidepid) KuMon's own mounts have to do. Its root takes CAP_SYS_PTRACE.
        let (of_node, root, own) = match (File::open(&first), fs::metadata(&first_files)) {
            (Ok(_), Ok(_)) => (first, first_files, None),
            (Ok(_), Err(_)) => (first, files, Some(own)),
            (Err(_), _) => (own, files, None),
        };
        Mounts {
            of_node: KernelFile::at(of_node),
            exclude_types: settings.exclude_types.clone(),
            exclude_mount_points: settings.exclude_mount_points.clone(),
            root,
            own: own.map(KernelFile::at),
        }
    }

    /// Whether what can't be seen can't be seen by anybody.
    pub(super) fn are_as_the_node_sees_them(&self) -> bool {
        self.own.is_none()
    }

    /// Those that are mounted now and not excluded.
    pub(super) fn file_systems(&mut self) -> Result<Vec<FileSystem>, ReadError> {
        let mut of_node = self.of_node.read_as(parse::mounts)?;
        // Another one that lies on it at the same place hides it.
        let covered: HashSet<(u64, Vec<u8>)> =
            of_node.iter().map(|mount| (mount.parent, mount.point.clone())).collect();
        of_node.retain(|mount| {
            !covered.contains(&(mount.id, mount.point.clone()))
                && !self.exclude_types.matches(&mount.kind)
                && !self.exclude_mount_points.matches(&mount.point)
        });
        let own = self.own.as_mut().map(|own| own.read_as(parse::mounts)).transpose()?;
        let mut own = own.map(by_device);
        let file_systems = by_device(of_node).into_iter().map(|(device, mounts)| {
            let places = match &mut own {
                None => mounts.iter().enumerate().map(|(at, mount)| place(&self.root, mount, at)).collect(),
                // Wherever it is asked, the node knows it by its first mount.
                Some(own) => {
                    own.remove(&device).iter().flatten().map(|mount| place(&self.root, mount, 0)).collect()
                }
            };
            FileSystem { device, mounts, places }
        });
        Ok(file_systems.collect())
    }
}

fn by_device(mounts: Vec<Mount>) -> HashMap<Device, Vec<Mount>> {
    let mut by_device: HashMap<Device, Vec<Mount>> = HashMap::new();
    for mount in mounts {
        by_device.entry(mount.device).or_default().push(mount);
    }
    for mounts in by_device.values_mut() {
        mounts.sort_by_key(|mount| (!mount.whole, mount.point.len()));
    }
    by_device
}

fn place(root: &Path, mount: &Mount, at: usize) -> Place {
    let point = mount.point.strip_prefix(b"/").unwrap_or(&mount.point);
    Place { mount: at, path: root.join(OsStr::from_bytes(point)), id: mount.id }
}
