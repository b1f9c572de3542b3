//! Rows of cputime.

use std::collections::HashMap;
use std::io::Read;
use std::time::Instant;

use kumon_schema::rows;
use kumon_spool::Spool;
use libbpf_rs::{Iter, Link};

use super::CputimeSettings;
use super::skeleton::{SchedSkel, types};
use crate::events;
use crate::interval::{Interval, IntervalMaps};
use crate::top::{OTHER, top};
use crate::{Clock, Entities};

pub(super) struct Cputime {
    interval: Interval,
    top: usize,
    entities: Entities,
    /// Attached to nothing: each opening of it walks over all tasks.
    iterator: Link,
    ended: IntervalMaps,
    /// What is read and not yet written, by process.
    processes: HashMap<Process, Usage>,
}

/// A process: its start in ns of CLOCK_BOOTTIME and its id. All zeros for those that found no place in the kernel.
type Process = (u64, u32);

#[derive(Default)]
struct Usage {
    name: Vec<u8>,
    /// ns.
    on_cpu: u64,
    off_cpu: u64,
    voluntary: u64,
    involuntary: u64,
}

impl Cputime {
    pub(super) fn new(
        skeleton: &SchedSkel<'static>,
        settings: &CputimeSettings,
        entities: Entities,
    ) -> libbpf_rs::Result<Cputime> {
        let maps = &skeleton.maps;
        Ok(Cputime {
            interval: Interval::new(settings.interval),
            top: settings.top,
            entities,
            iterator: skeleton.progs.read_tasks.attach()?,
            ended: IntervalMaps::new(&maps.ended, &maps.ended_0, &maps.ended_1)?,
            processes: HashMap::new(),
        })
    }

    /// Reads the accounts of all living threads; the BPF program tells what is new in them.
    pub(super) fn read(&mut self) -> libbpf_rs::Result<()> {
        let mut bytes = Vec::new();
        Iter::new(&self.iterator)?.read_to_end(&mut bytes)?;
        for thread in bytes.chunks_exact(size_of::<types::process_usage>()) {
            self.add(thread);
        }
        Ok(())
    }

    pub(super) fn poll(
        &mut self,
        clock: &Clock,
        now: Instant,
        last: bool,
        spool: &mut Spool,
    ) -> libbpf_rs::Result<()> {
        let Some(interval) = self.interval.over(now, last) else { return Ok(()) };
        self.read()?;
        let mut ended = Vec::new();
        self.ended.take(|_, usage| ended.push(usage.to_vec()))?;
        for usage in &ended {
            self.add(usage);
        }
        self.append(clock.now(), interval, spool);
        Ok(())
    }

    fn add(&mut self, usage: &[u8]) {
        // SAFETY: struct process_usage holds integers and arrays of them only.
        let Some(record) = (unsafe { events::read::<types::process_usage>(usage) }) else { return };
        let sum = self.processes.entry((record.process.start, record.process.pid)).or_default();
        sum.name = events::name(&record.name).to_vec();
        sum.on_cpu += record.usage.on_cpu;
        sum.off_cpu += record.usage.off_cpu;
        sum.voluntary += record.usage.voluntary;
        sum.involuntary += record.usage.involuntary;
    }

    fn append(&mut self, timestamp: i64, interval: u64, spool: &mut Spool) {
        let mut other = self.processes.remove(&(0, 0)).unwrap_or_default();
        // A process that slept all the time has nothing to tell.
        let ran = |usage: &Usage| usage.on_cpu + usage.voluntary + usage.involuntary > 0;
        let processes = self.processes.drain().filter(|(_, usage)| ran(usage)).collect();
        let (largest, rest) = top(processes, self.top, |(_, usage)| usage.on_cpu);
        for ((start, pid), usage) in &largest {
            let entity_id = self.entities.id(*pid, *start);
            spool.append(&rows::Cputime {
                entity_id: entity_id.as_bytes(),
                pid: Some(u64::from(*pid)),
                name: &usage.name,
                ..row(usage, timestamp, interval)
            });
        }
        for (_, usage) in &rest {
            other.on_cpu += usage.on_cpu;
            other.off_cpu += usage.off_cpu;
            other.voluntary += usage.voluntary;
            other.involuntary += usage.involuntary;
        }
        if ran(&other) {
            spool.append(&rows::Cputime { name: OTHER, ..row(&other, timestamp, interval) });
        }
    }
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
