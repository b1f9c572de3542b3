//! What the rows of drop and tcpdrop say of a packet alike.

use std::net::{IpAddr, Ipv6Addr};

use super::reasons::{Class, Reasons};
use super::skeleton::types;
use super::symbols::Symbols;
use crate::events;

/// include/uapi/linux/if_ether.h
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

const IPPROTO_TCP: u8 = 6;

/// By the number of include/net/tcp_states.h, named as ss(8) and the kernel do.
const TCP_STATES: [&str; 14] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

/// The flags of a TCP header, the lowest bit first.
const TCP_FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// Names what the numbers of a key mean.
pub(super) struct Names {
    pub(super) reasons: Reasons,
    pub(super) symbols: Symbols,
}

/// What was dropped why and where: the key of a summary's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) reason: String,
    pub(super) class: Class,
    pub(super) location: String,
    pub(super) direction: &'static str,
    pub(super) network_type: &'static str,
    pub(super) transport: &'static str,
    pub(super) interface: Vec<u8>,
    /// 0 where it isn't known.
    pub(super) cgroup: u64,
}

impl Names {
    pub(super) fn place(&mut self, key: &types::drop_key) -> Place {
        Place {
            reason: self.reasons.name(key.reason),
            class: self.reasons.class(key.reason),
            location: self.symbols.name(key.location).to_owned(),
            direction: if key.came_in != 0 { "ingress" } else { "egress" },
            network_type: network_type(key.protocol),
            transport: transport(key.transport),
            interface: events::name(&key.interface).to_vec(),
            cgroup: key.cgroup,
        }
    }
}

fn network_type(protocol: u16) -> &'static str {
    match protocol {
        ETH_P_IP => "ipv4",
        ETH_P_IPV6 => "ipv6",
        ETH_P_ARP => "arp",
        _ => "",
    }
}

/// As /etc/protocols and ECS have it.
fn transport(protocol: u8) -> &'static str {
    match protocol {
        // Nothing could be read of the packet.
        0 => "",
        1 => "icmp",
        2 => "igmp",
        IPPROTO_TCP => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        58 => "ipv6-icmp",
        89 => "ospf",
        132 => "sctp",
        136 => "udplite",
        _ => "other",
    }
}

/// Both ends of a packet; texts are empty, and ports missing, where it doesn't say them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source_ip: String,
    pub(super) source_port: Option<u64>,
    pub(super) destination_ip: String,
    pub(super) destination_port: Option<u64>,
    pub(super) tcp_state: &'static str,
}

impl Ends {
    pub(super) fn of(packet: &types::packet, transport: u8) -> Ends {
        if packet.has_addresses == 0 {
            return Ends::default();
        }
        let has_ports = (packet.source_port, packet.destination_port) != (0, 0);
        let port = |port: u16| has_ports.then_some(port.into());
        Ends {
            source_ip: address(packet.source),
            source_port: port(packet.source_port),
            destination_ip: address(packet.destination),
            destination_port: port(packet.destination_port),
            tcp_state: tcp_state(packet, transport),
        }
    }
}

fn address(bytes: [u8; 16]) -> String {
    IpAddr::from(Ipv6Addr::from(bytes)).to_canonical().to_string()
}

fn tcp_state(packet: &types::packet, transport: u8) -> &'static str {
    if transport != IPPROTO_TCP {
        return "";
    }
    TCP_STATES.get(usize::from(packet.tcp_state)).copied().unwrap_or_default()
}

/// `SYN|ACK`; empty where the header is cut off.
pub(super) fn tcp_flags(packet: &types::packet) -> String {
    if packet.has_transport == 0 {
        return String::new();
    }
    let is_set = |bit: usize| packet.tcp_flags & 1 << bit != 0;
    let set: Vec<&str> =
        TCP_FLAGS.iter().enumerate().filter(|(bit, _)| is_set(*bit)).map(|(_, name)| *name).collect();
    set.join("|")
}

#[cfg(test)]
mod tests {
    use super::{Ends, tcp_flags, transport, types};

    fn packet() -> types::packet {
        let mapped = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
        types::packet {
            source: mapped(1),
            destination: mapped(2),
            source_port: 40_000,
            destination_port: 80,
            tcp_flags: 0x12,
            tcp_state: 10,
            has_addresses: 1,
            has_transport: 1,
            ..types::packet::default()
        }
    }

    #[test]
    fn a_packet_has_its_ends_and_the_state_of_its_tcp_socket_only() {
        let ends = Ends::of(&packet(), 6);
        assert_eq!((ends.source_ip.as_str(), ends.source_port), ("10.0.0.1", Some(40_000)));
        assert_eq!((ends.destination_ip.as_str(), ends.destination_port), ("10.0.0.2", Some(80)));
        assert_eq!(ends.tcp_state, "LISTEN");
        assert_eq!(Ends::of(&packet(), 17).tcp_state, "", "the states of other sockets are none");
        assert_eq!(tcp_flags(&packet()), "SYN|ACK");
    }

    #[test]
    fn what_is_cut_off_is_empty() {
        let no_addresses = types::packet { has_addresses: 0, ..packet() };
        assert_eq!(Ends::of(&no_addresses, 6), Ends::default());
        let no_ports = types::packet { source_port: 0, destination_port: 0, has_transport: 0, ..packet() };
        assert_eq!(Ends::of(&no_ports, 6).source_port, None);
        assert_eq!(tcp_flags(&no_ports), "");
        assert_eq!((transport(0), transport(253)), ("", "other"));
    }
}
