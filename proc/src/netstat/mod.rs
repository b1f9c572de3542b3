//! The metric netstat: what the node's network stack does, of /proc/net/snmp and the files beside it.

use std::collections::HashMap;
use std::time::Duration;

use kumon_collect::settings::{INTERVAL, interval};
use kumon_collect::{Emitter, Subject};
use kumon_schema::rows;
use serde::Deserialize;

use crate::Root;
use crate::counter::{added, added_if_known};
use crate::error::ReadError;
use crate::file::KernelFile;
use crate::metric::{Metric, Period};
use crate::parse;

/// Settings of the metric netstat.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetstatSettings {
    pub enabled: bool,
    /// Time that a row sums up.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
}

impl Default for NetstatSettings {
    fn default() -> NetstatSettings {
        NetstatSettings { enabled: true, interval: INTERVAL }
    }
}

pub(crate) struct Netstat {
    files: Files,
    before: Counters,
}

struct Files {
    snmp: KernelFile,
    netstat: KernelFile,
    snmp6: KernelFile,
    sockstat: KernelFile,
    sockstat6: KernelFile,
    dev: KernelFile,
}

const TCP: [(&str, &str); 10] = [
    ("Tcp", "ActiveOpens"),
    ("Tcp", "PassiveOpens"),
    ("Tcp", "AttemptFails"),
    ("Tcp", "EstabResets"),
    ("Tcp", "OutRsts"),
    ("Tcp", "InSegs"),
    ("Tcp", "OutSegs"),
    ("Tcp", "RetransSegs"),
    ("Tcp", "InErrs"),
    ("Tcp", "CurrEstab"),
];
const TCP_EXTENDED: [(&str, &str); 5] = [
    ("TcpExt", "ListenOverflows"),
    ("TcpExt", "ListenDrops"),
    ("TcpExt", "TCPTimeouts"),
    ("TcpExt", "SyncookiesSent"),
    ("TcpExt", "TCPAbortOnMemory"),
];
/// Those of IPv6 have the same names behind `Udp6` and `Ip6`, but for one.
const UDP_AND_IP: [(&str, &str); 16] = [
    ("Udp", "InDatagrams"),
    ("Udp", "OutDatagrams"),
    ("Udp", "NoPorts"),
    ("Udp", "InErrors"),
    ("Udp", "RcvbufErrors"),
    ("Udp", "SndbufErrors"),
    ("Ip", "InReceives"),
    ("Ip", "OutRequests"),
    ("Ip", "ForwDatagrams"),
    ("Ip", "InHdrErrors"),
    ("Ip", "InAddrErrors"),
    ("Ip", "InDiscards"),
    ("Ip", "OutDiscards"),
    ("Ip", "OutNoRoutes"),
    ("Ip", "ReasmFails"),
    ("Ip", "FragFails"),
];
const UDP_AND_IP_6: [&str; UDP_AND_IP.len()] = [
    "Udp6InDatagrams",
    "Udp6OutDatagrams",
    "Udp6NoPorts",
    "Udp6InErrors",
    "Udp6RcvbufErrors",
    "Udp6SndbufErrors",
    "Ip6InReceives",
    "Ip6OutRequests",
    "Ip6OutForwDatagrams",
    "Ip6InHdrErrors",
    "Ip6InAddrErrors",
    "Ip6InDiscards",
    "Ip6OutDiscards",
    "Ip6OutNoRoutes",
    "Ip6ReasmFails",
    "Ip6FragFails",
];
const SOCKETS: [(&str, &str); 7] = [
    ("sockets", "used"),
    ("TCP", "inuse"),
    ("TCP", "orphan"),
    ("TCP", "tw"),
    ("TCP", "mem"),
    ("UDP", "inuse"),
    ("UDP", "mem"),
];

const SOCKETS_6: [(&str, &str); 2] = [("TCP6", "inuse"), ("UDP6", "inuse")];

struct Counters {
    tcp: [Option<u64>; TCP.len()],
    tcp_extended: [Option<u64>; TCP_EXTENDED.len()],
    udp_and_ip: [Option<u64>; UDP_AND_IP.len()],
    udp_and_ip_6: [Option<u64>; UDP_AND_IP.len()],
    /// Of each interface but the loopback: bytes and packets that were received, and that were sent.
    interfaces: HashMap<Vec<u8>, [u64; 4]>,
}

impl Metric for Netstat {
    const NAME: &'static str = "netstat";
    const FILE: &'static str = "/proc/net/snmp";
    const MAY_HANG: bool = false;
    type Settings = NetstatSettings;

    fn start(root: &Root, _: &NetstatSettings) -> Result<Netstat, ReadError> {
        let file = |name: &str| KernelFile::at(root.net(name));
        let mut files = Files {
            snmp: file("snmp"),
            netstat: file("netstat"),
            snmp6: file("snmp6"),
            sockstat: file("sockstat"),
            sockstat6: file("sockstat6"),
            dev: file("dev"),
        };
        let before = files.counters()?;
        Ok(Netstat { files, before })
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        let now = self.files.counters()?;
        let before = &self.before;
        let [received_bytes, received_packets, sent_bytes, sent_packets] = traffic(before, &now);
        let tcp = |at: usize| added_if_known(before.tcp[at], now.tcp[at]);
        let extended = |at: usize| added_if_known(before.tcp_extended[at], now.tcp_extended[at]);
        let both = |at: usize| {
            let added_6 = added_if_known(before.udp_and_ip_6[at], now.udp_and_ip_6[at]);
            sum(added_if_known(before.udp_and_ip[at], now.udp_and_ip[at]), added_6)
        };
        let [used, tcp_4, orphaned, time_wait, tcp_pages, udp_4, udp_pages] =
            parse::sockets(self.files.sockstat.read_if_any(), &SOCKETS);
        let [tcp_6, udp_6] = parse::sockets(self.files.sockstat6.read_if_any(), &SOCKETS_6);
        let bytes = |pages: Option<u64>| pages?.checked_mul(rustix::param::page_size() as u64);
        let row = rows::Netstat {
            timestamp: period.timestamp,
            interval: period.interval,
            period: period.interval / 1_000_000,
            received_bytes,
            received_packets,
            sent_bytes,
            sent_packets,
            tcp_active_opens: tcp(0),
            tcp_passive_opens: tcp(1),
            tcp_attempt_fails: tcp(2),
            tcp_established_resets: tcp(3),
            tcp_resets_sent: tcp(4),
            tcp_segments_received: tcp(5),
            tcp_segments_sent: tcp(6),
            tcp_segments_retransmitted: tcp(7),
            tcp_receive_errors: tcp(8),
            tcp_established: now.tcp[9],
            tcp_listen_overflows: extended(0),
            tcp_listen_drops: extended(1),
            tcp_timeouts: extended(2),
            tcp_syn_cookies_sent: extended(3),
            tcp_memory_aborts: extended(4),
            udp_received: both(0),
            udp_sent: both(1),
            udp_no_ports: both(2),
            udp_receive_errors: both(3),
            udp_receive_buffer_errors: both(4),
            udp_send_buffer_errors: both(5),
            ip_received: both(6),
            ip_sent: both(7),
            ip_forwarded: both(8),
            ip_receive_header_errors: both(9),
            ip_receive_address_errors: both(10),
            ip_receive_discards: both(11),
            ip_send_discards: both(12),
            ip_no_routes: both(13),
            ip_reassembly_fails: both(14),
            ip_fragment_fails: both(15),
            sockets_used: used,
            sockets_tcp: sum(tcp_4, tcp_6),
            sockets_tcp_orphaned: orphaned,
            sockets_tcp_time_wait: time_wait,
            sockets_tcp_memory: bytes(tcp_pages),
            sockets_udp: sum(udp_4, udp_6),
            sockets_udp_memory: bytes(udp_pages),
        };
        emitter.emit(&row, &Subject::Node);
        self.before = now;
        Ok(())
    }
}

impl Files {
    fn counters(&mut self) -> Result<Counters, ReadError> {
        let (tcp, udp_and_ip) = self.snmp.read_as(|text| {
            let tcp = parse::protocols(text, &TCP);
            // Every kernel with a network stack has them.
            tcp[0].map(|_| (tcp, parse::protocols(text, &UDP_AND_IP)))
        })?;
        let mut interfaces = HashMap::new();
        parse::interfaces(self.dev.read_if_any(), |name, numbers| {
            if name != b"lo" {
                interfaces.insert(name.to_vec(), [0, 1, 8, 9].map(|at| numbers[at]));
            }
        });
        Ok(Counters {
            tcp,
            tcp_extended: parse::protocols(self.netstat.read_if_any(), &TCP_EXTENDED),
            udp_and_ip,
            udp_and_ip_6: parse::pairs(self.snmp6.read_if_any(), &UDP_AND_IP_6),
            interfaces,
        })
    }
}

/// What all interfaces received and sent. One that came just now has done all of it since.
fn traffic(before: &Counters, now: &Counters) -> [Option<u64>; 4] {
    let mut sums = [0u64; 4];
    for (name, numbers) in &now.interfaces {
        let before = before.interfaces.get(name).copied().unwrap_or_default();
        for (sum, (before, now)) in sums.iter_mut().zip(before.into_iter().zip(*numbers)) {
            *sum = sum.saturating_add(added(before, now));
        }
    }
    sums.map(Some)
}

/// Of IPv4 and of IPv6, of which a kernel may have no more than one.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use crate::Settings;
    use crate::testing::Node;

    const SNMP: &str = "Ip: Forwarding InReceives OutRequests OutDiscards\nIp: 1 100 90 1\n\
        Tcp: MaxConn ActiveOpens PassiveOpens CurrEstab RetransSegs\nTcp: -1 10 20 3 7\n\
        Udp: InDatagrams NoPorts\nUdp: 50 5\n";

    #[test]
    fn both_versions_of_ip_are_summed_and_what_is_not_told_is_empty() {
        let node = Node::new();
        node.write("proc/net/snmp", SNMP);
        node.write("proc/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 2\n");
        node.write("proc/net/snmp6", "Ip6InReceives 10\nUdp6InDatagrams 1\n");
        node.write(
            "proc/net/dev",
            "Inter-|\nlo: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\neth0: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n",
        );
        let mut reading = node.start("netstat", Settings::default());
        node.write(
            "proc/net/snmp",
            "Ip: Forwarding InReceives OutRequests OutDiscards\nIp: 1 110 95 1\n\
            Tcp: MaxConn ActiveOpens PassiveOpens CurrEstab RetransSegs\nTcp: -1 12 23 9 7\n\
            Udp: InDatagrams NoPorts\nUdp: 54 10\n",
        );
        node.write("proc/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 7 9\n");
        node.write("proc/net/snmp6", "Ip6InReceives 15\nUdp6InDatagrams 7\n");
        node.write(
            "proc/net/dev",
            "Inter-|\nlo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\neth0: 6 7 0 0 0 0 0 0 8 9 0 0 0 0 0 0\n\
            new0: 10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n",
        );
        node.write(
            "proc/net/sockstat",
            "sockets: used 19\nTCP: inuse 2 orphan 1 tw 4 alloc 5 mem 0\nUDP: inuse 3 mem 0\n",
        );
        node.write("proc/net/sockstat6", "TCP6: inuse 7\nUDP6: inuse 1\n");
        let mut row = reading.row();
        assert!(row.remove("period").is_some() && row.remove("interval").is_some());
        assert!(row.remove("timestamp").is_some());
        let expected = [
            ("event_module", "system"),
            ("event_dataset", "system.network_summary"),
            ("received_bytes", "11"),
            ("received_packets", "22"),
            ("sent_bytes", "33"),
            ("sent_packets", "44"),
            ("tcp_active_opens", "2"),
            ("tcp_passive_opens", "3"),
            ("tcp_established", "9"),
            ("tcp_segments_retransmitted", "0"),
            ("tcp_listen_overflows", "6"),
            ("tcp_listen_drops", "7"),
            ("udp_received", "10"),
            ("udp_no_ports", "5"),
            ("ip_received", "15"),
            ("ip_sent", "5"),
            ("ip_send_discards", "0"),
            ("sockets_used", "19"),
            ("sockets_tcp", "9"),
            ("sockets_tcp_orphaned", "1"),
            ("sockets_tcp_time_wait", "4"),
            ("sockets_tcp_memory", "0"),
            ("sockets_udp", "4"),
            ("sockets_udp_memory", "0"),
        ];
        assert_eq!(row, expected.map(|(column, text)| (column.into(), text.into())).into());
        node.write("proc/net/snmp", "Tcp: A\n");
        assert!(reading.failure().contains("/proc/net/snmp: it is not what Linux writes there"));
    }
}
