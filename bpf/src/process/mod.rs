//! Collects program executions and process ends and produces exec and exit.
//!
//! tp_btf/sched_process_exec gives the successful execs and tp_btf/sched_process_exit the ends; the failed execs,
//! which have no event of their own, come from the tracepoints of the system calls, where the setting asks for them.

mod mask;
mod rows;
mod settings;

use std::time::Instant;

use kumon_spool::Spool;
use libbpf_rs::Link;
use libbpf_rs::skel::{OpenSkel, Skel};

pub use settings::{ExecSettings, ExitSettings};

use crate::containers::Containers;
use crate::events::Events;
use crate::object::{self, skeleton};
use crate::{Clock, Collector, CollectorError, Entities, Hook, Loss, ProgramCost, Running, Settings, probe};
use rows::Rows;
use skeleton::ProcessSkel;

skeleton!("process");

const NAME: &str = "process";
const EXEC: &str = "exec";
const EXIT: &str = "exit";
/// The tracepoints of failed execs.
const SYSCALLS: [&str; 4] =
    ["sys_enter_execve", "sys_exit_execve", "sys_enter_execveat", "sys_exit_execveat"];

/// The collector of exec and exit.
pub(crate) struct Process {
    settings: Settings,
}

impl Process {
    pub(crate) fn new(settings: &Settings) -> Process {
        Process { settings: settings.clone() }
    }

    fn failed_execs(&self) -> bool {
        self.settings.exec.enabled && self.settings.exec.failed
    }

    /// Whether failed execs are asked for and can be had. Where they can't, exec and exit go on without them.
    fn can_see_failed_execs(&self) -> bool {
        let refused = || SYSCALLS.iter().find_map(|event| probe::tracepoint("syscalls", event).err());
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
        let enabled = [(EXEC, self.settings.exec.enabled), (EXIT, self.settings.exit.enabled)];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let mut hooks = Vec::new();
        if self.settings.exec.enabled {
            hooks.push(tp_btf(EXEC, "sched_process_exec"));
        }
        if self.settings.exit.enabled {
            hooks.push(tp_btf(EXIT, "sched_process_exit"));
        }
        if self.failed_execs() {
            hooks.extend(SYSCALLS.map(|event| Hook {
                metrics: vec![EXEC],
                event,
                strategy: probe::tracepoint("syscalls", event),
            }));
        }
        hooks
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let mut open = object::open::<skeleton::ProcessSkelBuilder>(NAME)?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.self_tgid = self.settings.self_tgid();
            constants.max_args_bytes = self.settings.exec.max_args_bytes;
            constants.has_group_dead = exit_says_whether_group_is_dead();
        }
        object::size_events(NAME, &mut open.maps.events, &self.settings)?;
        open.progs.on_exec.set_autoload(self.settings.exec.enabled);
        open.progs.on_exit.set_autoload(self.settings.exit.enabled);
        let failed_execs = self.can_see_failed_execs();
        for mut program in open.open_object_mut().progs_mut() {
            if program.section().to_string_lossy().starts_with("tracepoint/") {
                program.set_autoload(failed_execs);
            }
        }
        let skeleton = open.load().map_err(CollectorError::because(NAME, "loading its BPF programs"))?;
        let events = Events::new(&skeleton.maps.events)
            .map_err(CollectorError::because(NAME, "opening its ring buffer"))?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let links = object::attach(NAME, skeleton.object())?;
        let rows = Rows { entities, containers: Containers::of_this_node(), mask: self.settings.exec.mask };
        Ok(Box::new(Started { links, events, rows, metrics: self.metrics(), skeleton }))
    }
}

/// The collector at work.
struct Started {
    links: Vec<Link>,
    events: Events,
    rows: Rows,
    metrics: Vec<&'static str>,
    skeleton: ProcessSkel<'static>,
}

impl Running for Started {
    fn poll(
        &mut self,
        clock: &Clock,
        _now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError> {
        if last {
            self.links.clear();
        }
        let rows = &mut self.rows;
        self.events
            .take(last, |event| rows.append(event, clock, spool))
            .map_err(CollectorError::because(NAME, "reading its ring buffer"))
    }

    fn losses(&self) -> Vec<Loss> {
        let metric_of = |program: &str| if program == "on_exit" { EXIT } else { EXEC };
        let mut losses = object::losses(self.skeleton.object(), &[EXEC, EXIT], metric_of);
        losses.retain(|loss| self.metrics.contains(&loss.metric));
        losses
    }

    fn programs(&self) -> Vec<ProgramCost> {
        object::programs(self.skeleton.object())
    }
}

fn tp_btf(metric: &'static str, event: &'static str) -> Hook {
    Hook { metrics: vec![metric], event, strategy: probe::tp_btf(event) }
}

/// Since Linux 6.16 the tracepoint has a second argument, `group_dead`.
fn exit_says_whether_group_is_dead() -> bool {
    probe::parameters("sched_process_exit") == Some(2)
}
