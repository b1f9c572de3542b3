//! Collects creations, deletions and renames of files and produces filelife and filegone.
//!
//! They come from functions of the kernel by fentry or kprobes, or else from the tracepoints of the system calls: see
//! `rung`. Those tell of a deletion with the path that was asked for; which file it means is then known in user space
//! only.

mod files;

mod rows;
mod rung;
mod settings;
mod uring;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use libbpf_rs::skel::OpenSkel;

pub use rung::FileHooks;
pub use settings::{Enabled, FilegoneSettings, FilelifeSettings};

use crate::containers::Containers;
use crate::object::{self, skeleton};
use crate::selection::Selection;
use crate::started::{EventSource, Metrics, Started};
use crate::{Collector, CollectorError, Entities, Hook, LeftOut, Running, Settings};
use files::Files;
use rows::Rows;
use rung::{Choice, Rung};
use uring::{Submission, UringCalls};

skeleton!("file");

const NAME: &str = "file";
const FILELIFE: &str = "filelife";
const FILEGONE: &str = "filegone";

/// The collector of filelife and filegone.
pub(crate) struct File {
    settings: Settings,
    /// Found out when it is asked for first.
    choice: OnceLock<Choice>,
}

impl File {
    pub(crate) fn new(settings: &Settings) -> File {
        File { settings: settings.clone(), choice: OnceLock::new() }
    }

    fn enabled(&self) -> [(&'static str, Enabled); 2] {
        [(FILELIFE, self.settings.filelife.enabled), (FILEGONE, self.settings.filegone.enabled)]
    }

    /// The metrics of which `enabled` is one of these.
    fn those(&self, wanted: &[Enabled]) -> Vec<&'static str> {
        let those = |(metric, enabled)| wanted.contains(&enabled).then_some(metric);
        self.enabled().into_iter().filter_map(those).collect()
    }

    fn choice(&self) -> &Choice {
        self.choice.get_or_init(|| {
            let metrics = self.those(&[Enabled::Yes, Enabled::Auto]);
            Choice::of(self.settings.file_hooks.rungs(), &metrics)
        })
    }

    /// Where calls by io_uring are counted, because nothing else shows them.
    fn counted_submission(&self, rung: Rung) -> Option<Submission> {
        let submission = (rung == Rung::Tracepoint).then(Submission::of_this_kernel)??;
        submission.hook(self.metrics()).strategy.is_ok().then_some(submission)
    }

    fn start_on(&self, rung: Rung) -> Result<Box<dyn Running>, CollectorError> {
        let metrics = self.metrics();
        let Settings { filelife, filegone, .. } = &self.settings;
        // Which file was short-lived is known in user space only, and so is what a sample leaves out.
        let selection = Selection::new(
            &self.settings,
            [(&filelife.filter, filelife.sample), (&filegone.filter, filegone.sample)],
        );
        let mut open = object::open::<skeleton::FileSkelBuilder>(NAME, &self.settings, selection)?;
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.filelife = metrics.contains(&FILELIFE);
            constants.filegone = metrics.contains(&FILEGONE);
        }
        let mut sections: Vec<String> = rung.needed(&metrics).iter().map(rung::Needed::section).collect();
        let submission = self.counted_submission(rung);
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
        let unused = if rung == Rung::Tracepoint {
            &mut open.skeleton.maps.removals
        } else {
            &mut open.skeleton.maps.file_calls
        };
        unused.set_autocreate(false).map_err(CollectorError::because(NAME, "leaving out an unused map"))?;
        let loaded = open.load()?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let files = metrics.contains(&FILELIFE).then(|| Files::new(&self.settings));
        let uring_calls = submission
            .map(|_| UringCalls::new(&loaded.skeleton.maps.uring_calls, self.metrics()))
            .transpose();
        let uring_calls =
            uring_calls.map_err(CollectorError::because(NAME, "opening its count of calls by io_uring"))?;
        let rows = Rows::new(entities, Containers::of_this_node(), files, uring_calls, own_mount_namespace());
        let events = EventSource::new(&loaded.skeleton.maps.events, rows)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        let metrics = Metrics { all: &[FILELIFE, FILEGONE], enabled: metrics, served_by };
        Ok(Box::new(Started::new(loaded, links, vec![Box::new(events)], metrics)))
    }
}

impl Collector for File {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let auto = self.those(&[Enabled::Auto]);
        if !auto.is_empty() && self.choice().rung.is_cheap() {
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
        let Choice { rung, refused, .. } = self.choice();
        let hook = |needed: rung::Needed| Hook {
            strategy: needed.probe(),
            metrics: needed.metrics,
            event: needed.event,
            refused: refused.clone(),
        };
        let counted = self.counted_submission(*rung).map(|submission| submission.hook(metrics.clone()));
        rung.needed(&metrics).into_iter().map(hook).chain(counted).collect()
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let choice = self.choice();
        if let Some(reason) = &choice.impossible {
            let reason = io::Error::other(reason.as_str());
            return Err(CollectorError::because(NAME, "looking for its hooks")(reason));
        }
        let best = choice.rung;
        let mut started = self.start_on(best);
        // A probe is less than the whole: what the verifier says to the real programs shows only here.
        for &rung in self.settings.file_hooks.rungs().iter().filter(|&&rung| rung > best) {
            let Err(refused) = started else { break };
            if self.those(&[Enabled::Yes]).is_empty() && !rung.is_cheap() {
                return Err(refused);
            }
            log::warn!("{refused}; going on with {}", rung.name());
            started = self.start_on(rung);
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
