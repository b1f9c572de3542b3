//! Rows of cputime.

use std::collections::HashMap;
use std::io::Read;

use kumon_collect::{Emitter, Interval, PollContext, Process, Subject, boottime, top};
use kumon_schema::rows;
use libbpf_rs::{Iter, Link};

use super::CputimeSettings;
use super::skeleton::{SchedSkel, types};
use crate::active::Source;
use crate::events;
use crate::interval::IntervalMaps;

pub(super) struct Cputime {
    interval: Interval,
    top: usize,
    /// Attached to nothing: each opening of it walks over all tasks.
    iterator: Link,
    ended: IntervalMaps,
    /// What is read and not yet written, by process or thread.
    threads: HashMap<Key, Usage>,
}

/// A process, or one of its threads: the process's start in ns of CLOCK_BOOTTIME, its id, and that of the thread, 0 for
/// all of them. All zeros for those that found no place in the kernel.
type Key = (u64, u32, u32);

/// The kernel's TASK_COMM_LEN bytes.
type Name = [i8; 16];

#[derive(Default)]
struct Usage {
    name: Name,
    thread_name: Name,
    cgroup: u64,
    /// ns.
    on_cpu: u64,
    off_cpu: u64,
    voluntary: u64,
    involuntary: u64,
}

impl Cputime {
    pub(super) fn new(
        skeleton: &SchedSkel<'static>,
        ended: IntervalMaps,
        settings: &CputimeSettings,
    ) -> libbpf_rs::Result<Cputime> {
        Ok(Cputime {
            interval: Interval::new(settings.interval),
            top: settings.top,
            iterator: skeleton.progs.read_tasks.attach()?,
            ended,
            threads: HashMap::new(),
        })
    }

    /// Reads the accounts of all living threads; the BPF program tells what is new in them.
    pub(super) fn read_tasks(&mut self) -> libbpf_rs::Result<()> {
        let mut bytes = Vec::new();
        Iter::new(&self.iterator)?.read_to_end(&mut bytes)?;
        for thread in bytes.chunks_exact(size_of::<types::process_usage>()) {
            self.add(thread);
        }
        Ok(())
    }
}

impl Source for Cputime {
    fn reading(&self) -> &'static str {
        "reading the tasks' CPU time"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some((timestamp, interval)) = self.interval.over(context) else { return Ok(()) };
        self.read_tasks()?;
        let mut ended = Vec::new();
        self.ended.take(|_, usage| ended.push(usage.to_vec()))?;
        for usage in &ended {
            self.add(usage);
        }
        self.emit(timestamp, interval, &mut context.emitter);
        Ok(())
    }
}

impl Cputime {
    fn add(&mut self, usage: &[u8]) {
        // SAFETY: struct process_usage holds integers and arrays of them only.
        let Some(record) = (unsafe { events::read::<types::process_usage>(usage) }) else { return };
        let types::process_key { start, pid, tid } = record.process;
        let sum = self.threads.entry((start, pid, tid)).or_default();
        (sum.name, sum.thread_name) = (record.name, record.thread_name);
        sum.cgroup = record.cgroup;
        let types::cpu_usage { on_cpu, off_cpu, voluntary, involuntary } = record.usage;
        sum.add(&Usage { on_cpu, off_cpu, voluntary, involuntary, ..Usage::default() });
    }

    fn emit(&mut self, timestamp: i64, interval: u64, emitter: &mut Emitter<'_>) {
        let seen = boottime();
        let (largest, other) = split(self.threads.drain().collect(), self.top);
        for ((start, pid, tid), usage) in &largest {
            let row = rows::Cputime {
                tid: (*tid != 0).then_some((*tid).into()),
                thread_name: events::name(&usage.thread_name),
                ..row(usage, timestamp, interval)
            };
            let process = Process {
                pid: *pid,
                start: *start,
                name: events::name(&usage.name),
                cgroup: usage.cgroup,
                seen,
                ..Process::default()
            };
            emitter.emit(&row, &Subject::Process(process));
        }
        if other.ran() {
            emitter.emit(&row(&other, timestamp, interval), &Subject::Others);
        }
    }
}

impl Usage {
    /// A process that slept all the time has nothing to tell.
    fn ran(&self) -> bool {
        self.on_cpu + self.voluntary + self.involuntary > 0
    }

    fn add(&mut self, other: &Usage) {
        self.on_cpu += other.on_cpu;
        self.off_cpu += other.off_cpu;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
    }
}

/// The processes or threads that ran longest, and the sum of all others that ran.
fn split(mut threads: Vec<(Key, Usage)>, limit: usize) -> (Vec<(Key, Usage)>, Usage) {
    threads.retain(|(_, usage)| usage.ran());
    let (unnamed, named): (Vec<_>, Vec<_>) = threads.into_iter().partition(|(key, _)| *key == Key::default());
    let (largest, rest) = top(named, limit, |(_, usage)| usage.on_cpu);
    let mut other = Usage::default();
    for (_, usage) in unnamed.iter().chain(&rest) {
        other.add(usage);
    }
    (largest, other)
}

fn row(usage: &Usage, timestamp: i64, interval: u64) -> rows::Cputime<'static> {
    rows::Cputime {
        timestamp,
        interval,
        on_cpu: usage.on_cpu,
        off_cpu: usage.off_cpu,
        voluntary_switches: usage.voluntary,
        involuntary_switches: usage.involuntary,
        ..rows::Cputime::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Usage, split};

    fn processes() -> Vec<(Key, Usage)> {
        let process = |n: u32| {
            let n64 = u64::from(n);
            let usage = Usage { on_cpu: n64 * n64, off_cpu: 1_000 - n64, voluntary: n64, ..Usage::default() };
            ((7, n, 0), usage)
        };
        let unnamed = ((0, 0, 0), Usage { on_cpu: 1_000_000, involuntary: 3, ..Usage::default() });
        let asleep = ((7, 100, 0), Usage { off_cpu: 1_000_000, ..Usage::default() });
        (1..=20).map(process).chain([unnamed, asleep]).collect()
    }

    fn sum(limit: usize) -> (usize, [u64; 4]) {
        let (largest, mut sum) = split(processes(), limit);
        for (_, usage) in &largest {
            sum.add(usage);
        }
        (largest.len(), [sum.on_cpu, sum.off_cpu, sum.voluntary, sum.involuntary])
    }

    #[test]
    fn the_sum_of_rows_does_not_depend_on_the_limit() {
        let (rows, all) = sum(1_000);
        assert_eq!((rows, all[0], all[3]), (20, 1_002_870, 3));
        assert_eq!(sum(3), (3, all));
        assert_eq!(sum(0), (0, all));
    }
}
