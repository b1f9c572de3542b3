//! flow beside what the interfaces count and what the load knows, in network namespaces of its own.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::network::Namespace;
use common::{Collected, Collecting, Row};
use kumon_bpf::Settings;
use kumon_collect::NamePatterns;
use kumon_testing::{repetitions, require_bpf, require_program, wait_for};

/// A machine that is watched, `a`, and another one, `b`, joined by a pair of interfaces.
struct Pair {
    a: Namespace,
    b: Namespace,
}

/// `PORT` is what the server listens on.
const PORT: u16 = 4711;

impl Pair {
    fn new() -> Option<Pair> {
        if !can_run() {
            return None;
        }
        let (a, b) = (Namespace::new(), Namespace::new());
        a.join(&b, "eth0", ["10.9.0.1/24", "10.9.0.2/24"]);
        Some(Pair { a, b })
    }
}

fn can_run() -> bool {
    require_bpf() && ["ip", "nsenter", "unshare", "python3"].into_iter().all(require_program)
}

fn settings() -> Settings {
    let mut settings = Settings { exclude_self: false, ..Settings::default() };
    settings.flow.flow.enabled = true;
    settings.flow.flow.interval = Duration::from_secs(1);
    settings
}

/// A server at argv[1]:argv[2] that answers each connection of `argv[3]` bytes with as many, in a worker of its own, and
/// says when it listens, and which process answers.
const SERVER: &str = "
import os, socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, port))
s.listen()
print('listens', flush=True)
c, _ = s.accept()
if os.fork() == 0:
    print(os.getpid(), flush=True)
    got = 0
    while got < size: got += len(c.recv(65536))
    c.sendall(b'a' * size)
    c.recv(1)
    os._exit(0)
c.close()
os.wait()
";

const CLIENT: &str = "
import socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.create_connection((host, port))
print(s.getsockname()[1], flush=True)
s.sendall(b'q' * size)
got = 0
while got < size: got += len(s.recv(65536))
s.close()
";

/// Echoes argv[3] datagrams.
const UDP_SERVER: &str = "
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print('listens', flush=True)
for i in range(int(sys.argv[3])):
    data, peer = s.recvfrom(2048)
    s.sendto(data[:50], peer)
";

/// Sends argv[3] datagrams of 100 bytes, one after the other's answer.
const UDP_CLIENT: &str = "
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[3])):
    s.sendto(b'x' * 100, (sys.argv[1], int(sys.argv[2])))
    s.recvfrom(2048)
print(s.getsockname()[1])
";

/// Sends argv[2] echo requests of 84 bytes, one after the other's reply.
const PING: &str = "
import os, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.connect((sys.argv[1], 0))
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
for i in range(int(sys.argv[2])):
    echo = lambda check: struct.pack('!BBHHH', 8, 0, check, os.getpid() & 0xffff, i) + b'p' * 56
    s.send(echo(sum16(echo(0))))
    s.recv(2048)
";

/// A running program with its standard output.
struct Running {
    child: kumon_testing::Child,
    output: std::io::BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(mut command: std::process::Command) -> Running {
        let mut child = kumon_testing::Child::spawn(command.stdout(std::process::Stdio::piped()));
        let output = std::io::BufReader::new(child.inner().stdout.take().unwrap());
        Running { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.output, &mut line).unwrap();
        line.trim().to_owned()
    }

    fn end(mut self) {
        assert!(self.child.wait(Duration::from_secs(60)).success());
    }
}

fn with_arguments(namespace: &Namespace, script: &str, arguments: &[&str]) -> Running {
    let mut command = namespace.python(script);
    command.args(arguments);
    Running::start(command)
}

/// What rows add up to: packets and bytes of both ends.
fn sums(rows: &[Row]) -> [i64; 4] {
    ["source_packets", "source_bytes", "destination_packets", "destination_bytes"]
        .map(|column| rows.iter().map(|row| row.number(column)).sum())
}

fn rows_of(collected: &Collected, keep: impl Fn(&Row) -> bool) -> Vec<Row> {
    let mut rows = collected.rows("flow");
    rows.retain(keep);
    rows
}

#[test]
fn flows_add_up_to_what_the_interface_counts_and_know_their_processes() {
    let Some(Pair { a, b }) = Pair::new() else { return };
    let collecting = Collecting::start_in(&a, "flow", settings());
    let before = a.counters("eth0");
    let size = "3000000";
    // From the watched machine out, and from outside in.
    let mut ports = Vec::new();
    for (server, client, address) in [(&b, &a, "10.9.0.2"), (&a, &b, "10.9.0.1")] {
        let arguments = [address, &PORT.to_string(), size];
        let mut server = with_arguments(server, SERVER, &arguments);
        assert_eq!(server.line(), "listens");
        let mut client = with_arguments(client, CLIENT, &arguments);
        let (port, pid) = (client.line(), client.child.id());
        let worker = server.line();
        client.end();
        server.end();
        ports.push((port, pid.to_string(), worker));
    }
    let arguments = ["10.9.0.1", "5353", "100"];
    let mut server = with_arguments(&a, UDP_SERVER, &arguments);
    let udp_server = server.child.id();
    assert_eq!(server.line(), "listens");
    let mut client = with_arguments(&b, UDP_CLIENT, &arguments);
    let udp_port = client.line();
    client.end();
    server.end();
    assert!(a.python(PING).args(["10.9.0.2", "5"]).status().unwrap().success());
    let counted: Vec<i64> =
        a.counters("eth0").iter().zip(before).map(|(now, before)| (now - before) as i64).collect();
    wait_for("the ends of both connections", Duration::from_secs(20), || {
        collecting.rows("flow").iter().filter(|row| row.text("end") == "closed").count() == 2
    });
    let collected = collecting.stop();
    assert_eq!(collected.lost("flow"), 0);

    let all = rows_of(&collected, |row| row.text("interface") == "eth0");
    let [sent, received] = [("egress", "ingress"), ("ingress", "egress")].map(|(own, theirs)| {
        let of = |direction: &str| -> Vec<Row> {
            all.iter().filter(|row| row.text("direction") == direction).cloned().collect()
        };
        let (own, theirs) = (sums(&of(own)), sums(&of(theirs)));
        (own[0] + theirs[2], own[1] + theirs[3])
    });
    // What the interface counts has the 14 bytes of Ethernet.
    let ip = |packets: i64, bytes: i64| (packets, bytes - 14 * packets);
    assert_eq!(received, ip(counted[0], counted[1]), "{all:#?}");
    assert_eq!(sent, ip(counted[2], counted[3]), "{all:#?}");

    let (out, inwards) = (&ports[0], &ports[1]);
    for ((port, pid, worker), direction, [source, destination]) in
        [(out, "egress", ["10.9.0.1", "10.9.0.2"]), (inwards, "ingress", ["10.9.0.2", "10.9.0.1"])]
    {
        let rows: Vec<&Row> = all.iter().filter(|row| row.text("source_port") == port).collect();
        assert!(!rows.is_empty());
        let last = rows.last().unwrap();
        for row in &rows {
            assert_eq!((row.text("source_ip"), row.text("destination_ip")), (source, destination));
            assert_eq!((row.text("direction"), row.text("transport")), (direction, "tcp"));
        }
        // Both ends are processes of this machine.
        assert_eq!([last.text("pid"), last.text("peer_pid")], [pid, worker], "{last:?}");
        assert_eq!((last.text("end"), last.text("state")), ("closed", "closed"));
        assert!(last.number("rtt") > 0 && last.number("rtt_min") > 0, "{last:?}");
        let latencies: Vec<i64> = rows
            .iter()
            .filter(|row| !row.text("connect").is_empty())
            .map(|row| row.number("connect"))
            .collect();
        assert!(matches!(latencies[..], [latency] if (1..1_000_000_000).contains(&latency)), "{latencies:?}");
        assert!(last.text("source_flags").contains('S') && last.text("destination_flags").contains('A'));
        assert!(last.text("community_id").starts_with("1:"));
    }
    // Payload, with the 28 bytes of IP and UDP.
    let udp: Vec<Row> = all.iter().filter(|row| row.text("source_port") == udp_port).cloned().collect();
    assert_eq!(sums(&udp), [100, 12_800, 100, 7_800]);
    assert_eq!(udp[0].number("peer_pid"), i64::from(udp_server));
    let ping: Vec<Row> = all.iter().filter(|row| row.text("transport") == "icmp").cloned().collect();
    assert_eq!(sums(&ping), [5, 5 * 84, 5, 5 * 84]);
    assert_eq!((ping[0].number("icmp_type"), ping[0].text("direction")), (8, "egress"));
}

/// A connect that is refused, one that nobody answers, and one that is reset, to port argv[1].
const FAILING: &str = "
import socket, struct, sys
def connect(host, port, timeout=None):
    s = socket.socket()
    s.settimeout(timeout)
    try: s.connect((host, port))
    except OSError: pass
    return s
connect('10.9.0.2', 1).close()
connect('10.9.0.3', 2, 0.5).close()
s = connect('10.9.0.2', int(sys.argv[1]))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()
";

#[test]
fn connects_that_are_refused_or_time_out_and_resets_are_told_as_such() {
    let Some(Pair { a, b }) = Pair::new() else { return };
    // Packets to this one arrive, and are for nobody.
    a.run("ip neigh replace 10.9.0.3 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
    let collecting = Collecting::start_in(&a, "flow", settings());
    let server = "import socket, sys\ns = socket.create_server(('10.9.0.2', int(sys.argv[1])))\nprint('listens', \
                  flush=True)\nc, _ = s.accept()\ntry: c.recv(1)\nexcept OSError: pass";
    let mut server = with_arguments(&b, server, &[&PORT.to_string()]);
    assert_eq!(server.line(), "listens");
    let client = with_arguments(&a, FAILING, &[&PORT.to_string()]);
    let pid = i64::from(client.child.id());
    client.end();
    server.end();
    let ended = |row: &Row| !row.text("end").is_empty();
    wait_for("the ends of all three", Duration::from_secs(30), || {
        collecting.rows("flow").iter().filter(|row| ended(row)).count() == 3
    });
    let rows = rows_of(&collecting.stop(), ended);
    for (port, end, state) in
        [(1, "refused", "closed"), (2, "timed_out", "half_open"), (i64::from(PORT), "reset", "closed")]
    {
        let row = rows.iter().find(|row| row.number("destination_port") == port).unwrap();
        assert_eq!((row.text("end"), row.text("state")), (end, state), "{row:?}");
        assert_eq!((row.number("pid"), row.text("source_ip")), (pid, "10.9.0.1"), "{row:?}");
    }
}

/// Connects to every port of argv[1], many at a time.
const SCAN: &str = "
import errno, selectors, socket, sys
waiting, ports = selectors.DefaultSelector(), iter(range(1, 65536))
def start():
    for port in ports:
        s = socket.socket()
        s.setblocking(False)
        if s.connect_ex((sys.argv[1], port)) == errno.EINPROGRESS:
            waiting.register(s, selectors.EVENT_WRITE)
            return
        s.close()
for _ in range(100): start()
while waiting.get_map():
    for key, _ in waiting.select():
        waiting.unregister(key.fileobj)
        key.fileobj.close()
        start()
";

#[test]
fn a_port_scan_takes_no_place_of_a_flow() {
    let Some(Pair { a, b }) = Pair::new() else { return };
    let mut settings = settings();
    settings.flow.flow.max_flows = 100;
    let collecting = Collecting::start_in(&b, "flow", settings);
    assert!(a.python(SCAN).arg("10.9.0.2").status().unwrap().success());
    let mut server = with_arguments(&b, UDP_SERVER, &["10.9.0.2", "5353", "10"]);
    assert_eq!(server.line(), "listens");
    let mut client = with_arguments(&a, UDP_CLIENT, &["10.9.0.2", "5353", "10"]);
    let port = client.line();
    client.end();
    server.end();
    let collected = collecting.stop();
    let udp = rows_of(&collected, |row| row.text("source_port") == port && row.text("transport") == "udp");
    assert_eq!(sums(&udp), [10, 1_280, 10, 780]);
    // What was scanned is told or counted, to the last port.
    let mut scanned: Vec<i64> = rows_of(&collected, |row| row.text("transport") == "tcp")
        .iter()
        .map(|row| row.number("destination_port"))
        .collect();
    scanned.sort_unstable();
    scanned.dedup();
    let pushed_out: u64 =
        collected.losses.iter().filter(|loss| loss.reason == "map full").map(|loss| loss.count).sum();
    assert!(scanned.len() as u64 + pushed_out >= 65_535, "{} told, {pushed_out} counted", scanned.len());
    assert!(!scanned.is_empty() && pushed_out < 65_535);
}

#[test]
fn packets_of_flows_that_find_no_place_are_counted() {
    let Some(Pair { a, b }) = Pair::new() else { return };
    let mut settings = settings();
    settings.flow.flow.max_flows = 1;
    let collecting = Collecting::start_in(&a, "flow", settings);
    let mut packets = 0;
    for port in ["5353", "5354", "5355"] {
        let mut server = with_arguments(&b, UDP_SERVER, &["10.9.0.2", port, "10"]);
        assert_eq!(server.line(), "listens");
        let mut client = with_arguments(&a, UDP_CLIENT, &["10.9.0.2", port, "10"]);
        client.line();
        client.end();
        server.end();
        packets += 20;
    }
    let collected = collecting.stop();
    let told: i64 = {
        let sums = sums(&rows_of(&collected, |_| true));
        sums[0] + sums[2]
    };
    let full: u64 =
        collected.losses.iter().filter(|loss| loss.reason == "map full").map(|loss| loss.count).sum();
    assert!(told >= 20 && told + full as i64 == packets, "{told} told, {full} counted, of {packets}");
}

#[test]
fn a_flow_through_a_router_is_counted_once_and_forwarded() {
    if !can_run() {
        return;
    }
    let (client, router, server) = (Namespace::new(), Namespace::new(), Namespace::new());
    router.join(&client, "left", ["10.1.0.1/24", "10.1.0.2/24"]);
    router.join(&server, "right", ["10.2.0.1/24", "10.2.0.2/24"]);
    client.run("ip route add default via 10.1.0.1");
    server.run("ip route add default via 10.2.0.1");
    router.run("echo 1 >/proc/sys/net/ipv4/ip_forward");
    let collecting = Collecting::start_in(&router, "flow", settings());
    let arguments = ["10.2.0.2", "4711", "200000"];
    let mut serving = with_arguments(&server, SERVER, &arguments);
    assert_eq!(serving.line(), "listens");
    let before = router.counters("left");
    let mut asking = with_arguments(&client, CLIENT, &arguments);
    let port = asking.line();
    asking.end();
    serving.end();
    let counted: Vec<i64> =
        router.counters("left").iter().zip(before).map(|(now, before)| (now - before) as i64).collect();
    wait_for("the end of the connection", Duration::from_secs(20), || {
        collecting.rows("flow").iter().any(|row| row.text("end") == "closed")
    });
    let rows = rows_of(&collecting.stop(), |row| row.text("source_port") == port);
    let ip = |packets: i64, bytes: i64| [packets, bytes - 14 * packets];
    assert_eq!(sums(&rows), [ip(counted[0], counted[1]), ip(counted[2], counted[3])].concat()[..]);
    for row in &rows {
        assert_eq!(
            (row.text("direction"), row.text("verdict"), row.text("interface")),
            ("forwarded", "forwarded", "left")
        );
    }
    assert!(rows.iter().any(|row| !row.text("connect").is_empty()), "{rows:?}");
}

#[test]
fn ipv6_is_followed_on_interfaces_that_come_and_go() {
    let Some(Pair { a, b }) = Pair::new() else { return };
    let mut settings = settings();
    settings.flow.flow.exclude = NamePatterns::of(&["lo"]);
    let collecting = Collecting::start_in(&a, "flow", settings);
    a.join(&b, "late", ["fd00::1/64", "fd00::2/64"]);
    let [server6, client6] = [UDP_SERVER, UDP_CLIENT].map(|script| script.replace("AF_INET", "AF_INET6"));
    // An interface is followed within a second: until a row shows it.
    wait_for("rows of the interface that came", Duration::from_secs(30), || {
        let mut server = with_arguments(&b, &server6, &["fd00::2", "5353", "1"]);
        assert_eq!(server.line(), "listens");
        with_arguments(&a, &client6, &["fd00::2", "5353", "1"]).end();
        server.end();
        let rows = collecting.rows("flow");
        let of_late = |row: &Row| (row.text("interface"), row.text("destination_ip")) == ("late", "fd00::2");
        rows.iter().any(of_late)
    });
    a.run("ip link del late");
    // Its going is no fault, and the others go on.
    let mut server = with_arguments(&b, UDP_SERVER, &["10.9.0.2", "5353", "3"]);
    assert_eq!(server.line(), "listens");
    let mut client = with_arguments(&a, UDP_CLIENT, &["10.9.0.2", "5353", "3"]);
    let port = client.line();
    client.end();
    server.end();
    let collected = collecting.stop();
    let last = rows_of(&collected, |row| {
        row.text("source_port") == port && row.text("destination_ip") == "10.9.0.2"
    });
    assert_eq!(sums(&last)[0], 3);
    let ipv6 = rows_of(&collected, |row| row.text("destination_ip") == "fd00::2");
    // 100 bytes of payload behind 48 of headers.
    assert!(
        ipv6.iter().all(|row| row.text("network_type") == "ipv6" && row.number("source_bytes") % 148 == 0)
    );
}

/// Sends frames of one datagram each at argv[1]: behind one tag, behind two, as two fragments, and as ARP.
const FRAMES: &str = "
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
def ip(port, fragment=0):
    udp = struct.pack('!HHHH', port, 53, 18, 0) + b'x' * 10
    head = lambda check: struct.pack('!BBHHHBBH4s4s', 0x45, 0, 38, port, fragment, 64, 17, check,
        socket.inet_aton('10.9.0.2'), socket.inet_aton('10.9.0.1'))
    total = sum(struct.unpack('!10H', head(0)))
    return head(~((total & 0xffff) + (total >> 16)) & 0xffff) + udp
ethernet = bytes.fromhex('020000000001020000000002')
tag = lambda kind, id: struct.pack('!HH', kind, id)
s.send(ethernet + tag(0x8100, 7) + b'\\x08\\x00' + ip(1001))
s.send(ethernet + tag(0x88a8, 5) + tag(0x8100, 7) + b'\\x08\\x00' + ip(1002))
s.send(ethernet + b'\\x08\\x00' + ip(1003, 0x2000))
s.send(ethernet + b'\\x08\\x00' + ip(1003, 5))
s.send(ethernet + b'\\x08\\x06' + b'\\0' * 28)
";

#[test]
fn tags_of_vlans_are_read_and_fragments_without_ports_are_counted() {
    let Some(Pair { a, b }) = Pair::new() else { return };
    let collecting = Collecting::start_in(&a, "flow", settings());
    assert!(b.python(FRAMES).arg("eth0").status().unwrap().success());
    let collected = collecting.stop();
    let mut rows: Vec<_> = rows_of(&collected, |row| row.number("destination_port") == 53)
        .iter()
        .map(|row| (row.number("source_port"), row.text("vlan").to_owned(), row.number("source_bytes")))
        .collect();
    rows.sort();
    assert_eq!(rows, [(1001, "7".into(), 38), (1002, "5".into(), 38), (1003, String::new(), 38)]);
    let not_decoded = collected.losses.iter().find(|loss| loss.reason == "not decoded").unwrap();
    assert_eq!(not_decoded.count, 1);
}

/// What is attached to the interface of a namespace, of KuMon and of others.
fn attached(namespace: &Namespace) -> String {
    namespace.run("tc qdisc show dev eth0; tc filter show dev eth0 ingress; tc filter show dev eth0 egress")
}

#[test]
fn starts_and_stops_leave_nothing_and_take_nothing_of_others() {
    let Some(Pair { a, b: _b }) = Pair::new() else { return };
    if !require_program("tc") {
        return;
    }
    for as_on_old_kernels in [false, true] {
        let settings = || Settings { as_on_old_kernels, ..settings() };
        let before = attached(&a);
        for _ in 0..repetitions(10, 100) {
            Collecting::start_in(&a, "flow", settings()).stop();
        }
        assert_eq!(attached(&a), before);
        // The queueing discipline of somebody else, with a filter, stays with it.
        a.run("tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress protocol ip prio 7 u32 match u32 0 0 classid 1:1");
        let of_others = attached(&a);
        let collecting = Collecting::start_in(&a, "flow", settings());
        let with_ours = attached(&a);
        assert_eq!(with_ours.contains("kumon_ingress"), as_on_old_kernels, "{with_ours}");
        collecting.stop();
        assert_eq!(attached(&a), of_others);
        a.run("tc qdisc del dev eth0 clsact");
    }
}

/// Sends 3 datagrams from each of argv[3] sockets to argv[1]:argv[2], where nobody has to listen.
const MANY_FLOWS: &str = "
import socket, sys
for i in range(int(sys.argv[3])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(3): s.sendto(b'x' * 72, (sys.argv[1], int(sys.argv[2])))
    s.close()
";

#[test]
fn a_sample_has_each_flow_whole_or_not_at_all() {
    let Some(Pair { a, b: _b }) = Pair::new() else { return };
    // Else the other end answers each that nobody listens.
    a.run("ip neigh replace 10.9.0.3 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
    let mut settings = settings();
    settings.flow.flow.sample = serde_json::from_str("4").unwrap();
    let collecting = Collecting::start_in(&a, "flow", settings);
    let flows = 400;
    let sent = a.python(MANY_FLOWS).args(["10.9.0.3", "5353", &flows.to_string()]).status().unwrap();
    assert!(sent.success());
    let collected = collecting.stop();
    let rows = rows_of(&collected, |row| row.text("destination_ip") == "10.9.0.3");
    let mut packets = std::collections::HashMap::new();
    for row in &rows {
        *packets.entry(row.text("source_port")).or_insert(0) += row.number("source_packets");
    }
    // Ports may be taken twice.
    assert!(packets.values().all(|packets| packets % 3 == 0), "{packets:?}");
    let told: i64 = packets.values().sum::<i64>() / 3;
    assert!((flows / 8..flows / 2).contains(&told), "{told} of {flows}");
    let left_out = collected.losses.iter().find(|loss| loss.reason == "sampled out").unwrap().count as i64;
    assert_eq!(told * 3 + left_out, flows * 3);
}
