//! How sessions end, connects that lead to none, and sessions that stood before: as many rows as the load made.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{Collecting, Load, Row, SETTLE, SOCKET_COOKIES, kernel_is_at_least};
use kumon_bpf::Settings;
use kumon_collect::Clock;
use kumon_testing::{require_bpf, require_program};

/// Each of these makes one session or attempt and says which ports it had: `<kind> <of the opener> <of the accepter>`.
/// Socket filters drop what comes in for a socket, so that no packet filter of the machine is touched; they see the
/// segment from its TCP header on.
const LOADS: &str = r#"
import ctypes, errno, os, select, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def program(*code):
    kept = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
    return struct.pack('HL', len(code), ctypes.addressof(kept)), kept
SO_ATTACH_FILTER, SO_DETACH_FILTER, TCP_USER_TIMEOUT = 26, 27, 18
DROP_ALL = program((0x06, 0, 0, 0))
# Lets through what has the flag RST (byte 13) or more than 60 bytes: segments with payload.
NO_BARE_ACK = program((0x30, 0, 0, 13), (0x45, 2, 0, 4), (0x80, 0, 0, 0), (0x25, 0, 1, 60), (0x06, 0, 0, -1 & 0xffffffff), (0x06, 0, 0, 0))
def attach(s, filter): s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter[0])
def abort(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
def port(s): return s.getsockname()[1]
# The kernel wakes who waits for an error before it closes the socket, and holds its lock meanwhile.
def wait_until_closed(s): s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
HOST = '127.0.0.1'
listener = socket.create_server((HOST, 0), backlog=1000)
def pair():
    client = socket.create_connection((HOST, port(listener)))
    return client, listener.accept()[0]
def tell(kind, client, server): print(kind, client, server, flush=True)
def session(kind, end):
    client, server = pair()
    ports = port(client), port(server)
    end(client, server)
    for s in client, server: s.close()
    tell(kind, *ports)
def orderly(c, s): c.sendall(b'q' * 10); s.recv(10); c.close(); s.recv(1)
def orderly_by_server(c, s): s.close(); c.recv(1)
def aborted(c, s): abort(c); select.select([s], [], [], 5)
def aborted_by_server(c, s): abort(s); select.select([c], [], [], 5)
def unread(c, s): s.sendall(b'answer'); select.select([c], [], [], 5); c.close()
def broken_off(c, s): attach(c, NO_BARE_ACK); c.close(); s.send(b'a' * 1000)
def broken_off_by_server(c, s): attach(c, NO_BARE_ACK); c.close(); abort(s)
def lost_peer(c, s):
    attach(s, DROP_ALL)
    c.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 300)
    c.sendall(b'q')
    c.settimeout(20)
    try: c.recv(1)
    except OSError as e: assert e.errno == errno.ETIMEDOUT, e
    abort(s)
def attempt(target, **options):
    s = socket.socket()
    s.setblocking(False)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    assert s.connect_ex((HOST, target)) == errno.EINPROGRESS or options
    return s
def refused():
    closed = socket.socket(); closed.bind((HOST, 0)); target = port(closed)
    s = socket.socket()
    s.bind((HOST, 0))
    mine = port(s)
    assert s.connect_ex((HOST, target)) == errno.ECONNREFUSED
    tell('refused', mine, target)
silent = socket.create_server((HOST, 0))
attach(silent, DROP_ALL)
def gave_up():
    s = attempt(port(silent))
    mine = port(s)
    s.close()
    tell('gave_up', mine, port(silent))
"#;

/// Follows each load.
const END: &str = "
settle(port(listener))
";

/// Sessions that stand when it says so, and end when it is told to; more of them begin meanwhile.
const STANDING: &str = "
n = int(sys.argv[1])
held = []
for i in range(n):
    client, server = pair()
    client.sendall(b'q' * 1000); server.sendall(b'a' * (2000 + i))
    for s, size in (client, 2000 + i), (server, 1000):
        while size: size -= len(s.recv(size))
    held.append((client, server))
tell('standing', 0, 0)
sys.stdin.readline()
for client, server in held:
    ports = port(client), port(server)
    client.sendall(b'q' * 500)
    client.close(); server.recv(500); server.close()
    tell('held', *ports)
session('new', orderly)
";

/// Nobody touches the accepted sessions before the peer resets them. A connect is over before the other side has handled
/// the segment that makes a session of it: a RST that overtook that one would end a mere handshake. So each waits until
/// it is among those to accept, which the kernel tells as tcpi_unacked of a listening socket (tcp_get_info).
const UNTOUCHED: &str = "
def to_accept(): return struct.unpack_from('I', listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]
for i in range(int(sys.argv[1])):
    client = socket.create_connection((HOST, port(listener)))
    while to_accept() <= i: time.sleep(0.001)
    ports = port(client), port(listener)
    abort(client)
    tell('untouched', *ports)
";

/// Of two processes that listen on one port the one that began first stops.
const SUCCESSOR: &str = "
def listen(at):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((HOST, at))
    s.listen()
    return s
first = listen(0)
at = port(first)
ready, done = os.pipe(), os.pipe()
child = os.fork()
if not child:
    first.close()
    second = listen(at)
    os.write(ready[1], b'x')
    os.read(done[0], 1)
    os._exit(0)
os.read(ready[0], 1)
first.close()
client = socket.create_connection((HOST, at))
tell('untouched', port(client), child)
# The segment that makes a session of it comes first, see above; the child takes none.
def accepted(): return any(line.split()[2][-4:] == '%04X' % port(client) and line.split()[3] == '01' for line in open('/proc/net/tcp'))
while not accepted(): time.sleep(0.001)
abort(client)
settle(at)
os.write(done[1], b'x')
os.waitpid(child, 0)
";

/// The whole of a marked load: `n` of each kind.
const ALL: &str = "
n = int(sys.argv[1])
attempts = [attempt(port(silent)) for _ in range(n)]
for _ in range(n):
    for kind in [orderly, orderly_by_server, aborted, aborted_by_server, unread, broken_off, broken_off_by_server]:
        session(kind.__name__, kind)
    refused()
    gave_up()
session('lost_peer', lost_peer)
for s in attempts:
    mine = port(s)
    select.select([], [s], [], 60)
    wait_until_closed(s)
    assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ETIMEDOUT
    tell('timed_out', mine, port(silent))
";

fn can_run() -> bool {
    require_bpf() && require_program("python3")
}

/// What a load says: kind and ports.
type Told = (String, i64, i64);

fn python(script: &str, args: &[&str]) -> Load {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &format!("{SETTLE}{LOADS}{script}{END}")]).args(args);
    Load::start(command)
}

fn told(words: &[String]) -> Told {
    (words[0].clone(), words[1].parse().unwrap(), words[2].parse().unwrap())
}

fn end(load: Load) -> Vec<Told> {
    load.end().iter().map(|words| told(words)).collect()
}

/// End, error and whether it stood before, of the rows between two ports: egress and ingress, empty where none is.
fn ends(rows: &[Row], source: i64, destination: i64) -> (String, String) {
    let of = |direction: &str| {
        let of_ports = |row: &&Row| {
            row.text("direction") == direction
                && row.number("source_port") == source
                && row.number("destination_port") == destination
        };
        let rows: Vec<&Row> = rows.iter().filter(of_ports).collect();
        assert!(rows.len() < 2, "{rows:?}");
        rows.first().map(|row| [row.text("end"), row.text("error")].join(" ").trim().to_owned())
    };
    (of("egress").unwrap_or_default(), of("ingress").unwrap_or_default())
}

#[test]
fn each_side_of_each_session_and_attempt_says_how_it_ended() {
    if can_run() {
        each_end(Settings::default());
    }
}

#[test]
fn each_end_is_told_without_socket_cookies_too() {
    if can_run() {
        each_end(Settings { as_on_old_kernels: true, ..Settings::default() });
    }
}

fn each_end(settings: Settings) {
    const EACH: usize = 5;
    let collecting = Collecting::start("tcp", settings);
    let load = python(ALL, &[&EACH.to_string()]);
    let pid = load.pid();
    let told = end(load);
    let collected = collecting.stop();
    assert_eq!(collected.lost("tcplife"), 0);
    let rows = collected.rows("tcplife");
    let expected: BTreeMap<&str, (&str, &str)> = [
        ("orderly", ("closed", "closed")),
        ("orderly_by_server", ("closed", "closed")),
        ("aborted", ("reset", "reset_by_peer ECONNRESET")),
        ("aborted_by_server", ("reset_by_peer ECONNRESET", "reset")),
        ("unread", ("reset", "reset_by_peer ECONNRESET")),
        ("broken_off", ("reset", "reset_by_peer EPIPE")),
        ("broken_off_by_server", ("reset_by_peer ECONNRESET", "reset")),
        ("lost_peer", ("timed_out ETIMEDOUT", "reset")),
        ("refused", ("refused ECONNREFUSED", "")),
        ("gave_up", ("failed", "")),
        ("timed_out", ("timed_out ETIMEDOUT", "")),
    ]
    .into();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, source, destination) in &told {
        let (egress, ingress) = ends(&rows, *source, *destination);
        assert_eq!((egress.as_str(), ingress.as_str()), expected[kind.as_str()], "{kind}");
        *count.entry(kind).or_default() += 1;
    }
    for kind in expected.keys() {
        assert_eq!(count[kind], if *kind == "lost_peer" { 1 } else { EACH }, "{kind}");
    }
    let own: Vec<&Row> = rows.iter().filter(|row| row.text("pid") == pid.to_string()).collect();
    assert!(own.iter().all(|row| row.text("standing") == "false"));
    // Two rows for a session, one for an attempt; the process did nothing else.
    assert_eq!(own.len(), 2 * (7 * EACH + 1) + 3 * EACH);
}

/// Runs the sessions that stand before the collector; with `prefix`, e.g. in a network namespace of their own.
fn standing(prefix: &[&str]) {
    const EACH: usize = 5;
    let script = format!("{SETTLE}{LOADS}{STANDING}{END}");
    let each = EACH.to_string();
    let words = [prefix, &["/usr/bin/python3", "-c", &script, &each]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let mut load = Load::start(command);
    assert_eq!(told(&load.told().unwrap()).0, "standing");
    let clock = Clock::new();
    let start = clock.now();
    let collecting = Collecting::start("tcp", Settings::default());
    load.go_on();
    let pid = load.pid();
    let told = end(load);
    let collected = collecting.stop();
    let most = clock.now() - start;
    assert_eq!(collected.lost("tcplife"), 0);
    let rows = collected.rows("tcplife");
    assert_eq!(told.len(), EACH + 1);
    for (kind, source, destination) in &told {
        let of_ports = |row: &&Row| {
            row.number("source_port") == *source && row.number("destination_port") == *destination
        };
        let rows: Vec<&Row> = rows.iter().filter(of_ports).collect();
        if kind == "held" && !kernel_is_at_least(SOCKET_COOKIES) {
            assert!(rows.is_empty(), "rather none than one that begins in the middle: {rows:?}");
            continue;
        }
        assert_eq!(rows.len(), 2, "{kind}: egress and ingress are told apart, too: {rows:?}");
        for row in &rows {
            assert_eq!(row.text("standing"), (kind == "held").to_string());
            assert_eq!(row.number("pid"), pid);
            assert_eq!(row.text("end"), "closed");
            assert!((1..most).contains(&row.number("duration")), "{row:?}");
            assert_eq!(row.text("source_ip"), "127.0.0.1");
        }
        if kind == "held" {
            let i = told.iter().position(|(_, port, _)| port == source).unwrap() as i64;
            // What went before KuMon looked counts, too.
            for row in &rows {
                assert_eq!((row.number("source_bytes"), row.number("destination_bytes")), (1500, 2000 + i));
            }
        }
    }
}

#[test]
fn sessions_that_stood_before_are_marked_and_have_all_their_bytes() {
    if can_run() {
        standing(&[]);
    }
}

#[test]
fn sessions_that_stand_in_another_network_namespace_are_found_too() {
    if can_run() && require_program("ip") {
        let up = "ip link set lo up && exec \"$@\"";
        standing(&["unshare", "--net", "sh", "-c", up, "sh"]);
    }
}

#[test]
fn an_accepted_session_that_nobody_touched_belongs_to_who_listens() {
    if !can_run() {
        return;
    }
    const EACH: usize = 5;
    let collecting = Collecting::start("tcp", Settings::default());
    let load = python(UNTOUCHED, &[&EACH.to_string()]);
    let pid = load.pid();
    let told = end(load);
    let rows = collecting.stop().rows("tcplife");
    for (_, source, destination) in &told {
        assert_eq!(ends(&rows, *source, *destination), ("reset".into(), "reset_by_peer ECONNRESET".into()));
        let of_ports =
            |row: &&Row| row.number("source_port") == *source && row.text("direction") == "ingress";
        assert_eq!(rows.iter().find(of_ports).unwrap().number("pid"), pid);
    }
    assert_eq!(told.len(), EACH);
}

#[test]
fn a_listener_that_stops_leaves_the_sessions_of_its_successor_their_process() {
    if !can_run() {
        return;
    }
    let collecting = Collecting::start("tcp", Settings::default());
    let told = end(python(SUCCESSOR, &[]));
    let rows = collecting.stop().rows("tcplife");
    let [(_, source, child)] = told.as_slice() else { panic!("{told:?}") };
    let accepted =
        rows.iter().find(|row| row.text("direction") == "ingress" && row.number("source_port") == *source);
    assert_eq!(accepted.unwrap().number("pid"), *child);
}

#[test]
fn listeners_that_find_no_room_are_counted() {
    if !can_run() {
        return;
    }
    let mut settings = Settings::default();
    settings.tcp.tcplife.max_listeners = 1;
    let collecting = Collecting::start("tcp", settings);
    // Its processes listen on a port of their own beside those of all loads.
    let told = end(python(SUCCESSOR, &[]));
    let collected = collecting.stop();
    assert_eq!(told.len(), 1);
    let full = collected.losses.iter().find(|loss| loss.reason == "map full").unwrap().count;
    assert!(full > 0);
}
