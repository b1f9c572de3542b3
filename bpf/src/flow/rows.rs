//! Rows of flow.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::{Time, rows};

use super::community_id::{End, community_id};
use super::skeleton::types;
use super::table::{Added, Flow, Sockets};
use super::transport::{self, TCP};
use crate::events;
use crate::tc::{self, LOOPBACK};

/// TCP flags.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Both ends in the order of a flow's key.
pub(super) struct Ends {
    ends: [End; 2],
    pub(super) protocol: u8,
}

impl Ends {
    pub(super) fn of(key: &types::flow_key) -> Ends {
        // SAFETY: a member of the union is as good as another: all are of the same bytes.
        let addresses = unsafe { [key.a.bytes, key.b.bytes] };
        let [a, b] = addresses.map(|address| Ipv6Addr::from(address).to_canonical());
        Ends { ends: [(a, key.a_port), (b, key.b_port)], protocol: key.protocol }
    }
}

/// Which of both ends opened a flow: the sender of the first SYN, or the one whose socket connected. Of what was there
/// before KuMon the one with the higher port, as far as that tells, and else the sender of the first packet.
pub(super) fn opener(ends: &Ends, flow: &types::flow, sockets: &Sockets) -> usize {
    let first = usize::from(flow.first_from_b != 0);
    if ends.protocol != TCP {
        return first;
    }
    match flow.first_flags & (SYN | ACK) {
        SYN => return first,
        flags if flags == SYN | ACK => return 1 - first,
        _ => {}
    }
    for end in [first, 1 - first] {
        match sockets.get(&flow.cookies[end]).map(|socket| socket.role) {
            Some(types::role::ROLE_OPENED) => return end,
            Some(types::role::ROLE_ACCEPTED) => return 1 - end,
            _ => {}
        }
    }
    let ports = ends.ends.map(|end| end.1);
    if ports[0] == ports[1] { first } else { usize::from(ports[1] > ports[0]) }
}

/// What a flow is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Of TCP: nobody has answered yet.
    HalfOpen,
    Open,
    /// Of TCP: one end has closed.
    Closing,
    /// Of TCP: both have, or one has broken it off.
    Closed,
}

impl State {
    pub(super) fn of(flow: &types::flow, half_open: bool) -> State {
        let [a, b] = flow.tcp_flags;
        match () {
            () if (a | b) & RST != 0 || a & b & FIN != 0 => State::Closed,
            () if half_open => State::HalfOpen,
            () if (a | b) & FIN != 0 => State::Closing,
            () => State::Open,
        }
    }

    fn name(self, protocol: u8) -> &'static [u8] {
        match self {
            _ if protocol != TCP => b"",
            State::HalfOpen => b"half_open",
            State::Open => b"established",
            State::Closing => b"closing",
            State::Closed => b"closed",
        }
    }
}

/// How a flow ended.
pub(super) fn end(flow: &types::flow, state: State, half_open: bool) -> &'static [u8] {
    let [a, b] = flow.tcp_flags;
    match state {
        State::Closed if half_open => b"refused",
        State::Closed if a & b & FIN != 0 => b"closed",
        State::Closed => b"reset",
        State::HalfOpen => b"timed_out",
        _ => b"idle",
    }
}

/// What rows are made with.
pub(super) struct Emit {
    filtered: bool,
    exclude_self: bool,
    interfaces: HashMap<u32, String>,
}

impl Emit {
    pub(super) fn new(filtered: bool, exclude_self: bool) -> Emit {
        Emit { filtered, exclude_self, interfaces: HashMap::new() }
    }

    /// Learns the interfaces' names; those of interfaces that are gone are kept, flows of theirs are still told.
    pub(super) fn learn_interfaces(&mut self) {
        match tc::interfaces() {
            Ok(interfaces) => self.interfaces.extend(interfaces),
            Err(e) => log::warn!("flow: can't tell which network interfaces there are: {e}"),
        }
    }

    /// Emits what a flow had in the interval. `end` is empty while it goes on.
    pub(super) fn emit(
        &self,
        flow: &Flow<'_>,
        added: &Added,
        end: &'static [u8],
        (timestamp, interval): (i64, u64),
        context: &mut PollContext<'_>,
    ) {
        let (from, to) = (flow.opener, 1 - flow.opener);
        let [source, destination] = [&flow.owners[from], &flow.owners[to]];
        let local = source.as_ref().or(destination.as_ref());
        let peer = source.as_ref().and(destination.as_ref());
        if !self.is_wanted([source.as_ref(), destination.as_ref()], context) {
            return;
        }
        let (value, protocol) = (flow.value, flow.ends.protocol);
        let ends = [flow.ends.ends[from], flow.ends.ends[to]];
        let [source_ip, destination_ip] = ends.map(|(ip, _)| ip.to_string());
        let has_ports = transport::has_ports(protocol);
        let [source_port, destination_port] = ends.map(|(_, port)| has_ports.then_some(u64::from(port)));
        let is_icmp = matches!(protocol, transport::ICMP | transport::ICMPV6);
        let [icmp_type, icmp_code] = value.icmp.to_be_bytes();
        let first = usize::from(value.first_from_b != 0);
        let id =
            community_id(protocol, flow.ends.ends[first], flow.ends.ends[1 - first], (icmp_type, icmp_code));
        let flags = [from, to].map(|end| transport::flags(value.tcp_flags[end]));
        let time = |stamp| Time(context.clock.wall(stamp));
        let transport = transport::name(protocol);
        let row = rows::Flow {
            timestamp,
            interval,
            direction: direction(value, from),
            network_type: if ends[0].0.is_ipv4() { b"ipv4" } else { b"ipv6" },
            transport: transport.as_bytes(),
            community_id: id.as_bytes(),
            source_ip: source_ip.as_bytes(),
            source_port,
            source_bytes: added.bytes[from],
            source_packets: added.packets[from],
            destination_ip: destination_ip.as_bytes(),
            destination_port,
            destination_bytes: added.bytes[to],
            destination_packets: added.packets[to],
            start: time(value.first),
            last: time(value.last),
            duration: value.last.saturating_sub(value.first),
            interface: self.interfaces.get(&value.ifindex).map_or("", String::as_str).as_bytes(),
            vlan: (value.vlan != 0).then_some(value.vlan.into()),
            source_flags: flags[0].as_bytes(),
            destination_flags: flags[1].as_bytes(),
            icmp_type: is_icmp.then_some(icmp_type.into()),
            icmp_code: is_icmp.then_some(icmp_code.into()),
            connect: added.connect,
            rtt: flow.rtt.map(|rtt| rtt.smoothed),
            rtt_min: flow.rtt.and_then(|rtt| rtt.least),
            retransmits: flow.rtt.map(|_| added.retransmits),
            resets: (protocol == TCP).then_some(added.resets),
            state: flow.state.name(protocol),
            end,
            verdict: if value.forwarded != 0 { b"forwarded" } else { b"" },
            peer_pid: peer.map(|peer| peer.pid.into()),
            peer_name: peer.map_or(&[], |peer| events::name(&peer.name)),
        };
        context.emitter.emit(&row, &subject(local, value.last));
    }

    /// By its local processes: one that the filter selects, and none that is KuMon.
    fn is_wanted(&self, owners: [Option<&types::owner>; 2], context: &PollContext<'_>) -> bool {
        let own = |owner: &&types::owner| context.own_processes.contains(&owner.pid);
        if self.exclude_self && owners.iter().flatten().any(own) {
            return false;
        }
        !self.filtered || owners.iter().flatten().any(|owner| owner.selected != 0)
    }
}

fn direction(flow: &types::flow, opener: usize) -> &'static [u8] {
    let opener_sent_first = usize::from(flow.first_from_b != 0) == opener;
    match () {
        () if flow.ifindex == LOOPBACK => b"internal",
        () if flow.forwarded != 0 => b"forwarded",
        () if opener_sent_first == (flow.first_egress != 0) => b"egress",
        () => b"ingress",
    }
}

fn subject(owner: Option<&types::owner>, seen: u64) -> Subject<'_> {
    owner.map_or(Subject::Unknown, |owner| {
        Subject::Process(Process {
            pid: owner.pid,
            start: owner.start,
            name: events::name(&owner.name),
            uid: Some(owner.uid),
            gid: None,
            cgroup: owner.cgroup,
            seen,
        })
    })
}
