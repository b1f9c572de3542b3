//! Collects waits for a CPU and CPU time from the scheduler's own accounts, and produces runqlat, runqlat_hist, runqslower
//! and cputime. One program on tp_btf/sched_switch serves them all.

mod cputime;
mod runqlat;
mod runqslower;
mod settings;

use std::io;
use std::time::{Duration, Instant};

use kumon_collect::{ActiveCollector, Collector, CollectorError, Hook, MaxRows, Sample};
use libbpf_rs::{Link, MapType};
use rustix::time::{ClockId, clock_gettime};

pub(crate) use settings::Settings;
use settings::{CputimeSettings, RunqlatSettings, RunqslowerSettings};

use crate::active::{Attached, BpfCollector, EventSource, Source};
use crate::error::because;
use crate::losses::Metrics;
use crate::object::{self, Opened, skeleton};
use crate::object_settings::ObjectSettings;
use crate::probe;
use crate::selection::{Selection, in_initial_pid_namespace};
use cputime::Cputime;
use runqlat::{Runqlat, RunqlatPerCgroup};
use runqslower::Runqslower;
use skeleton::{OpenSchedSkel, SchedSkel};

skeleton!("sched");

const NAME: &str = "sched";
const RUNQLAT: &str = "runqlat";
const RUNQLAT_HIST: &str = "runqlat_hist";
const RUNQSLOWER: &str = "runqslower";
const CPUTIME: &str = "cputime";

/// The collector of runqlat, runqslower and cputime.
#[derive(Debug)]
pub(crate) struct Sched {
    object: ObjectSettings,
    /// Where they are kept in a map of this size.
    max_waiting_threads: u32,
    runqlat: RunqlatSettings,
    runqslower: RunqslowerSettings,
    cputime: CputimeSettings,
}

pub(crate) fn collector(object: ObjectSettings, settings: &Settings) -> Sched {
    let Settings { max_waiting_threads, runqlat, runqslower, cputime } = settings.clone();
    Sched { object, max_waiting_threads, runqlat, runqslower, cputime }
}

impl Sched {
    fn measures_waits(&self) -> bool {
        self.runqlat.enabled || self.runqslower.enabled
    }

    /// Its object, configured and sized.
    pub(crate) fn open(&self) -> Result<Opened<OpenSchedSkel<'static>>, CollectorError> {
        let Sched { runqlat, runqslower, cputime, .. } = self;
        let filters = [
            (&runqlat.filter, runqlat.sample, MaxRows::UNLIMITED),
            (&runqslower.filter, runqslower.sample, runqslower.max_rows_per_second),
            (&cputime.filter, Sample::default(), MaxRows::UNLIMITED),
        ];
        let selection = Selection::new(&self.object, filters);
        let mut open = object::open::<skeleton::SchedSkelBuilder>(NAME, &self.object, selection)?;
        self.configure(&mut open.skeleton);
        self.keep_tasks(&mut open.skeleton).map_err(because(NAME, "keeping what tasks did"))?;
        open.make_interval("ended", if cputime.enabled { cputime.max_ended } else { 1 })?;
        if runqlat.enabled && runqlat.per_cgroup {
            open.make_interval("cgroup_waits", runqlat.max_cgroups)?;
        } else if runqlat.enabled {
            open.make_interval("waits", 1)?;
        }
        Ok(open)
    }

    fn configure(&self, open: &mut OpenSchedSkel<'_>) {
        let Sched { runqlat, runqslower, cputime, .. } = self;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.with_runqlat = runqlat.enabled;
            constants.waits_per_cgroup = runqlat.per_cgroup;
            constants.with_cputime = cputime.enabled;
            constants.per_thread = cputime.threads;
            constants.lists_all_tasks = in_initial_pid_namespace();
            if runqslower.enabled {
                // 0 would switch it off.
                constants.slow_threshold = nanoseconds(runqslower.threshold).max(1);
            }
            let now = clock_gettime(ClockId::Monotonic);
            constants.collecting_since = (now.tv_sec * 1_000_000_000 + now.tv_nsec) as u64;
        }
        open.progs.newtask.set_autoload(self.measures_waits());
        let follows_wakeups = self.follows_wakeups();
        for waking in [&mut open.progs.wakeup, &mut open.progs.wakeup_new] {
            waking.set_autoload(follows_wakeups);
        }
    }

    /// Whether a task may begin to wait for quota when it is woken.
    fn follows_wakeups(&self) -> bool {
        self.measures_waits() && probe::throttles_queues()
    }

    /// Where tasks have no storage of their own, or now and then it isn't found, a hash map takes its place, whose lookups
    /// are certain: what a task has done already would be told again.
    fn keep_tasks(&self, open: &mut OpenSchedSkel<'_>) -> libbpf_rs::Result<()> {
        let usable = probe::task_storage().is_ok() && probe::task_storage_is_always_found();
        if usable && !self.object.as_on_old_kernels {
            return Ok(());
        }
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.has_task_storage = false;
        }
        open.maps.tasks.set_type(MapType::Hash)?;
        open.maps.tasks.set_map_flags(0)?;
        open.maps.tasks.set_max_entries(self.max_waiting_threads)
    }

    /// Every task has its record before the first wait is looked at: from its creation on, or from `tasks`.
    fn attach(&self, skeleton: &SchedSkel<'static>, tasks: &mut Cputime) -> Result<Hooks, CollectorError> {
        let programs = &skeleton.progs;
        let mut links = Vec::new();
        if self.measures_waits() {
            links.push(object::attach_program(NAME, &programs.newtask)?);
        }
        tasks.read_tasks().map_err(because(NAME, "reading the tasks that run"))?;
        links.push(object::attach_program(NAME, &programs.sched_switch)?);
        Ok(Hooks { links, wakeups_to_come: self.follows_wakeups() })
    }
}

/// What is attached: to wake-ups only from when on a CPU quota was used up.
struct Hooks {
    links: Vec<Link>,
    wakeups_to_come: bool,
}

impl Attached<SchedSkel<'static>> for Hooks {
    fn renew(&mut self, skeleton: &SchedSkel<'static>, _now: Instant) {
        if !self.wakeups_to_come {
            return;
        }
        // SAFETY: the map is mapped as long as the skeleton lives; the kernel sets it.
        let seen = skeleton
            .maps
            .bss_data
            .as_deref()
            .is_some_and(|bss| unsafe { (&raw const bss.quotas_seen).read_volatile() } != 0);
        if !seen {
            return;
        }
        self.wakeups_to_come = false;
        for program in [&skeleton.progs.wakeup, &skeleton.progs.wakeup_new] {
            match object::attach_program(NAME, program) {
                Ok(link) => self.links.push(link),
                Err(e) => log::warn!(
                    "{e}; waits of threads that are woken while their CPU quota is used up are taken for waits for a CPU"
                ),
            }
        }
    }

    fn detach(&mut self) {
        self.links.clear();
    }
}

impl Collector for Sched {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let Sched { runqlat, runqslower, cputime, .. } = self;
        let enabled = [
            (RUNQLAT, runqlat.enabled),
            (RUNQLAT_HIST, runqlat.enabled),
            (RUNQSLOWER, runqslower.enabled),
            (CPUTIME, cputime.enabled),
        ];
        enabled.into_iter().filter_map(|(metric, enabled)| enabled.then_some(metric)).collect()
    }

    fn probe(&self) -> Vec<Hook> {
        let mut waits = self.metrics();
        waits.retain(|&metric| metric != CPUTIME);
        let tp_btf = |metrics, event| Hook::new(metrics, event, probe::tp_btf(event));
        let mut hooks = vec![
            tp_btf(self.metrics(), "sched_switch"),
            Hook::new(self.metrics(), "task", probe::iterator("task")),
        ];
        hooks.push(tp_btf(waits.clone(), "task_newtask"));
        if self.follows_wakeups() {
            for event in ["sched_wakeup", "sched_wakeup_new"] {
                hooks.push(tp_btf(waits.clone(), event));
            }
        }
        hooks.push(Hook::new(waits, "sched_info", probe::account_of_waits()));
        hooks.retain(|hook| !hook.metrics.is_empty());
        hooks
    }

    fn configuration(&self) -> String {
        format!("{self:?}")
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        let Sched { runqlat, runqslower, cputime, .. } = self;
        if self.measures_waits() {
            // What the kernel says to programs that it can't load is less than this.
            probe::account_of_waits()
                .map_err(io::Error::other)
                .map_err(because(NAME, "looking for the account of waits"))?;
        }
        let mut loaded = self.open()?.load()?;
        let opened = "opening its BPF maps";
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if runqslower.enabled {
            let events = EventSource::new(&loaded.skeleton.maps.events, Runqslower);
            sources.push(Box::new(events.map_err(because(NAME, opened))?));
        }
        if runqlat.enabled && runqlat.per_cgroup {
            sources.push(Box::new(RunqlatPerCgroup::new(loaded.interval("cgroup_waits")?, runqlat)));
        } else if runqlat.enabled {
            sources.push(Box::new(Runqlat::new(loaded.interval("waits")?, runqlat)));
        }
        let ended = loaded.interval("ended")?;
        let mut tasks = Cputime::new(&loaded.skeleton, ended, cputime).map_err(because(NAME, opened))?;
        // Last, for what is told before a map is there finds no place.
        let hooks = self.attach(&loaded.skeleton, &mut tasks)?;
        if cputime.enabled {
            sources.push(Box::new(tasks));
        }
        let metrics = Metrics { all: &[RUNQLAT, RUNQSLOWER, CPUTIME], enabled: self.metrics(), served_by };
        Ok(Box::new(BpfCollector::new(loaded, hooks, sources, metrics)))
    }
}

/// The metrics that a program serves.
fn served_by(program: &str) -> &'static [&'static str] {
    match program {
        "sched_switch" => &[RUNQLAT, RUNQSLOWER, CPUTIME],
        "read_tasks" => &[CPUTIME],
        _ => &[RUNQLAT, RUNQSLOWER],
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
