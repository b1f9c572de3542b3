//! Collects creations, deletions and renames of files and produces filelife and filegone.
//!
//! They come from the tracepoints of the system calls. Which path means which file is known in user space only: a
//! creation is told with the path of what was created, a deletion with the path that was asked for.

mod files;
mod path;
mod rows;
mod settings;

use std::fs;
use std::os::unix::fs::MetadataExt;

use libbpf_rs::skel::OpenSkel;

pub use settings::{FilegoneSettings, FilelifeSettings};

use crate::containers::Containers;
use crate::object::{self, skeleton};
use crate::selection::Selection;
use crate::started::{EventSource, Metrics, Started};
use crate::{Collector, CollectorError, Entities, Hook, Running, Settings, probe};
use files::Files;
use rows::Rows;

skeleton!("file");

const NAME: &str = "file";
const FILELIFE: &str = "filelife";
const FILEGONE: &str = "filegone";
/// Of files that are created; only filelife needs them.
const CREATIONS: [&str; 4] = ["sys_exit_open", "sys_exit_openat", "sys_exit_openat2", "sys_exit_creat"];
/// Of files that are deleted or renamed.
const DELETIONS: [&str; 10] = [
    "sys_enter_unlink",
    "sys_exit_unlink",
    "sys_enter_unlinkat",
    "sys_exit_unlinkat",
    "sys_enter_rename",
    "sys_exit_rename",
    "sys_enter_renameat",
    "sys_exit_renameat",
    "sys_enter_renameat2",
    "sys_exit_renameat2",
];
/// Of folders that are deleted; only filegone needs them.
const FOLDERS: [&str; 2] = ["sys_enter_rmdir", "sys_exit_rmdir"];

/// System calls that newer architectures don't have: their C library uses those with `at`.
const OLD: [&str; 8] = [
    "sys_exit_open",
    "sys_exit_creat",
    "sys_enter_unlink",
    "sys_exit_unlink",
    "sys_enter_rename",
    "sys_exit_rename",
    "sys_enter_rmdir",
    "sys_exit_rmdir",
];

/// The collector of filelife and filegone.
pub(crate) struct File {
    settings: Settings,
}

impl File {
    pub(crate) fn new(settings: &Settings) -> File {
        File { settings: settings.clone() }
    }

    /// The tracepoints that the enabled metrics need, and which of these each serves.
    fn events(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let metrics = self.metrics();
        let groups: [(&[&'static str], &[&'static str]); 3] =
            [(&CREATIONS, &[FILELIFE]), (&DELETIONS, &[FILELIFE, FILEGONE]), (&FOLDERS, &[FILEGONE])];
        let mut events = Vec::new();
        for (group, of) in groups {
            let of: Vec<_> = of.iter().copied().filter(|metric| metrics.contains(metric)).collect();
            if !of.is_empty() {
                events.extend(group.iter().map(|&event| (event, of.clone())));
            }
        }
        events.retain(|(event, _)| cfg!(target_arch = "x86_64") || !OLD.contains(event));
        events
    }
}

impl Collector for File {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let enabled =
            [(FILELIFE, self.settings.filelife.enabled), (FILEGONE, self.settings.filegone.enabled)];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let hook = |(event, metrics)| Hook { metrics, event, strategy: probe::tracepoint("syscalls", event) };
        self.events().into_iter().map(hook).collect()
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let selection = Selection::new(&self.settings, []);
        let mut open = object::open::<skeleton::FileSkelBuilder>(NAME, &self.settings, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.filelife = self.settings.filelife.enabled;
            constants.filegone = self.settings.filegone.enabled;
        }
        let events = self.events();
        for mut program in open.skeleton.open_object_mut().progs_mut() {
            let section = program.section().to_string_lossy().into_owned();
            let event = section.strip_prefix("tracepoint/syscalls/");
            program.set_autoload(events.iter().any(|(needed, _)| Some(*needed) == event));
        }
        let loaded = open.load()?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let rows = Rows {
            entities,
            containers: Containers::of_this_node(),
            files: self.settings.filelife.enabled.then(|| Files::new(&self.settings)),
            filegone: self.settings.filegone.enabled,
            mount_namespace: own_mount_namespace(),
        };
        let events = EventSource::new(&loaded.skeleton.maps.events, rows)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        let metrics = Metrics { all: &[FILELIFE, FILEGONE], enabled: self.metrics(), served_by };
        Ok(Box::new(Started::new(loaded, links, vec![Box::new(events)], metrics)))
    }
}

/// The metrics that a program serves: creations are filelife's alone, the rmdir of folders filegone's.
fn served_by(program: &str) -> &'static [&'static str] {
    match program {
        "exit_open" | "exit_openat" | "exit_openat2" | "exit_creat" => &[FILELIFE],
        "enter_rmdir" | "exit_rmdir" => &[FILEGONE],
        _ => &[FILELIFE, FILEGONE],
    }
}

/// The number that the kernel's `ns.inum` is too; 0 where /proc doesn't tell.
fn own_mount_namespace() -> u32 {
    fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino() as u32)
}
