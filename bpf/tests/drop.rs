//! drop against the counters of those who drop: netfilter, sockets, queues, and the kernel's own.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use common::cable::{Cable, Host};
use common::{Cgroup, Collected, Collecting, Row};
use kumon_bpf::{DropClass, Settings};
use kumon_testing::{load_size, require_program};

/// Sends argv[3] packets of 100 bytes over UDP to a port and says from which one; what is answered doesn't matter.
const SEND: &str = "
import socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
sent = 0
while sent < count:
    try: sent += s.sendto(b'x' * 100, (address, port)) == 100
    except ConnectionRefusedError: pass
print(s.getsockname()[1])
";

/// The classes that a test is about.
fn settings(classes: &[DropClass]) -> Settings {
    let mut settings = Settings::default();
    settings.drop.drop.classes = classes.to_vec();
    settings
}

fn old_settings() -> Settings {
    Settings { as_on_old_kernels: true, ..settings(&[DropClass::Unknown]) }
}

/// Whether the kernel says why it drops: Linux 5.17 and later.
fn has_reasons() -> bool {
    common::kernel_is_at_least((5, 17))
}

fn at<'a>(rows: &'a [Row], interface: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.text("interface") == interface).collect()
}

fn of_port<'a>(rows: &[&'a Row], port: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.text("destination_port") == port).copied().collect()
}

fn sum(rows: &[&Row], column: &str) -> i64 {
    rows.iter().map(|row| row.number(column)).sum()
}

/// What was missed is counted; it is next to nothing, but exactness is promised of all together.
fn assert_counted(counted: i64, truth: i64, collected: &Collected) {
    let lost = collected.lost("drop") as i64;
    assert!(
        counted <= truth && counted + lost >= truth,
        "{counted} counted and {lost} lost of {truth}: {:?}",
        collected.losses
    );
}

/// Packets and bytes of nftables' only counter with this comment.
fn nft_counter(host: &Host, comment: &str) -> (i64, i64) {
    let rules = host.run("nft", &["list", "ruleset"]);
    let rule = rules.lines().find(|line| line.contains(comment)).unwrap();
    let after = |word: &str| {
        let mut words = rule.split_whitespace().skip_while(move |candidate| *candidate != word).skip(1);
        words.next().unwrap().parse().unwrap()
    };
    (after("packets"), after("bytes"))
}

#[test]
fn what_netfilter_drops_is_what_nftables_counts() {
    let Some(cable) = Cable::lay() else { return };
    if !require_program("nft") {
        return;
    }
    let far = &cable.far;
    let rules = "table ip filter { chain input { type filter hook input priority 0; \
                 udp dport 4001 counter drop comment \"all\"; \
                 udp dport 4002 numgen random mod 100 < 30 counter drop comment \"some\"; }; }";
    far.run("nft", &[rules]);
    let collecting = Collecting::start("drop", settings(&[DropClass::Real, DropClass::Unknown]));
    let count = load_size(20_000).to_string();
    for port in ["4001", "4002"] {
        cable.near.python(SEND, &[&far.address.to_string(), port, &count]);
    }
    let collected = collecting.stop();
    let rows = collected.rows("drop");
    let here = at(&rows, &far.interface);
    let (all, some) = (nft_counter(far, "all"), nft_counter(far, "some"));
    assert_eq!(all.0, count.parse::<i64>().unwrap());
    let by = |name: &str| here.iter().filter(|row| row.text("location") == name).copied().collect::<Vec<_>>();
    let filtered: Vec<&Row> = if has_reasons() {
        here.iter().filter(|row| row.text("reason") == "NETFILTER_DROP").copied().collect()
    } else {
        by("nf_hook_slow")
    };
    assert_counted(sum(&filtered, "count"), all.0 + some.0, &collected);
    if collected.lost("drop") == 0 {
        assert_eq!(sum(&filtered, "bytes"), all.1 + some.1);
    }
    for row in filtered {
        assert_eq!(row.text("class"), if has_reasons() { "real" } else { "unknown" });
        assert_eq!((row.text("direction"), row.text("transport")), ("ingress", "udp"));
        assert_eq!(row.text("source_ip"), cable.near.address.to_string());
    }
}

#[test]
fn packets_to_a_closed_port_are_counted_with_an_example() {
    let Some(cable) = Cable::lay() else { return };
    let collecting = Collecting::start("drop", settings(&[DropClass::Real, DropClass::Unknown]));
    let count = load_size(30_000).to_string();
    let far = &cable.far;
    let from = cable.near.python(SEND, &[&far.address.to_string(), "4003", &count]);
    let collected = collecting.stop();
    let rows = collected.rows("drop");
    let here = of_port(&at(&rows, &far.interface), "4003");
    assert_counted(sum(&here, "count"), count.parse().unwrap(), &collected);
    for row in here {
        assert_eq!(row.text("reason"), if has_reasons() { "NO_SOCKET" } else { "NOT_SPECIFIED" });
        assert_eq!((row.text("network_type"), row.text("transport")), ("ipv4", "udp"));
        assert_eq!(row.text("location"), "__udp4_lib_rcv");
        assert_eq!(row.text("source_port"), from.trim());
        assert_eq!(row.text("destination_ip"), far.address.to_string());
        assert_eq!(row.number("bytes"), row.number("count") * 128, "IP, UDP and 100 bytes");
        assert_eq!(row.text("tcp_state"), "");
    }
}

#[test]
fn as_on_old_kernels_packets_are_counted_by_the_place_alone() {
    let Some(cable) = Cable::lay() else { return };
    let collecting = Collecting::start("drop", old_settings());
    let count = load_size(10_000).to_string();
    cable.near.python(SEND, &[&cable.far.address.to_string(), "4003", &count]);
    let collected = collecting.stop();
    let rows = collected.rows("drop");
    let here = of_port(&at(&rows, &cable.far.interface), "4003");
    assert_counted(sum(&here, "count"), count.parse().unwrap(), &collected);
    for row in here {
        assert_eq!((row.text("reason"), row.text("class")), ("NOT_SPECIFIED", "unknown"));
        assert_eq!(row.text("location"), "__udp4_lib_rcv");
    }
}

/// Fills the receive buffer of a UDP socket that nobody reads; /proc/net/udp says how many found no room.
const FULL_BUFFER: &str = "
import socket, sys
r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
r.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
r.bind(('127.0.0.1', 4004))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[1])): s.sendto(b'x' * 500, ('127.0.0.1', 4004))
print(next(line.split()[-1] for line in open('/proc/self/net/udp') if ':0FA4 ' in line))
";

#[test]
fn a_full_receive_buffer_drops_what_its_socket_counts_and_belongs_to_its_container() {
    let Some(cable) = Cable::lay() else { return };
    let Some((cgroup, container)) = Cgroup::of_container() else { return };
    if !has_reasons() {
        return;
    }
    let collecting = Collecting::start("drop", settings(&[DropClass::Real]));
    let mut python = cgroup.command("nsenter");
    python.arg(format!("--net=/run/netns/{}", cable.near.interface));
    python.args(["/usr/bin/python3", "-c", FULL_BUFFER, &load_size(5_000).to_string()]);
    let dropped: i64 = common::containers::run(&mut python).trim().parse().unwrap();
    let collected = collecting.stop();
    assert!(dropped > 0);
    let rows = collected.rows("drop");
    let rows: Vec<&Row> = rows.iter().filter(|row| row.text("destination_port") == "4004").collect();
    assert_counted(sum(&rows, "count"), dropped, &collected);
    for row in rows {
        assert_eq!(row.text("reason"), "SOCKET_RCVBUFF");
        assert_eq!((row.text("direction"), row.text("interface")), ("ingress", "lo"));
        // Before Linux 6.11 the kernel doesn't say which socket a packet was for.
        if common::kernel_is_at_least((6, 11)) {
            assert_eq!(row.number("cgroup_id"), cgroup.id() as i64);
            assert_eq!(row.text("container_id"), container);
        }
    }
}

#[test]
fn what_a_queue_drops_is_what_tc_counts() {
    let Some(cable) = Cable::lay() else { return };
    let Some((cgroup, container)) = Cgroup::of_container() else { return };
    let near = &cable.near;
    let tbf = ["qdisc", "add", "dev", &near.interface, "root", "tbf"];
    near.run("tc", &[&tbf[..], &["rate", "1mbit", "burst", "2kb", "limit", "4kb"]].concat());
    let collecting = Collecting::start("drop", settings(&[DropClass::Real, DropClass::Unknown]));
    let mut python = cgroup.command("nsenter");
    python.arg(format!("--net=/run/netns/{}", near.interface));
    python.args(["/usr/bin/python3", "-c", SEND, &cable.far.address.to_string(), "4005"]);
    common::containers::run(python.arg(load_size(3_000).to_string()));
    let collected = collecting.stop();
    let shown = near.run("tc", &["-s", "qdisc", "show", "dev", &near.interface]);
    let dropped = shown.split("dropped ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(dropped > 0, "{shown}");
    let rows = collected.rows("drop");
    let egress: Vec<&Row> = of_port(&at(&rows, &near.interface), "4005");
    assert_counted(sum(&egress, "count"), dropped, &collected);
    for row in egress {
        assert!(!has_reasons() || row.text("reason").starts_with("QDISC_"), "{row:?}");
        assert_eq!(row.text("direction"), "egress");
        assert_eq!(row.text("container_id"), container, "the sender's");
    }
}

/// So many sessions that end in order.
const HEALTHY: &str = "
import socket, sys
l = socket.create_server(('127.0.0.1', 4006))
for i in range(int(sys.argv[1])):
    s = socket.create_connection(('127.0.0.1', 4006))
    a, _ = l.accept()
    s.sendall(b'question'); a.recv(8); a.sendall(b'answer'); s.recv(6)
    s.close(); a.recv(1); a.close()
";

#[test]
fn healthy_sessions_drop_nothing_real() {
    let Some(cable) = Cable::lay() else { return };
    let sessions = load_size(500);
    let of = |class: DropClass| {
        let collecting = Collecting::start("drop", settings(&[class]));
        cable.near.python(HEALTHY, &[&sessions.to_string()]);
        collecting.stop().rows("drop")
    };
    let is_of_them = |row: &&Row| [row.text("source_port"), row.text("destination_port")].contains(&"4006");
    let real = of(DropClass::Real);
    assert_eq!(real.iter().filter(is_of_them).count(), 0, "{real:?}");
    if common::kernel_is_at_least((6, 8)) {
        // The ports are those of the last packet, which may have been somebody else's.
        let benign: i64 = of(DropClass::Benign).iter().map(|row| row.number("count")).sum();
        assert!(benign >= sessions as i64, "{benign} of {sessions}");
    }
}

/// Sends packets that end too early, or lie about what is in them, from an interface to an address of the link layer; says how
/// many. The first byte of each is right, so that the protocol looks at them.
const BROKEN: &str = "
import os, random, socket, struct, sys
interface, to, count = sys.argv[1], bytes.fromhex(sys.argv[2].replace(':', '')), int(sys.argv[3])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((interface, 0))
for i in range(count):
    length = random.randrange(1, 61)
    if i % 2:
        protocol, body = 0x0800, bytes([0x40 + random.randrange(16)]) + os.urandom(length - 1)
    else:
        # Extension headers that lead on, behind the end too.
        body = struct.pack('>IHBB', 6 << 28, 0x4000, random.choice([0, 43, 44, 60]), 64) + os.urandom(32)
        protocol, body = 0x86dd, (body + bytes([random.choice([0, 43, 44, 60, 6]), 255]) * 30)[:length + 8]
    s.send(to + b'\\2\\0\\0\\0\\0\\1' + struct.pack('>H', protocol) + body)
print(count)
";

#[test]
fn broken_packets_are_counted_as_any_other() {
    let Some(cable) = Cable::lay() else { return };
    let far = &cable.far;
    // Nothing is dropped for want of the protocol.
    far.run("sh", &["-c", "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
    let collecting =
        Collecting::start("drop", settings(&[DropClass::Real, DropClass::Unknown, DropClass::Benign]));
    // /sys shows the network of whoever mounted it.
    let address = far.run("ip", &["-o", "link", "show", &far.interface]);
    let address = address.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let count = load_size(4_000).to_string();
    cable.near.python(BROKEN, &[&cable.near.interface, address, &count]);
    let collected = collecting.stop();
    let rows = collected.rows("drop");
    let here: Vec<&Row> =
        at(&rows, &far.interface).into_iter().filter(|row| row.text("direction") == "ingress").collect();
    assert_counted(sum(&here, "count"), count.parse().unwrap(), &collected);
    let types: Vec<&str> = here.iter().map(|row| row.text("network_type")).collect();
    assert!(types.contains(&"ipv4") && types.contains(&"ipv6"), "{types:?}");
    let transports: HashSet<&str> = here.iter().map(|row| row.text("transport")).collect();
    assert!(
        transports.contains("other") && transports.len() < 15,
        "made-up numbers make no keys: {transports:?}"
    );
}

#[test]
fn keys_beyond_the_room_for_them_and_rows_beyond_the_top_are_in_one_other_row() {
    let Some(cable) = Cable::lay() else { return };
    let mut settings = settings(&[DropClass::Real, DropClass::Unknown]);
    settings.drop.drop.max_keys = 1;
    settings.drop.drop.top = 1;
    let collecting = Collecting::start("drop", settings);
    let count = load_size(1_000);
    for host in [&cable.near, &cable.far] {
        for address in ["127.0.0.1".to_owned(), host.address.to_string()] {
            host.python(SEND, &[&address, "4007", &count.to_string()]);
        }
    }
    cable.near.python(SEND, &[&cable.far.address.to_string(), "4007", &count.to_string()]);
    let collected = collecting.stop();
    let rows = collected.rows("drop");
    assert!(rows.len() <= 2, "{rows:?}");
    let all: Vec<&Row> = rows.iter().collect();
    assert!(sum(&all, "count") + collected.lost("drop") as i64 >= 5 * count as i64, "{rows:?}");
    assert!(rows.iter().any(|row| row.text("reason") == "other" && row.number("count") > 0));
}
