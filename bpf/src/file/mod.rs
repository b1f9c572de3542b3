//! Collects creations, deletions and renames of files and produces filelife and filegone.
//!
//! They come from functions of the kernel by fentry or kprobes, or else from the tracepoints of the system calls: see
//! `backend`. Those tell of a deletion with the path that was asked for; which file it means is then known in user space
//! only.

mod files;

mod backend;
mod rows;
mod settings;
mod uring;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook, LeftOut};
use libbpf_rs::skel::OpenSkel;

pub use backend::FileHooks;
pub use settings::Enabled;
pub(crate) use settings::Settings;
use settings::{FilegoneSettings, FilelifeSettings};

use crate::active::{BpfCollector, EventSource};
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, skeleton};
use crate::object_settings::ObjectSettings;
use crate::selection::Selection;
use backend::{AttachBackend, Choice};
use files::Files;
use rows::Rows;
use uring::{Submission, UringCalls};

skeleton!("file");

const NAME: &str = "file";
const FILELIFE: &str = "filelife";
const FILEGONE: &str = "filegone";

/// The collector of filelife and filegone.
pub(crate) struct File {
    object: ObjectSettings,
    hooks: FileHooks,
    filelife: FilelifeSettings,
    filegone: FilegoneSettings,
    /// Found out when it is asked for first.
    choice: OnceLock<Choice>,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> File {
    let Settings { file_hooks, filelife, filegone } = settings.clone();
    File { object, hooks: file_hooks, filelife, filegone, choice: OnceLock::new() }
}

impl File {
    fn enabled(&self) -> [(&'static str, Enabled); 2] {
        [(FILELIFE, self.filelife.enabled), (FILEGONE, self.filegone.enabled)]
    }

    /// The metrics of which `enabled` is one of these.
    fn those(&self, wanted: &[Enabled]) -> Vec<&'static str> {
        let those = |(metric, enabled)| wanted.contains(&enabled).then_some(metric);
        self.enabled().into_iter().filter_map(those).collect()
    }

    fn choice(&self) -> &Choice {
        self.choice.get_or_init(|| {
            let metrics = self.those(&[Enabled::Yes, Enabled::Auto]);
            Choice::of(self.hooks.backends(), &metrics)
        })
    }

    /// Where calls by io_uring are counted, because nothing else shows them.
    fn counted_submission(&self, backend: AttachBackend) -> Option<Submission> {
        let submission = (backend == AttachBackend::Tracepoint).then(Submission::of_this_kernel)??;
        submission.hook(self.metrics()).strategy.is_ok().then_some(submission)
    }

    fn start_on(&self, backend: AttachBackend) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let metrics = self.metrics();
        let File { filelife, filegone, .. } = self;
        // Which file was short-lived is known in user space only, and so is what a sample or a budget leaves out.
        let selection = Selection::new(
            &self.object,
            [
                (&filelife.filter, filelife.sample, filelife.max_rows_per_second),
                (&filegone.filter, filegone.sample, filegone.max_rows_per_second),
            ],
        );
        let mut open = object::open::<skeleton::FileSkelBuilder>(NAME, &self.object, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.filelife = metrics.contains(&FILELIFE);
            constants.filegone = metrics.contains(&FILEGONE);
        }
        let mut sections: Vec<String> =
            backend.needed(&metrics).iter().map(backend::Needed::section).collect();
        let submission = self.counted_submission(backend);
        if let Some(submission) = &submission {
            sections.push(submission.section());
            if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
                constants.opcode_argument = submission.opcode_argument;
            }
        }
        for mut program in open.skeleton.open_object_mut().progs_mut() {
            let needed = sections.iter().any(|section| *program.section() == **section);
            program.set_autoload(needed);
        }
        // Task storage is younger than the tracepoints.
        let unused = if backend == AttachBackend::Tracepoint {
            &mut open.skeleton.maps.removals
        } else {
            &mut open.skeleton.maps.file_calls
        };
        unused.set_autocreate(false).map_err(because(NAME, "leaving out an unused map"))?;
        let loaded = open.load()?;
        let files = metrics.contains(&FILELIFE).then(|| Files::new(filelife));
        let uring_calls = submission
            .map(|_| UringCalls::new(&loaded.skeleton.maps.uring_calls, self.metrics()))
            .transpose();
        let uring_calls = uring_calls.map_err(because(NAME, "opening its count of calls by io_uring"))?;
        let rows = Rows::new(files, uring_calls, own_mount_namespace());
        let events = EventSource::new(&loaded.skeleton.maps.events, rows)
            .map_err(because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        let metrics = Metrics { all: &[FILELIFE, FILEGONE], enabled: metrics, served_by };
        Ok(Box::new(BpfCollector::new(loaded, links, vec![Box::new(events)], metrics)))
    }
}

impl Collector for File {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let auto = self.those(&[Enabled::Auto]);
        if !auto.is_empty() && self.choice().backend.is_cheap() {
            return self.those(&[Enabled::Yes, Enabled::Auto]);
        }
        self.those(&[Enabled::Yes])
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let metrics = self.metrics();
        let mut left_out = self.those(&[Enabled::Auto]);
        left_out.retain(|metric| !metrics.contains(metric));
        let because = |metric| LeftOut {
            metric,
            reason: format!(
                "'enabled: auto' doesn't take the tracepoints of system calls, which slow all a little and \
                 don't show calls by io_uring; set collectors.{metric}.enabled: true to take them"
            ),
            refused: self.choice().refused.clone(),
        };
        left_out.into_iter().map(because).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let metrics = self.metrics();
        if metrics.is_empty() {
            return Vec::new();
        }
        let Choice { backend, refused, .. } = self.choice();
        let hook = |needed: backend::Needed| Hook {
            strategy: needed.probe(),
            metrics: needed.metrics,
            event: needed.event,
            refused: refused.clone(),
        };
        let counted = self.counted_submission(*backend).map(|submission| submission.hook(metrics.clone()));
        backend.needed(&metrics).into_iter().map(hook).chain(counted).collect()
    }

    fn configuration(&self) -> String {
        let File { object, hooks, filelife, filegone, choice: _ } = self;
        format!("{:?}", (object, hooks, filelife, filegone))
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let choice = self.choice();
        if let Some(reason) = &choice.impossible {
            let reason = io::Error::other(reason.as_str());
            return Err(because(NAME, "looking for its hooks")(reason));
        }
        let best = choice.backend;
        let mut started = self.start_on(best);
        // A probe is less than the whole: what the verifier says to the real programs shows only here.
        for &backend in self.hooks.backends().iter().filter(|&&backend| backend > best) {
            let Err(refused) = started else { break };
            if self.those(&[Enabled::Yes]).is_empty() && !backend.is_cheap() {
                return Err(refused);
            }
            log::warn!("{refused}; going on with {}", backend.name());
            started = self.start_on(backend);
        }
        started
    }
}

/// The metrics that a program serves: creations are filelife's alone, the rmdir of folders filegone's.
fn served_by(program: &str) -> &'static [&'static str] {
    match program {
        "exit_open" | "exit_openat" | "exit_openat2" | "exit_creat" | "fexit_open" | "fexit_open_renamed"
        | "kprobe_open" => &[FILELIFE],
        "enter_rmdir" | "exit_rmdir" | "fentry_rmdir" | "kprobe_rmdir" => &[FILEGONE],
        // They only count what is lost.
        "submit_req" | "submit_sqe" => &[],
        _ => &[FILELIFE, FILEGONE],
    }
}

/// The number that the kernel's `ns.inum` is too; 0 where /proc doesn't tell.
fn own_mount_namespace() -> u32 {
    fs::metadata("/proc/self/ns/mnt").map_or(0, |namespace| namespace.ino() as u32)
}
