//! Rows of a container.

use kumon_collect::{Emitter, Subject, boottime};
use kumon_schema::rows;

use super::Disks;
use super::usage::{Disk, Usage};
use crate::counter::added;
use crate::metric::{Period, share};
use crate::namespaces::Traffic;
use crate::node::Size;
use crate::parse::DiskUse;

/// What a cgroup used in an interval.
pub(super) struct Change<'a> {
    pub(super) path: &'a str,
    /// The inode of its folder in cgroup v2.
    pub(super) id: Option<u64>,
    /// None of a cgroup that came in the interval: all it has used it has used since.
    pub(super) before: Option<&'a Usage>,
    pub(super) now: &'a Usage,
    /// Of its network namespace, then and now.
    pub(super) traffic: Option<(Option<Traffic>, Traffic)>,
    pub(super) node: Size,
}

impl Change<'_> {
    /// A row of the whole, and one for each disk that it used.
    pub(super) fn emit(&self, period: Period, disks: &mut Disks, emitter: &mut Emitter<'_>) {
        let subject = match self.id {
            Some(id) => Subject::Cgroup { id, seen: boottime() },
            None => Subject::CgroupOfV1 { path: self.path },
        };
        emitter.emit(&self.row(period), &subject);
        for (device, now) in &self.now.disks {
            let before = self.before.and_then(|before| before.disks.iter().find(|(of, _)| of == device));
            let before = before.map_or(Disk::default(), |(_, before)| *before);
            let bytes = added_each(&before.bytes, &now.bytes);
            let operations = added_each(&before.operations, &now.operations);
            if operations.iter().chain(&bytes).flatten().any(|of| *of > 0) {
                emitter.emit(&self.disk_row(period, disks.name(*device), bytes, operations), &subject);
            }
        }
    }

    fn row(&self, period: Period) -> rows::Container<'_> {
        let Usage { cpu, memory, .. } = self.now;
        let cpu_time = self.added(|usage| usage.cpu.time);
        let kind = |at: usize| memory.kinds[at];
        let added_kind = |at: usize| self.added(move |usage| usage.memory.kinds[at]);
        let pressure = |at: usize| {
            let some = self.added(move |usage| usage.pressure[at].some);
            let full = self.added(move |usage| usage.pressure[at].full);
            [some, full].map(|microseconds| microseconds.map(|time| time.saturating_mul(1_000)))
        };
        let [pressure_cpu, pressure_memory, pressure_io] = [0, 1, 2].map(pressure);
        // A limit above what the node has limits nothing.
        let memory_of = match (memory.limit, self.node.memory) {
            (Some(limit), Some(all)) => Some(limit.min(all)),
            (limit, all) => limit.or(all),
        };
        let all_time = self.node.cpus.map(|cpus| cpus.saturating_mul(period.interval));
        let traffic = self.traffic_added();
        rows::Container {
            timestamp: period.timestamp,
            interval: period.interval,
            cgroup: self.path.as_bytes(),
            disk: b"",
            cpu_time,
            cpu_user: self.added(|usage| usage.cpu.user),
            cpu_system: self.added(|usage| usage.cpu.system),
            cpu_pct: share(cpu_time, all_time),
            cpu_limit: cpu.limit,
            cpu_periods: self.added(|usage| usage.cpu.periods),
            cpu_throttled: self.added(|usage| usage.cpu.throttled),
            cpu_throttled_time: self.added(|usage| usage.cpu.throttled_time),
            memory_usage: memory.usage,
            memory_limit: memory.limit,
            memory_pct: share(memory.usage, memory_of),
            memory_rss: kind(0),
            memory_cache: kind(1),
            memory_mapped_file: kind(2),
            memory_active_anon: kind(7),
            memory_inactive_anon: kind(8),
            memory_active_file: kind(9),
            memory_inactive_file: kind(10),
            memory_unevictable: kind(11),
            memory_pages_in: added_kind(3),
            memory_pages_out: added_kind(4),
            page_faults: added_kind(5),
            major_page_faults: added_kind(6),
            oom_kills: self.added(|usage| usage.memory.oom_kills),
            received_bytes: traffic.map(|traffic| traffic.received_bytes),
            received_packets: traffic.map(|traffic| traffic.received_packets),
            sent_bytes: traffic.map(|traffic| traffic.sent_bytes),
            sent_packets: traffic.map(|traffic| traffic.sent_packets),
            pids: self.now.pids,
            pids_limit: self.now.pids_limit,
            pressure_cpu_some: pressure_cpu[0],
            pressure_cpu_full: pressure_cpu[1],
            pressure_memory_some: pressure_memory[0],
            pressure_memory_full: pressure_memory[1],
            pressure_io_some: pressure_io[0],
            pressure_io_full: pressure_io[1],
            ..rows::Container::default()
        }
    }

    fn disk_row<'a>(
        &'a self,
        period: Period,
        disk: &'a str,
        bytes: DiskUse,
        operations: DiskUse,
    ) -> rows::Container<'a> {
        let [read_bytes, write_bytes, sync_bytes, async_bytes, discard_bytes, disk_bytes] = bytes;
        let [reads, writes, syncs, asyncs, discards, disk_operations] = operations;
        rows::Container {
            timestamp: period.timestamp,
            interval: period.interval,
            cgroup: self.path.as_bytes(),
            disk: disk.as_bytes(),
            read_bytes,
            write_bytes,
            sync_bytes,
            async_bytes,
            discard_bytes,
            disk_bytes,
            reads,
            writes,
            syncs,
            asyncs,
            discards,
            disk_operations,
            ..rows::Container::default()
        }
    }

    /// What was added to a counter; none where it can't be read, or couldn't be before.
    fn added(&self, counter: impl Fn(&Usage) -> Option<u64>) -> Option<u64> {
        let before = self.before.map_or(Some(0), &counter)?;
        Some(added(before, counter(self.now)?))
    }

    /// A namespace that wasn't seen before is new if the container is, which then has all of its traffic.
    fn traffic_added(&self) -> Option<Traffic> {
        let (before, now) = self.traffic?;
        let before = before.or_else(|| self.before.is_none().then(Traffic::default))?;
        Some(now.since(before))
    }
}

/// A disk that wasn't there before has done all of it since.
fn added_each(before: &DiskUse, now: &DiskUse) -> DiskUse {
    let mut each = *now;
    for (now, before) in each.iter_mut().zip(before) {
        *now = now.map(|now| added(before.unwrap_or(0), now));
    }
    each
}
