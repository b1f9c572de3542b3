//! The ladder of the file metrics: the functions of the kernel by fentry, or by kprobes, or else the tracepoints of the
//! system calls.

use std::sync::OnceLock;

use serde::Deserialize;

use super::{FILEGONE, FILELIFE};
use kumon_collect::Refusal;

use crate::probe;

/// A way to see all that the metrics tell of; the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AttachBackend {
    Fentry,
    Kprobe,
    Tracepoint,
}

/// The setting `collectors.file_hooks`: by which hooks filelife and filegone are attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileHooks {
    /// The best that the kernel has.
    #[default]
    Auto,
    /// BPF trampolines at functions of the kernel: the cheapest.
    Fentry,
    /// Kprobes at the same functions.
    Kprobe,
    /// The tracepoints of system calls, which slow every system call a little.
    Tracepoint,
}

/// One hook of a backend.
pub(super) struct Needed {
    /// What its program's section begins with.
    kind: &'static str,
    pub(super) event: &'static str,
    /// Those of the metrics it serves.
    pub(super) metrics: Vec<&'static str>,
}

/// The backend that works here.
#[derive(Debug)]
pub(super) struct Choice {
    /// The lowest one that was tried, if none works.
    pub(super) backend: AttachBackend,
    /// Better ones, and why they don't.
    pub(super) refused: Vec<Refusal>,
    /// Why the lowest one doesn't either, if none works.
    pub(super) impossible: Option<String>,
}

type Group = (&'static [&'static str], &'static [&'static str]);

const BOTH: &[&str] = &[FILELIFE, FILEGONE];
/// Where deletions and renames begin and succeed.
const REMOVALS: Group =
    (&["security_path_unlink", "security_path_rename", "d_delete", "d_move", "d_exchange"], BOTH);
const FOLDER_REMOVALS: Group = (&["security_path_rmdir"], &[FILEGONE]);

const SYSTEM_CALLS: [Group; 3] = [
    (&["sys_exit_open", "sys_exit_openat", "sys_exit_openat2", "sys_exit_creat"], &[FILELIFE]),
    (
        &[
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
        ],
        BOTH,
    ),
    (&["sys_enter_rmdir", "sys_exit_rmdir"], &[FILEGONE]),
];

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

impl FileHooks {
    /// The backends that may be used, the best first.
    pub(super) fn backends(self) -> &'static [AttachBackend] {
        match self {
            FileHooks::Auto => &[AttachBackend::Fentry, AttachBackend::Kprobe, AttachBackend::Tracepoint],
            FileHooks::Fentry => &[AttachBackend::Fentry],
            FileHooks::Kprobe => &[AttachBackend::Kprobe],
            FileHooks::Tracepoint => &[AttachBackend::Tracepoint],
        }
    }
}

impl AttachBackend {
    pub(super) fn name(self) -> &'static str {
        match self {
            AttachBackend::Fentry => probe::FENTRY,
            AttachBackend::Kprobe => probe::KPROBE,
            AttachBackend::Tracepoint => probe::TRACEPOINT,
        }
    }

    /// Whether it costs those nothing who do other things.
    pub(super) fn is_cheap(self) -> bool {
        self != AttachBackend::Tracepoint
    }

    /// The hooks that the metrics need.
    pub(super) fn needed(self, metrics: &[&'static str]) -> Vec<Needed> {
        let groups: Vec<(&'static str, Group)> = match self {
            AttachBackend::Fentry => vec![
                ("fexit", (opening_function(), &[FILELIFE])),
                ("fentry", REMOVALS),
                ("fentry", FOLDER_REMOVALS),
            ],
            AttachBackend::Kprobe => vec![
                ("kprobe", (&["vfs_open"], &[FILELIFE])),
                ("kprobe", REMOVALS),
                ("kprobe", FOLDER_REMOVALS),
            ],
            AttachBackend::Tracepoint => SYSTEM_CALLS.map(|group| ("tracepoint/syscalls", group)).into(),
        };
        let mut needed = Vec::new();
        for (kind, (events, serves)) in groups {
            let serves: Vec<_> = serves.iter().copied().filter(|metric| metrics.contains(metric)).collect();
            if !serves.is_empty() {
                needed.extend(events.iter().map(|&event| Needed { kind, event, metrics: serves.clone() }));
            }
        }
        needed.retain(|hook| cfg!(target_arch = "x86_64") || !OLD.contains(&hook.event));
        needed
    }
}

/// The function in which every open by a path ends, as this kernel names it; the older name where it has neither.
fn opening_function() -> &'static [&'static str] {
    static NAME: OnceLock<&[&str]> = OnceLock::new();
    NAME.get_or_init(
        || if probe::has_function("do_file_open") { &["do_file_open"] } else { &["do_filp_open"] },
    )
}

impl Needed {
    /// The section of its program.
    pub(super) fn section(&self) -> String {
        format!("{}/{}", self.kind, self.event)
    }

    /// Whether it can be attached here, or why not.
    pub(super) fn probe(&self) -> Result<&'static str, String> {
        let strategy = match self.kind {
            "fexit" => probe::fexit(self.event)?,
            "fentry" => probe::fentry(self.event)?,
            "kprobe" => probe::kprobe(self.event)?,
            _ => return probe::tracepoint("syscalls", self.event),
        };
        // What a thread is about to remove is kept there.
        probe::task_storage()?;
        Ok(strategy)
    }
}

impl Choice {
    /// The first of the backends that works for the metrics.
    pub(super) fn of(backends: &[AttachBackend], metrics: &[&'static str]) -> Choice {
        let mut refused = Vec::new();
        for &backend in backends {
            let refusal = backend.needed(metrics).iter().find_map(|hook| hook.probe().err());
            match refusal {
                Some(reason) if Some(&backend) != backends.last() => {
                    refused.push(Refusal { strategy: backend.name(), reason });
                }
                impossible => return Choice { backend, refused, impossible },
            }
        }
        Choice { backend: AttachBackend::Tracepoint, refused, impossible: None }
    }
}
