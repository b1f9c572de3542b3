//! What collectors lost and cost, those that have ended included.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};

use crate::{ActiveCollector, Loss, ProgramCost};

/// The counts of collectors that have ended, by a panic or for new settings.
#[derive(Default)]
pub(crate) struct Past {
    pub(crate) losses: Vec<Loss>,
    pub(crate) programs: Vec<ProgramCost>,
    /// By collector, ns.
    pub(crate) cpu_time: BTreeMap<&'static str, u64>,
}

impl Past {
    /// The kernel has its counters, so that they are whole also after a panic.
    pub(crate) fn add(&mut self, active: &dyn ActiveCollector) {
        self.losses = sum(self.losses.drain(..).chain(active.losses()));
        self.programs = sum_programs(self.programs.drain(..).chain(active.programs()));
    }
}

/// Does something and adds the CPU time that it takes this thread, ns.
pub(crate) fn counting<T>(cpu_time: &mut u64, work: impl FnOnce() -> T) -> T {
    let so_far = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        (time.tv_sec * 1_000_000_000 + time.tv_nsec) as u64
    };
    let before = so_far();
    let done = work();
    *cpu_time += so_far() - before;
    done
}

/// Adds up the counts of the same metric and reason.
pub(crate) fn sum(losses: impl Iterator<Item = Loss>) -> Vec<Loss> {
    let mut sums: Vec<Loss> = Vec::new();
    for loss in losses {
        match sums.iter_mut().find(|known| (known.metric, known.reason) == (loss.metric, loss.reason)) {
            Some(known) => known.count += loss.count,
            None => sums.push(loss),
        }
    }
    sums
}

/// Adds up the costs of programs of the same name; a later one says how it is attached.
pub(crate) fn sum_programs(programs: impl Iterator<Item = ProgramCost>) -> Vec<ProgramCost> {
    let mut sums: Vec<ProgramCost> = Vec::new();
    for program in programs {
        match sums.iter_mut().find(|known| known.program == program.program) {
            Some(known) => {
                let (runs, run_time) = (known.runs + program.runs, known.run_time + program.run_time);
                *known = ProgramCost { runs, run_time, ..program };
            }
            None => sums.push(program),
        }
    }
    sums
}
