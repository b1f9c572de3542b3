//! Rows of processes.

use kumon_collect::{Emitter, Process, Subject, boottime};
use kumon_schema::{Time, rows};

use super::Used;
use super::details::{Details, Io};
use crate::counter::added;
use crate::metric::{Period, share};
use crate::namespaces::Traffic;
use crate::node::Size;

/// The kernel's units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Nanoseconds of a tick.
    tick: u64,
    /// Bytes of a page.
    page: u64,
}

impl Scale {
    pub(super) fn of_kernel() -> Scale {
        Scale { tick: kumon_collect::tick(), page: rustix::param::page_size() as u64 }
    }

    pub(super) fn ticks(self, nanoseconds: u64) -> u64 {
        nanoseconds / self.tick
    }

    pub(super) fn time(self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.tick)
    }

    fn bytes(self, pages: u64) -> u64 {
        pages.saturating_mul(self.page)
    }
}

/// A row of one process.
pub(super) struct Row<'a> {
    pub(super) used: &'a Used,
    pub(super) details: Details,
    /// Where it had a row at the last reading.
    pub(super) io_before: Option<Io>,
    /// Of its network namespace, then and now.
    pub(super) traffic: Option<(Option<Traffic>, Traffic)>,
    /// Whether the kernel accounts waits for I/O.
    pub(super) accounts_delays: bool,
    pub(super) node: Size,
    pub(super) scale: Scale,
}

impl Row<'_> {
    pub(super) fn emit(&self, period: Period, emitter: &mut Emitter<'_>) {
        let Row { details, scale, .. } = self;
        let process = &self.used.process;
        let (now, start) = (boottime(), scale.time(process.start));
        let times = self.used.times.map(|times| times.map(|ticks| scale.time(ticks)));
        let time = |at: usize| times.map(|times| times[at]);
        let memory = |at: usize| details.memory.map(|pages| scale.bytes(pages[at]));
        let io = self.io_added();
        let io = |at: usize| io.map(|io| io[at]);
        let traffic = self.traffic.and_then(|(before, now)| Some(now.since(before?)));
        let row = rows::Process {
            timestamp: period.timestamp,
            interval: period.interval,
            state: state(process.state),
            start: Some(Time(period.timestamp - now.saturating_sub(start) as i64)),
            user: time(0),
            system: time(1),
            children_user: time(2),
            children_system: time(3),
            cpu_pct: share(times.map(|times| times[0] + times[1]), Some(period.interval)),
            io_wait: time(4).filter(|_| self.accounts_delays),
            size: memory(0),
            resident: memory(1),
            resident_pct: share(memory(1), self.node.memory),
            shared: memory(2),
            text: memory(3),
            data: memory(5),
            reads: io(0),
            writes: io(1),
            read_bytes: io(2),
            write_bytes: io(3),
            read_chars: io(4),
            written_chars: io(5),
            threads: Some(process.threads),
            open_descriptors: details.descriptors,
            received_bytes: traffic.map(|traffic| traffic.received_bytes),
            received_packets: traffic.map(|traffic| traffic.received_packets),
            sent_bytes: traffic.map(|traffic| traffic.sent_bytes),
            sent_packets: traffic.map(|traffic| traffic.sent_packets),
            processes: Some(1),
        };
        let subject = Process {
            pid: process.pid,
            start,
            name: process.name(),
            uid: details.owner.map(|[user, _]| user),
            gid: details.owner.map(|[_, group]| group),
            cgroup: details.cgroup.unwrap_or_default(),
            seen: now,
        };
        emitter.emit(&row, &Subject::Process(subject));
    }

    /// A process that is new has done all of it in the interval.
    fn io_added(&self) -> Option<Io> {
        let before = self.io_before.or(self.used.is_new.then_some([0; 6]))?;
        let now = self.details.io?;
        Some(std::array::from_fn(|at| added(before[at], now[at])))
    }
}

/// The row of all processes that have none of their own.
pub(super) fn others(others: &[Used], scale: Scale, period: Period, emitter: &mut Emitter<'_>) {
    if others.is_empty() {
        return;
    }
    let sum = |of: &dyn Fn(&Used) -> u64| others.iter().fold(0u64, |sum, used| sum.saturating_add(of(used)));
    let time = |at: usize| scale.time(sum(&|used| used.times.map_or(0, |times| times[at])));
    let row = rows::Process {
        timestamp: period.timestamp,
        interval: period.interval,
        user: Some(time(0)),
        system: Some(time(1)),
        children_user: Some(time(2)),
        children_system: Some(time(3)),
        cpu_pct: share(Some(time(0).saturating_add(time(1))), Some(period.interval)),
        resident: Some(scale.bytes(sum(&|used| used.process.resident))),
        threads: Some(sum(&|used| used.process.threads)),
        processes: Some(others.len() as u64),
        ..rows::Process::default()
    };
    emitter.emit(&row, &Subject::Others);
}

/// By the words that Elastic's agent has for the letters of man 5 proc.
fn state(letter: u8) -> &'static [u8] {
    match letter {
        b'R' => b"running",
        b'S' => b"sleeping",
        b'D' => b"disk_sleep",
        b'I' => b"idle",
        b'T' | b't' => b"stopped",
        b'Z' => b"zombie",
        b'X' | b'x' => b"dead",
        b'P' => b"parked",
        _ => b"unknown",
    }
}
