//! The flows that are known: read from the kernel each interval, with what each has had since the last time.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use kumon_collect::{Interval, Loss, PollContext, boottime};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};

use super::rows::{self, Emit, Ends, State};
use super::settings::FlowSettings;
use super::skeleton::{FlowSkel, types};
use super::{FLOW, run};
use crate::active::Source;
use crate::events;
use crate::losses::sum_of_cpus;

/// What is known of sockets, by their cookies.
pub(super) type Sockets = HashMap<u64, types::socket_info>;

/// How many elements are read at a time.
const BATCH: u32 = 4096;

/// A flow that is over may have a last packet on its way, and its socket a last word.
const LINGER: u64 = 2_000_000_000;

/// ns of a microsecond.
const MICROSECOND: u64 = 1_000;

type Key = [u8; size_of::<types::flow_key>()];

/// A flow at the end of an interval.
pub(super) struct Flow<'a> {
    pub(super) ends: &'a Ends,
    pub(super) value: &'a types::flow,
    /// Which end opened it.
    pub(super) opener: usize,
    pub(super) state: State,
    pub(super) owners: [Option<types::owner>; 2],
    pub(super) rtt: Option<Rtt>,
}

/// Round-trip times, ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rtt {
    pub(super) smoothed: u64,
    pub(super) least: Option<u64>,
}

/// What a flow had in an interval; of pairs, end `a` is the first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) bytes: [u64; 2],
    pub(super) packets: [u64; 2],
    pub(super) retransmits: u64,
    pub(super) resets: u64,
    pub(super) connect: Option<u64>,
}

/// What was told of a flow.
#[derive(Debug, Default)]
struct Known {
    bytes: [u64; 2],
    packets: [u32; 2],
    retransmits: [u32; 2],
    resets: u16,
    connect: bool,
    opener: Option<usize>,
    /// Sockets are forgotten before their flows.
    owners: [Option<types::owner>; 2],
    rtt: Option<Rtt>,
    /// The scan that saw it last.
    scan: u64,
}

impl Known {
    /// What a flow has more than was told, which is told now.
    fn add(&mut self, flow: &types::flow, retransmits: [u32; 2]) -> Added {
        let added = Added {
            bytes: [0, 1].map(|end| flow.bytes[end].saturating_sub(self.bytes[end])),
            packets: [0, 1].map(|end| flow.packets[end].wrapping_sub(self.packets[end]).into()),
            retransmits: [0, 1]
                .map(|end| u64::from(retransmits[end].saturating_sub(self.retransmits[end])))
                .iter()
                .sum(),
            resets: flow.resets.wrapping_sub(self.resets).into(),
            connect: (flow.connect != 0 && !self.connect).then_some(flow.connect),
        };
        self.bytes = flow.bytes;
        self.packets = flow.packets;
        self.retransmits = [0, 1].map(|end| retransmits[end].max(self.retransmits[end]));
        self.resets = flow.resets;
        self.connect = flow.connect != 0;
        added
    }
}

/// The source of the metric's rows.
pub(super) struct Table {
    interval: Interval,
    flows: MapHandle,
    half_open: MapHandle,
    half_open_counted: MapHandle,
    sockets: MapHandle,
    /// Renews what is known of sockets; none where the kernel can't.
    renew: Option<Link>,
    told: Told,
    /// Half-open connections that others of their kind have pushed out.
    pushed_out: u64,
}

/// What was told, and tells what is new.
struct Told {
    idle: u64,
    known: HashMap<Key, Known>,
    scans: u64,
    /// Half-open connections that ended here.
    ended: u64,
    emit: Emit,
}

/// What all flows of an interval have in common.
struct Scan {
    sockets: Sockets,
    time: (i64, u64),
    /// CLOCK_BOOTTIME, ns.
    now: u64,
}

/// An element of one of the maps.
struct Element {
    key: Key,
    flow: types::flow,
    half_open: bool,
}

impl Table {
    pub(super) fn new(
        skeleton: &FlowSkel<'static>,
        settings: &FlowSettings,
        renew: bool,
        emit: Emit,
    ) -> libbpf_rs::Result<Table> {
        let maps = &skeleton.maps;
        let renew = renew.then(|| skeleton.progs.renew_sockets.attach_iter(maps.sockets.as_fd()));
        let idle = nanoseconds(settings.idle_timeout);
        Ok(Table {
            interval: Interval::new(settings.interval),
            flows: MapHandle::try_from(&maps.flows)?,
            half_open: MapHandle::try_from(&maps.half_open)?,
            half_open_counted: MapHandle::try_from(&maps.half_open_counted)?,
            sockets: MapHandle::try_from(&maps.sockets)?,
            renew: renew.transpose()?,
            told: Told { idle, known: HashMap::new(), scans: 0, ended: 0, emit },
            pushed_out: 0,
        })
    }

    fn scan(&mut self, time: (i64, u64), context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        if let Some(renew) = &self.renew {
            run(renew)?;
        }
        let scan = Scan { sockets: read_sockets(&self.sockets)?, time, now: boottime() };
        self.told.emit.learn_interfaces();
        self.told.scans += 1;
        // Those that are answered meanwhile are seen among the others then.
        let half_open = self.told.read(&self.half_open, true, &scan, context)?;
        self.told.read(&self.flows, false, &scan, context)?;
        self.count_pushed_out(half_open);
        self.told.forget_gone();
        Ok(())
    }

    /// What began and is neither there nor answered nor ended.
    fn count_pushed_out(&mut self, there: u64) {
        let Some(counts) = sum_of_cpus(&self.half_open_counted) else { return };
        let [begun, answered] = counts[..] else { return };
        let pushed_out = begun.saturating_sub(answered + self.told.ended + there);
        self.pushed_out = self.pushed_out.max(pushed_out);
    }
}

impl Told {
    /// Tells the flows of a map, and takes those that are over out of it. How many are left.
    fn read(
        &mut self,
        map: &MapHandle,
        half_open: bool,
        scan: &Scan,
        context: &mut PollContext<'_>,
    ) -> libbpf_rs::Result<u64> {
        let (mut over, mut left) = (Vec::new(), 0);
        for (key, value) in map.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY)? {
            let Some(element) = element(&key, &value, half_open) else { continue };
            if self.is_over(&element, scan) {
                over.push(element.key);
            } else {
                left += 1;
                self.tell(&element, false, scan, context);
            }
        }
        for key in over {
            // What came meanwhile is told too.
            let Some(value) = take(map, &key)? else { continue };
            let Some(element) = element(&key, &value, half_open) else { continue };
            self.ended += u64::from(half_open);
            self.tell(&element, true, scan, context);
            self.known.remove(&key);
        }
        Ok(left)
    }

    fn is_over(&self, element: &Element, scan: &Scan) -> bool {
        let Element { flow, half_open, .. } = element;
        let quiet = scan.now.saturating_sub(flow.last);
        let given_up = |cookie: &u64| scan.sockets.get(cookie).is_some_and(|socket| socket.closed != 0);
        let over =
            State::of(flow, *half_open) == State::Closed || (*half_open && flow.cookies.iter().any(given_up));
        quiet > self.idle || (over && quiet > LINGER)
    }

    fn tell(&mut self, element: &Element, over: bool, scan: &Scan, context: &mut PollContext<'_>) {
        let Element { key, flow: value, half_open } = element;
        // SAFETY: the type is integers and arrays of them.
        let Some(ends) = (unsafe { events::read::<types::flow_key>(key) }).map(|key| Ends::of(&key)) else {
            return;
        };
        let known = self.known.entry(*key).or_default();
        known.scan = self.scans;
        let of_ends = value.cookies.map(|cookie| scan.sockets.get(&cookie));
        let mut retransmits = known.retransmits;
        for (end, socket) in of_ends.iter().enumerate() {
            let Some(socket) = socket else { continue };
            retransmits[end] = socket.retransmits;
            if socket.owner.pid != 0 {
                known.owners[end] = Some(socket.owner);
            }
        }
        known.rtt = of_ends.iter().flatten().find_map(|socket| rtt(socket)).or(known.rtt);
        let opener = *known.opener.get_or_insert_with(|| rows::opener(&ends, value, &scan.sockets));
        let added = known.add(value, retransmits);
        if !over && added.packets == [0, 0] {
            return;
        }
        let state = State::of(value, *half_open);
        let end = if over { rows::end(value, state, *half_open) } else { b"" };
        let flow = Flow { ends: &ends, value, opener, state, owners: known.owners, rtt: known.rtt };
        self.emit.emit(&flow, &added, end, scan.time, context);
    }

    /// Half-open connections that were pushed out, and any that went without a word.
    fn forget_gone(&mut self) {
        let scans = self.scans;
        self.known.retain(|_, known| known.scan == scans);
    }
}

impl Source for Table {
    fn reading(&self) -> &'static str {
        "reading the flows of an interval"
    }

    fn read(&mut self, context: &mut PollContext<'_>) -> libbpf_rs::Result<()> {
        let Some(time) = self.interval.over(context) else { return Ok(()) };
        self.scan(time, context)
    }

    fn losses(&self) -> Vec<Loss> {
        vec![Loss { metric: FLOW, reason: "map full", count: self.pushed_out }]
    }
}

/// Takes an element out of a map, as it is in this moment.
fn take(map: &MapHandle, key: &[u8]) -> libbpf_rs::Result<Option<Vec<u8>>> {
    // At once only since Linux 5.14; hashes that push out others have it too.
    if let Ok(value) = map.lookup_and_delete(key) {
        return Ok(value);
    }
    let value = map.lookup(key, MapFlags::ANY)?;
    if value.is_some() {
        map.delete(key)?;
    }
    Ok(value)
}

fn read_sockets(map: &MapHandle) -> libbpf_rs::Result<Sockets> {
    let elements = map.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY)?;
    Ok(elements
        .filter_map(|(key, value)| {
            let cookie = u64::from_ne_bytes(key.try_into().ok()?);
            // SAFETY: the type is integers and arrays of them.
            Some((cookie, unsafe { events::read::<types::socket_info>(&value) }?))
        })
        .collect())
}

fn element(key: &[u8], value: &[u8], half_open: bool) -> Option<Element> {
    // SAFETY: the type is integers and arrays of them.
    let flow = unsafe { events::read::<types::flow>(value) }?;
    Some(Element { key: key.try_into().ok()?, flow, half_open })
}

/// None where there is none: of UDP, and before the first answer.
fn rtt(socket: &types::socket_info) -> Option<Rtt> {
    let least = (socket.rtt_min != u32::MAX && socket.rtt_min != 0)
        .then_some(u64::from(socket.rtt_min) * MICROSECOND);
    (socket.srtt != 0).then_some(Rtt { smoothed: u64::from(socket.srtt) * MICROSECOND, least })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
