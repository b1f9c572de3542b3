//! tcpdrop, and drop beside it, against loads of TCP whose dropped packets are known.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use common::cable::{Cable, Host};
use common::containers::run;
use common::{Cgroup, Collected, Collecting, Row, kernel_is_at_least};
use kumon_bpf::{DropClass, Settings, Verbose};
use kumon_collect::MaxRows;
use kumon_testing::{load_size, require_program, time_scale};

/// Since when the kernel says why it drops.
const REASONS: (u32, u32) = (5, 17);
/// Since when it says that a queue was full, and of which socket.
const OVERFLOWS: (u32, u32) = (6, 14);

/// Connects argv[3] times to a port where nobody listens.
const REFUSED: &str = "
import socket, sys
for i in range(int(sys.argv[3])):
    try: socket.create_connection((sys.argv[1], int(sys.argv[2])))
    except ConnectionRefusedError: pass
    else: sys.exit('somebody listens')
";

fn settings() -> Settings {
    let mut settings = Settings { ring_buffer_bytes: 32 << 20, ..Settings::default() };
    let classes = vec![DropClass::Real, DropClass::Unknown];
    settings.drop.drop.classes = classes.clone();
    settings.drop.tcpdrop.classes = classes;
    settings.drop.tcpdrop.max_rows_per_second = MaxRows::UNLIMITED;
    settings
}

fn to_port(collected: &Collected, port: &str) -> Vec<Row> {
    let mut rows = collected.rows("tcpdrop");
    rows.retain(|row| row.text("destination_port") == port);
    rows
}

fn rate_limited(collected: &Collected) -> u64 {
    let of = collected.losses.iter().filter(|loss| loss.metric == "tcpdrop" && loss.reason == "rate limit");
    of.map(|loss| loss.count).sum()
}

fn refused(from: &Host, to: &Host, port: &str, times: usize) {
    from.python(REFUSED, &[&to.address.to_string(), port, &times.to_string()]);
}

#[test]
fn each_packet_to_a_closed_port_has_a_row() {
    let Some(cable) = Cable::lay() else { return };
    let times = load_size(200);
    let collecting = Collecting::start("drop", settings());
    refused(&cable.near, &cable.far, "4101", times);
    let collected = collecting.stop();
    let rows = to_port(&collected, "4101");
    assert_eq!(rows.len() as u64 + collected.lost("tcpdrop"), times as u64);
    for row in rows {
        let reason = if kernel_is_at_least(REASONS) { "NO_SOCKET" } else { "NOT_SPECIFIED" };
        assert_eq!((row.text("reason"), row.text("location")), (reason, "tcp_v4_rcv"));
        assert_eq!((row.text("flags"), row.text("acknowledgement")), ("SYN", "0"));
        assert_eq!((row.text("direction"), row.text("network_type")), ("ingress", "ipv4"));
        assert_eq!(row.text("interface"), cable.far.interface);
        assert_eq!(row.text("source_ip"), cable.near.address.to_string());
        assert_eq!(row.number("bytes"), 60, "IP, TCP and the options of a SYN");
        assert_eq!((row.text("pid"), row.text("tcp_state"), row.text("stack")), ("", "", ""));
    }
}

#[test]
fn a_stack_leads_to_the_function_that_drops() {
    let Some(cable) = Cable::lay() else { return };
    for as_on_old_kernels in [false, true] {
        let mut settings = Settings { as_on_old_kernels, ..settings() };
        settings.drop.tcpdrop.verbose = Verbose::KernelStack;
        let collecting = Collecting::start("drop", settings);
        refused(&cable.near, &cable.far, "4102", 5);
        let rows = to_port(&collecting.stop(), "4102");
        assert!(!rows.is_empty());
        for row in rows {
            let stack: Vec<&str> = row.text("stack").split(';').collect();
            let place = stack.iter().rposition(|function| *function == "tcp_v4_rcv");
            let below = stack.iter().position(|function| *function == "ip_local_deliver_finish");
            assert!(place.is_some() && below < place, "{stack:?}");
            assert!(!stack.iter().any(|function| function.contains("bpf")), "{stack:?}");
        }
    }
}

#[test]
fn a_flood_is_counted_exactly_and_leaves_rows_for_other_drops() {
    let Some(cable) = Cable::lay() else { return };
    if !require_program("nft") {
        return;
    }
    let rules =
        "table ip filter { chain input { type filter hook input priority 0; tcp dport 4104 drop; }; }";
    cable.far.run("nft", &[rules]);
    let mut settings = settings();
    settings.drop.tcpdrop.max_rows_per_second = MaxRows::try_from(100).unwrap();
    let collecting = Collecting::start("drop", settings);
    refused(&cable.near, &cable.far, "4103", load_size(3_000));
    let other = "import socket, sys\ns = socket.socket(); s.settimeout(0.1)\ntry: s.connect((sys.argv[1], 4104))\n\
                 except TimeoutError: pass";
    cable.near.python(other, &[&cable.far.address.to_string()]);
    let collected = collecting.stop();
    let flood = to_port(&collected, "4103").len();
    assert!(flood > 0 && rate_limited(&collected) > 0, "{flood} rows, {:?}", collected.losses);
    assert!(!to_port(&collected, "4104").is_empty(), "another place has a share of its own");
    let counted: i64 = collected
        .rows("drop")
        .iter()
        .filter(|row| row.text("transport") == "tcp")
        .map(|row| row.number("count"))
        .sum();
    let rows = collected.rows("tcpdrop").len() as u64;
    assert_eq!(rows + collected.lost("tcpdrop"), counted as u64 + collected.lost("drop"));
}

#[test]
fn what_a_process_sends_in_vain_is_its_own_and_its_containers() {
    let Some(cable) = Cable::lay() else { return };
    let Some((cgroup, container)) = Cgroup::of_container() else { return };
    if !require_program("nft") {
        return;
    }
    let rules =
        "table ip filter { chain output { type filter hook output priority 0; tcp dport 4105 drop; }; }";
    cable.near.run("nft", &[rules]);
    let mut settings = settings();
    settings.drop.tcpdrop.filter =
        serde_json::from_value(serde_json::json!({ "cgroup": [cgroup.id()] })).unwrap();
    let collecting = Collecting::start("drop", settings);
    let connect = "import os, socket, sys\ns = socket.socket(); s.settimeout(0.2)\n\
                   try: s.connect((sys.argv[1], 4105))\nexcept OSError: pass\nprint(os.getpid())";
    let address = cable.far.address.to_string();
    let mut inside = cgroup.command("nsenter");
    inside.arg(format!("--net=/run/netns/{}", cable.near.interface));
    let pid = run(inside.args(["/usr/bin/python3", "-c", connect, &address]));
    cable.near.python(connect, &[&address]);
    let rows = to_port(&collecting.stop(), "4105");
    assert_eq!(rows.len(), 1, "the filter leaves out what another cgroup sends: {rows:?}");
    let row = &rows[0];
    assert_eq!((row.text("direction"), row.text("tcp_state")), ("egress", "SYN_SENT"));
    assert_eq!(row.text("interface"), cable.near.interface);
    assert_eq!(row.text("pid"), pid.trim());
    assert!(row.text("name").starts_with("python3") || row.text("name") == "nsenter", "{row:?}");
    assert_eq!((row.text("container_id"), row.number("cgroup_id")), (&*container, cgroup.id() as i64));
}

/// A server that takes nobody. Four handshakes wait for their last packet while its queue fills up; then these packets come,
/// with the repetition of the second one.
const OVERFLOW: &str = "
import socket, subprocess, sys, time
def overflows():
    lines = open('/proc/self/net/netstat').readlines()
    return int(dict(zip(lines[0].split(), lines[1].split()))['ListenOverflows'])
def connect(port):
    s = socket.socket(); s.setblocking(False); s.bind(('127.0.0.1', port)); s.connect_ex(('127.0.0.1', 4106)); return s
subprocess.run(['nft', 'table ip late { chain input { type filter hook input priority 0; '
    'tcp sport 5001-5004 tcp flags & (syn | ack) == ack drop; }; }'], check=True)
l = socket.socket(); l.bind(('127.0.0.1', 4106)); l.listen(4)
clients = [connect(5001 + i) for i in range(9)]
subprocess.run(['nft', 'delete table ip late'], check=True)
end = time.monotonic() + float(sys.argv[1])
while overflows() < 4 and time.monotonic() < end: time.sleep(0.01)
";

#[test]
fn packets_that_find_the_queue_of_who_listens_full_are_those_that_the_kernel_counts() {
    let Some((cgroup, container)) = Cgroup::of_container() else { return };
    let Some(cable) = Cable::lay() else { return };
    if !kernel_is_at_least(OVERFLOWS) || !require_program("nft") {
        return;
    }
    let collecting = Collecting::start("drop", settings());
    let mut server = cgroup.command("nsenter");
    server.arg(format!("--net=/run/netns/{}", cable.near.interface));
    run(server.args(["/usr/bin/python3", "-c", OVERFLOW, &(10 * time_scale()).to_string()]));
    let mut rows = to_port(&collecting.stop(), "4106");
    rows.retain(|row| row.text("reason") == "TCP_LISTEN_OVERFLOW");
    // They are those of the namespace; the sockets are gone.
    let counted = "lines = open('/proc/self/net/netstat').readlines()\n\
                   print(dict(zip(lines[0].split(), lines[1].split()))['ListenOverflows'])";
    let counted: usize = cable.near.python(counted, &[]).trim().parse().unwrap();
    assert!(counted >= 4);
    assert_eq!(rows.len(), counted);
    for row in rows {
        assert_eq!((row.text("flags"), row.text("tcp_state")), ("ACK", "LISTEN"));
        assert_eq!(row.text("container_id"), container);
    }
}
