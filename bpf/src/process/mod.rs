//! Collects program executions and process ends and produces exec and exit.
//!
//! tp_btf/sched_process_exec gives the successful execs and tp_btf/sched_process_exit the ends; the failed execs,
//! which have no event of their own, come from the tracepoints of the system calls, where the setting asks for them.

mod rows;
mod settings;

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook};
use libbpf_rs::skel::OpenSkel;

pub(crate) use settings::Settings;
use settings::{ExecSettings, ExitSettings};

use crate::active::{BpfCollector, EventSource};
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, skeleton};
use crate::object_settings::ObjectSettings;
use crate::probe;
use crate::selection::Selection;
use rows::Rows;

skeleton!("process");

const NAME: &str = "process";
const EXEC: &str = "exec";
const EXIT: &str = "exit";
/// Where the kernel has it, it says what an exec was given that may fail after it has ended its program.
const PREPARE_EXEC: &str = "sched_prepare_exec";
/// The tracepoints of failed execs.
const SYSCALLS: [&str; 4] =
    ["sys_enter_execve", "sys_exit_execve", "sys_enter_execveat", "sys_exit_execveat"];

/// The collector of exec and exit.
#[derive(Debug)]
pub(crate) struct Process {
    object: ObjectSettings,
    exec: ExecSettings,
    exit: ExitSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Process {
    let Settings { exec, exit } = settings.clone();
    Process { object, exec, exit }
}

impl Process {
    fn failed_execs(&self) -> bool {
        self.exec.enabled && self.exec.failed
    }

    /// Since Linux 6.16 the tracepoint has a second argument, `group_dead`.
    fn exit_says_whether_group_is_dead(&self) -> bool {
        probe::parameters("sched_process_exit") == Some(2) && !self.object.as_on_old_kernels
    }

    /// Linux 6.10 and later do.
    fn exec_says_when_it_is_prepared(&self) -> bool {
        probe::parameters(PREPARE_EXEC).is_some() && !self.object.as_on_old_kernels
    }

    /// Whether failed execs are asked for and can be had. Where they can't, exec and exit go on without them.
    fn can_see_failed_execs(&self) -> bool {
        let refused = || SYSCALLS.iter().find_map(|event| failed_exec_hook(event).err());
        match self.failed_execs().then(refused) {
            None => false,
            Some(None) => true,
            Some(Some(why)) => {
                log::warn!("{NAME}: failed execs are left out (collectors.exec.failed): {why}");
                false
            }
        }
    }
}

impl Collector for Process {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let enabled = [(EXEC, self.exec.enabled), (EXIT, self.exit.enabled)];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let mut hooks = Vec::new();
        if self.exec.enabled {
            hooks.push(tp_btf(EXEC, "sched_process_exec"));
        }
        if self.exit.enabled {
            hooks.push(tp_btf(EXIT, "sched_process_exit"));
            if !self.exit_says_whether_group_is_dead() {
                hooks.push(tp_btf(EXIT, "sched_process_free"));
            }
        }
        if self.failed_execs() {
            hooks.extend(SYSCALLS.map(|event| Hook::new(vec![EXEC], event, failed_exec_hook(event))));
            if self.exec_says_when_it_is_prepared() {
                hooks.push(tp_btf(EXEC, PREPARE_EXEC));
            }
        }
        hooks
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let Process { object, exec, exit } = self;
        let selection = Selection::new(
            object,
            [
                (&exec.filter, exec.sample, exec.max_rows_per_second),
                (&exit.filter, exit.sample, exit.max_rows_per_second),
            ],
        );
        let mut open = object::open::<skeleton::ProcessSkelBuilder>(NAME, object, selection)?;
        let failed_execs = self.can_see_failed_execs();
        if let Some(constants) = open.skeleton.maps.rodata_data.as_deref_mut() {
            constants.max_args_bytes = exec.max_args_bytes;
            constants.has_prepare_exec = self.exec_says_when_it_is_prepared();
            constants.has_group_dead = self.exit_says_whether_group_is_dead();
        }
        open.skeleton.progs.on_exec.set_autoload(exec.enabled);
        open.skeleton.progs.on_exit.set_autoload(exit.enabled);
        let asks_who_was_last = exit.enabled && !self.exit_says_whether_group_is_dead();
        open.skeleton.progs.on_free.set_autoload(asks_who_was_last);
        open.size_map("ended", if asks_who_was_last { exit.max_unreaped } else { 1 })?;
        if !failed_execs {
            open.size_map("exec_buffers", 1)?;
            open.size_map("kept_execs", 1)?;
        }
        let calls = open.skeleton.maps.exec_calls.set_autocreate(failed_execs);
        calls.map_err(because(NAME, "leaving out what failed execs take"))?;
        for mut program in open.skeleton.open_object_mut().progs_mut() {
            if program.section().to_string_lossy().starts_with("tracepoint/") {
                program.set_autoload(failed_execs);
            }
        }
        open.skeleton.progs.prepare_exec.set_autoload(failed_execs && self.exec_says_when_it_is_prepared());
        let loaded = open.load()?;
        let events = EventSource::new(&loaded.skeleton.maps.events, Rows { mask: exec.mask })
            .map_err(because(NAME, "opening its ring buffer"))?;
        let links = loaded.attach()?;
        let metrics = Metrics {
            all: &[EXEC, EXIT],
            enabled: self.metrics(),
            served_by: |program| if ["on_exit", "on_free"].contains(&program) { &[EXIT] } else { &[EXEC] },
        };
        Ok(Box::new(BpfCollector::new(loaded, links, vec![Box::new(events)], metrics)))
    }
}

fn tp_btf(metric: &'static str, event: &'static str) -> Hook {
    Hook::new(vec![metric], event, probe::tp_btf(event))
}

/// What a call was given is kept in the storage of its task until it has failed.
fn failed_exec_hook(event: &str) -> Result<&'static str, String> {
    probe::task_storage()?;
    probe::tracepoint("syscalls", event)
}
