//! Collects waits for a CPU and CPU time from the scheduler's tracepoints and accounts, and produces runqlat,
//! runqlat_hist, runqslower and cputime. One program on tp_btf/sched_switch serves them all.

mod cputime;
mod runqlat;
mod runqslower;
mod settings;

use std::time::{Duration, Instant};

use kumon_spool::Spool;
use libbpf_rs::Link;
use libbpf_rs::skel::{OpenSkel, Skel};
use rustix::time::{ClockId, clock_gettime};

pub use settings::{CputimeSettings, RunqlatSettings, RunqslowerSettings};

use crate::object::{self, skeleton};
use crate::{Clock, Collector, CollectorError, Entities, Hook, Loss, ProgramCost, Running, Settings, probe};
use cputime::Cputime;
use runqlat::Runqlat;
use runqslower::Runqslower;
use skeleton::{OpenSchedSkel, SchedSkel};

skeleton!("sched");

const NAME: &str = "sched";
const RUNQLAT: &str = "runqlat";
const RUNQLAT_HIST: &str = "runqlat_hist";
const RUNQSLOWER: &str = "runqslower";
const CPUTIME: &str = "cputime";

/// The collector of runqlat, runqslower and cputime.
pub(crate) struct Sched {
    settings: Settings,
}

impl Sched {
    pub(crate) fn new(settings: &Settings) -> Sched {
        Sched { settings: settings.clone() }
    }

    fn measures_waits(&self) -> bool {
        self.settings.runqlat.enabled || self.settings.runqslower.enabled
    }

    fn configure(&self, open: &mut OpenSchedSkel<'_>) -> Result<(), CollectorError> {
        let settings = &self.settings;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.self_tgid = settings.self_tgid();
            constants.with_runqlat = settings.runqlat.enabled;
            constants.with_cputime = settings.cputime.enabled;
            if settings.runqslower.enabled {
                // 0 would switch it off.
                constants.slow_threshold = nanoseconds(settings.runqslower.threshold).max(1);
            }
            let now = clock_gettime(ClockId::Monotonic);
            constants.collecting_since = (now.tv_sec * 1_000_000_000 + now.tv_nsec) as u64;
        }
        object::size_events(NAME, &mut open.maps.events, settings)?;
        for waiting in [&mut open.progs.newtask, &mut open.progs.wakeup, &mut open.progs.wakeup_new] {
            waiting.set_autoload(self.measures_waits());
        }
        Ok(())
    }

    /// Every task has its record before the first wait is looked at: from its creation on, or from `tasks`.
    fn attach(
        &self,
        skeleton: &SchedSkel<'static>,
        tasks: &mut Cputime,
    ) -> Result<Vec<Link>, CollectorError> {
        let programs = &skeleton.progs;
        let mut links = Vec::new();
        if self.measures_waits() {
            links.push(object::attach_program(NAME, &programs.newtask)?);
        }
        tasks.read().map_err(CollectorError::because(NAME, "reading the tasks that run"))?;
        if self.measures_waits() {
            links.push(object::attach_program(NAME, &programs.wakeup)?);
            links.push(object::attach_program(NAME, &programs.wakeup_new)?);
        }
        links.push(object::attach_program(NAME, &programs.sched_switch)?);
        Ok(links)
    }
}

impl Collector for Sched {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> Vec<&'static str> {
        let Settings { runqlat, runqslower, cputime, .. } = &self.settings;
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
        let tp_btf = |metrics, event| Hook { metrics, event, strategy: probe::tp_btf(event) };
        let mut hooks = vec![
            tp_btf(self.metrics(), "sched_switch"),
            Hook { metrics: self.metrics(), event: "task", strategy: probe::iterator("task") },
        ];
        for event in ["sched_wakeup", "sched_wakeup_new", "task_newtask"] {
            hooks.push(tp_btf(waits.clone(), event));
        }
        hooks.retain(|hook| !hook.metrics.is_empty());
        hooks
    }

    fn start(&self) -> Result<Box<dyn Running>, CollectorError> {
        let mut open = object::open::<skeleton::SchedSkelBuilder>(NAME)?;
        self.configure(&mut open)?;
        let skeleton = open.load().map_err(CollectorError::because(NAME, "loading its BPF programs"))?;
        let entities =
            Entities::of_this_boot().map_err(CollectorError::because(NAME, "reading the boot id"))?;
        let opened = "opening its BPF maps";
        let runqlat = Runqlat::new(&skeleton, self.settings.runqlat.interval)
            .map_err(CollectorError::because(NAME, opened))?;
        let runqslower =
            Runqslower::new(&skeleton, entities.clone()).map_err(CollectorError::because(NAME, opened))?;
        let mut cputime = Cputime::new(&skeleton, &self.settings.cputime, entities)
            .map_err(CollectorError::because(NAME, opened))?;
        let links = self.attach(&skeleton, &mut cputime)?;
        let metrics = self.metrics();
        Ok(Box::new(Started { links, runqlat, runqslower, cputime, metrics, skeleton }))
    }
}

/// The collector at work.
struct Started {
    links: Vec<Link>,
    runqlat: Runqlat,
    runqslower: Runqslower,
    cputime: Cputime,
    metrics: Vec<&'static str>,
    skeleton: SchedSkel<'static>,
}

impl Running for Started {
    fn poll(
        &mut self,
        clock: &Clock,
        now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> Result<(), CollectorError> {
        if last {
            self.links.clear();
        }
        if self.metrics.contains(&RUNQSLOWER) {
            self.runqslower
                .poll(clock, last, spool)
                .map_err(CollectorError::because(NAME, "reading its ring buffer"))?;
        }
        if self.metrics.contains(&RUNQLAT) {
            self.runqlat
                .poll(clock, now, last, spool)
                .map_err(CollectorError::because(NAME, "reading the waits of an interval"))?;
        }
        if self.metrics.contains(&CPUTIME) {
            self.cputime
                .poll(clock, now, last, spool)
                .map_err(CollectorError::because(NAME, "reading the tasks' CPU time"))?;
        }
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        let metrics = [RUNQLAT, RUNQSLOWER, CPUTIME];
        let first = self.metrics.first().copied().unwrap_or(RUNQLAT);
        let mut losses = object::losses(self.skeleton.object(), &metrics, |_| first);
        losses.retain(|loss| self.metrics.contains(&loss.metric));
        losses
    }

    fn programs(&self) -> Vec<ProgramCost> {
        object::programs(self.skeleton.object())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
