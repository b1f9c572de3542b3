//! The metrics netdev and netstat beside `ip -s link`, `nstat` and loads of known numbers.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use common::{Numbers, compare, number, output};
use kumon_collect::NamePatterns;
use kumon_proc::Settings;
use kumon_testing::{require_program, require_root};

/// Two interfaces joined to one another, the one of them in a network namespace of its own, which are taken away in the end.
struct Pair {
    name: String,
    namespace: String,
}

impl Pair {
    fn make() -> Option<Pair> {
        if !require_root() || !require_program("ip") {
            return None;
        }
        let id = std::process::id();
        let pair = Pair { name: format!("km{id}"), namespace: format!("kumon-{id}") };
        pair.ip("netns add NS");
        pair.ip("link add IF type veth peer name peer netns NS");
        pair.ip("addr add 198.18.77.1/30 dev IF");
        pair.ip("link set IF up");
        pair.ip("-n NS addr add 198.18.77.2/30 dev peer");
        pair.ip("-n NS link set peer up");
        Some(pair)
    }

    fn ip(&self, command: &str) {
        let words = command.split(' ').map(|word| match word {
            "NS" => &self.namespace,
            "IF" => &self.name,
            other => other,
        });
        assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {command}");
    }

    /// What `ip -s link` tells of the interface.
    fn link(&self) -> Numbers {
        let link: serde_json::Value =
            serde_json::from_str(&output("ip", &["-s", "-s", "-j", "link", "show", &self.name])).unwrap();
        let mut numbers = Numbers::new();
        for direction in ["rx", "tx"] {
            for (name, number) in link[0]["stats64"][direction].as_object().unwrap() {
                numbers.insert(format!("{direction} {name}"), number.as_u64().unwrap());
            }
        }
        numbers
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.name]).status();
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

#[test]
fn what_an_interface_received_and_sent_is_what_ip_tells() {
    let Some(pair) = Pair::make() else { return };
    let compared = compare(
        "netdev",
        &Settings::default(),
        || pair.link(),
        || {
            // Nobody listens there: each is answered with a reset.
            assert!((0..50).all(|_| TcpStream::connect("198.18.77.2:9").is_err()));
        },
    );
    let row = compared.row("interface", &pair.name);
    for (column, name) in [
        ("received_bytes", "rx bytes"),
        ("received_packets", "rx packets"),
        ("received_errors", "rx errors"),
        ("received_dropped", "rx dropped"),
        ("multicast", "rx multicast"),
        ("sent_bytes", "tx bytes"),
        ("sent_packets", "tx packets"),
        ("sent_errors", "tx errors"),
        ("sent_dropped", "tx dropped"),
        ("sent_fifo_errors", "tx fifo_errors"),
        ("collisions", "tx collisions"),
        ("carrier_errors", "tx carrier_errors"),
    ] {
        compared.assert_added(row, column, name, 1);
    }
    compared.assert_stands(row, "received_bytes_total", "rx bytes", 1, 0);
    // Frames of at least the headers of Ethernet, IP and TCP.
    for direction in ["received", "sent"] {
        assert!(number(row, &format!("{direction}_packets")) >= 50, "{row:?}");
        assert!(number(row, &format!("{direction}_bytes")) >= 50 * 54, "{row:?}");
    }
    // What a veth says it has.
    assert_eq!((row["speed"].as_str(), row["state"].as_str()), ("10000000000", "up"));
    assert!(compared.rows.iter().all(|row| row["interface"] != "lo"), "{:?}", compared.rows);
}

/// The kernel's numbers by nstat's names, those that are 0 too.
fn nstat() -> Numbers {
    let told: serde_json::Value = serde_json::from_str(&output("nstat", &["-asj"])).unwrap();
    let told = told["kernel"].as_object().unwrap();
    let numbers = told.iter().filter_map(|(name, number)| Some((name.clone(), number.as_u64()?)));
    let mut numbers: Numbers = numbers.collect();
    // `TCP: inuse 3 …`
    for (row, line) in
        output("cat", &["/proc/net/sockstat"]).lines().map(|line| line.split_once(": ").unwrap())
    {
        for pair in line.split(' ').collect::<Vec<_>>().chunks(2) {
            numbers.insert(format!("{row} {}", pair[0]), pair[1].parse().unwrap());
        }
    }
    numbers
}

/// Connections, of which some are refused, and datagrams to nobody.
fn load() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..30 {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"question").unwrap();
        server.read_exact(&mut [0; 8]).unwrap();
    }
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    assert!((0..10).all(|_| TcpStream::connect(nobody).is_err()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        // The answer that nobody listens comes as an error of the next one.
        let _ = socket.send_to(b"hello", ("127.0.0.1", nobody.port()));
    }
}

#[test]
fn what_the_network_stack_did_is_what_nstat_tells() {
    if !require_program("nstat") {
        return;
    }
    let source = || {
        let mut numbers = nstat();
        for (sum, six) in [
            ("UdpNoPorts", "Udp6NoPorts"),
            ("IpInReceives", "Ip6InReceives"),
            ("IpOutRequests", "Ip6OutRequests"),
        ] {
            let six = numbers.get(six).copied().unwrap_or(0);
            *numbers.entry(sum.to_owned()).or_default() += six;
        }
        // nstat leaves out what is 0.
        for name in
            ["TcpExtListenOverflows", "TcpExtListenDrops", "TcpRetransSegs", "TcpEstabResets", "TcpInErrs"]
        {
            numbers.entry(name.to_owned()).or_default();
        }
        numbers
    };
    let compared = compare("netstat", &Settings::default(), source, load);
    let [row] = compared.rows.as_slice() else { panic!("{:?}", compared.rows) };
    for (column, name) in [
        ("tcp_active_opens", "TcpActiveOpens"),
        ("tcp_passive_opens", "TcpPassiveOpens"),
        ("tcp_attempt_fails", "TcpAttemptFails"),
        ("tcp_established_resets", "TcpEstabResets"),
        ("tcp_resets_sent", "TcpOutRsts"),
        ("tcp_segments_received", "TcpInSegs"),
        ("tcp_segments_sent", "TcpOutSegs"),
        ("tcp_segments_retransmitted", "TcpRetransSegs"),
        ("tcp_receive_errors", "TcpInErrs"),
        ("tcp_listen_overflows", "TcpExtListenOverflows"),
        ("tcp_listen_drops", "TcpExtListenDrops"),
        ("udp_no_ports", "UdpNoPorts"),
        ("ip_received", "IpInReceives"),
        ("ip_sent", "IpOutRequests"),
    ] {
        compared.assert_added(row, column, name, 1);
    }
    for (column, least) in
        [("tcp_active_opens", 40), ("tcp_passive_opens", 30), ("tcp_attempt_fails", 10), ("udp_no_ports", 10)]
    {
        assert!(number(row, column) >= least, "{column}: {row:?}");
    }
    // Others open and close sockets while they are counted.
    compared.assert_stands(row, "sockets_used", "sockets used", 1, 20);
    compared.assert_stands(row, "sockets_tcp_time_wait", "TCP tw", 1, 50);
    assert_eq!(number(row, "period"), number(row, "interval") / 1_000_000);
}

#[test]
fn the_loopback_has_rows_where_it_is_not_excluded() {
    let mut settings = Settings::default();
    settings.netdev.exclude = NamePatterns::default();
    let compared = compare("netdev", &settings, Numbers::new, load);
    let row = compared.row("interface", "lo");
    // Whatever it receives it has sent.
    assert_eq!(number(row, "received_bytes"), number(row, "sent_bytes"));
    assert!(number(row, "received_packets") >= 100, "{row:?}");
}
