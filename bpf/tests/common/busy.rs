//! Keeps the CPUs from idling.

use std::process::Command;
use std::time::Duration;

use kumon_testing::{Child, time_scale, wait_for};
use rustix::thread::{CpuSet, sched_getaffinity};

use super::cpu_time_now;

/// As long as it lives no CPU idles: on each one runs what yields to everything else. Where interrupts come to an idle CPU
/// this machine's kernel (6.18 in a virtual machine) leaves out tracepoints now and then, here some wake-ups and switches to
/// who was woken, and requests' completions. `perf record -e sched:sched_switch` and libbpf-tools miss them too
/// (docs/kernels.md). A test that counts such events needs all of them.
pub struct BusyCpus {
    _spinning: Vec<Child>,
}

impl BusyCpus {
    pub fn keep() -> BusyCpus {
        // Nothing is left out in the emulated machines, whose CPUs would take one another's time.
        if time_scale() > 1 {
            return BusyCpus { _spinning: Vec::new() };
        }
        let cpus = sched_getaffinity(None).unwrap();
        let spinning: Vec<Child> = (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).map(spin).collect();
        wait_for("all CPUs to be busy", Duration::from_secs(30), || {
            spinning.iter().all(|child| cpu_time_now(child.id()) > 0)
        });
        BusyCpus { _spinning: spinning }
    }
}

/// So many of `count` events a kernel that leaves tracepoints out shows at least, though its CPUs are kept busy: one was
/// missing of 400 in one of twenty runs.
pub fn nearly(count: i64) -> i64 {
    count - count / 100 - 1
}

fn spin(cpu: usize) -> Child {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu.to_string(), "chrt", "--idle", "0", "sh", "-c", "while :; do :; done"]);
    Child::spawn(&mut command)
}
