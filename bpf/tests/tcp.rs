//! tcplife against sessions whose bytes, ports and processes are known.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use common::{Collecting, Original, Row};
use kumon_bpf::Settings;
use kumon_collect::Clock;
use kumon_testing::{require, require_bpf, require_program, time_scale, wait_for};

/// What the client sends and what the server answers, in bytes.
const REQUEST: usize = 123_456;
const ANSWER: usize = 7_654_321;

/// One side closes in an orderly way, or resets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Client,
    Server,
    Reset,
}

/// What a session was, as its two processes know it.
#[derive(Debug)]
struct Session {
    client: SocketAddr,
    server: SocketAddr,
    client_pid: i64,
    begin: i64,
    end: i64,
}

/// Connects, sends argv[3] bytes, reads argv[4], then closes as argv[5] says. The file says nothing: its exit code does.
const CLIENT: &str = "
import socket, struct, sys
host, port, send, receive, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
s.connect((host, port))
s.sendall(b'q' * send)
while receive > 0:
    receive -= len(s.recv(min(receive, 65536)))
if end == 'Server':
    assert s.recv(1) == b''
elif end == 'Reset':
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()
";

/// Runs one session between a child (the opener) and this process (the accepter).
fn session(listen: &str, connect: &str, end: End) -> Session {
    let clock = Clock::new();
    let begin = clock.now();
    let listener = TcpListener::bind((listen, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (send, receive) = (REQUEST.to_string(), ANSWER.to_string());
    let args = ["-c", CLIENT, connect, &port, &send, &receive, &format!("{end:?}")];
    let mut child = Command::new("/usr/bin/python3").args(args).spawn().unwrap();

    let (mut stream, client) = listener.accept().unwrap();
    let server = stream.local_addr().unwrap();
    let mut request = vec![0; REQUEST];
    stream.read_exact(&mut request).unwrap();
    stream.write_all(&vec![b'a'; ANSWER]).unwrap();
    if end != End::Server {
        // Closed or reset by the client.
        let _ = stream.read(&mut [0]);
    }
    drop(stream);
    assert!(child.wait().unwrap().success());
    Session { client, server, client_pid: child.id().into(), begin, end: clock.now() }
}

/// The rows of a session: the opener's and the accepter's.
fn rows_of(rows: &[Row], session: &Session) -> Vec<Row> {
    let port = session.client.port().to_string();
    let mut rows: Vec<Row> = rows
        .iter()
        .filter(|row| {
            row.text("source_port") == port
                && row.number("destination_port") == i64::from(session.server.port())
        })
        .cloned()
        .collect();
    rows.sort_by(|a, b| a.text("direction").cmp(b.text("direction")));
    rows
}

fn check(rows: &[Row], session: &Session, network_type: &str) {
    let rows = rows_of(rows, session);
    let directions: Vec<&str> = rows.iter().map(|row| row.text("direction")).collect();
    assert_eq!(directions, ["egress", "ingress"], "{session:?}");
    let clock_error = 1_000_000;
    for (row, pid) in rows.iter().zip([session.client_pid, std::process::id().into()]) {
        assert_eq!(row.number("pid"), pid, "{row:?}");
        assert!(row.text("entity_id").contains(&format!("-{pid}-")), "{row:?}");
        assert_eq!(row.number("uid"), i64::from(rustix::process::getuid().as_raw()));
        assert_eq!(row.text("network_type"), network_type);
        assert_eq!(row.text("transport"), "tcp");
        assert_eq!(row.text("source_ip"), session.client.ip().to_canonical().to_string());
        assert_eq!(row.text("destination_ip"), session.server.ip().to_canonical().to_string());
        assert_eq!(
            (row.number("source_bytes"), row.number("destination_bytes")),
            (REQUEST as i64, ANSWER as i64)
        );
        let time: chrono::DateTime<chrono::Utc> = row.text("timestamp").parse().unwrap();
        let time = time.timestamp_nanos_opt().unwrap();
        assert!(
            (session.begin - clock_error..=session.end + clock_error).contains(&time),
            "{session:?} {row:?}"
        );
        assert!((1..=session.end - session.begin).contains(&row.number("duration")), "{session:?} {row:?}");
    }
    assert!(rows[0].text("name").starts_with("python3"), "{:?}", rows[0]);
}

/// This process is one side of each session, so it must not be left out.
fn settings() -> Settings {
    Settings { exclude_self: false, ..Settings::default() }
}

#[test]
fn sessions_over_ipv4_ipv6_and_mapped_ipv4_have_their_exact_bytes_however_they_end() {
    if !require_bpf() || !require(TcpListener::bind("[::1]:0").is_ok(), "IPv6 on the loopback interface") {
        return;
    }
    let cases =
        [("127.0.0.1", "127.0.0.1", "ipv4"), ("::1", "::1", "ipv6"), ("::", "::ffff:127.0.0.1", "ipv4")];
    let collecting = Collecting::start("tcp", settings());
    let mut sessions = Vec::new();
    for end in [End::Client, End::Server, End::Reset] {
        for (listen, connect, network_type) in cases {
            sessions.push((session(listen, connect, end), network_type));
        }
    }
    wait_for("the rows of all sessions", Duration::from_secs(10), || {
        let rows = collecting.rows("tcplife");
        sessions.iter().all(|(session, _)| rows_of(&rows, session).len() == 2)
    });
    let collected = collecting.stop();
    assert_eq!(collected.lost("tcplife"), 0);
    let rows = collected.rows("tcplife");
    for (session, network_type) in &sessions {
        check(&rows, session, network_type);
    }
}

#[test]
fn sessions_that_the_map_has_no_room_for_are_counted() {
    if !require_bpf() {
        return;
    }
    let mut settings = settings();
    settings.tcp.tcplife.max_sessions = 1;
    let collecting = Collecting::start("tcp", settings);
    session("127.0.0.1", "127.0.0.1", End::Client);
    let collected = collecting.stop();
    let full = collected.losses.iter().find(|loss| loss.reason == "map full").unwrap();
    // One of the session's two sockets finds no room; so do others of this machine.
    assert!(full.count > 0);
}

#[test]
fn sessions_are_the_same_as_tcplife_sees() {
    if !require_bpf() || !require_program("tcplife") {
        return;
    }
    let original = Original::start("tcplife");
    wait_for("the original's first session", Duration::from_secs(30), || {
        let seen = session("127.0.0.1", "127.0.0.1", End::Client).client.port().to_string();
        original.lines().iter().any(|line| line.split_whitespace().any(|word| word == seen))
    });
    let collecting = Collecting::start("tcp", settings());
    let sessions: Vec<Session> = (0..20).map(|_| session("127.0.0.1", "127.0.0.1", End::Client)).collect();
    let all_there = |rows: &[Row]| sessions.iter().all(|session| rows_of(rows, session).len() == 2);
    wait_for("the rows of all sessions", Duration::from_secs(10), || all_there(&collecting.rows("tcplife")));
    let rows = collecting.stop().rows("tcplife");
    // Of both sides.
    let ports: Vec<String> = sessions.iter().map(|session| session.client.port().to_string()).collect();
    let of_load = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.len() == 9 && [words[3], words[5]].iter().any(|word| ports.iter().any(|port| port == word))
    };
    let lines = original.stop_after(2 * sessions.len(), of_load);

    for session in &sessions {
        let [egress, ingress] = &rows_of(&rows, session)[..] else { panic!("{session:?}") };
        let (client, server) = (session.client.port().to_string(), session.server.port().to_string());
        // PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS; of an accepted socket it shows a wrong process.
        let line = |local: &str, remote: &str| -> Vec<String> {
            let words = lines.iter().map(|line| line.split_whitespace().map(str::to_owned).collect());
            let found: Vec<Vec<String>> = words
                .filter(|words: &Vec<String>| words.len() == 9 && words[3] == local && words[5] == remote)
                .collect();
            assert_eq!(found.len(), 1, "{local} {remote}: {found:?}");
            found[0].clone()
        };
        let (theirs, accepted) = (line(&client, &server), line(&server, &client));
        assert_eq!(theirs[0], egress.text("pid"));
        assert_eq!(theirs[1], egress.text("name"));
        assert_eq!(theirs[2], egress.text("source_ip"));
        assert_eq!(theirs[4], egress.text("destination_ip"));
        for (row, words, sent, received) in [
            (egress, &theirs, "source_bytes", "destination_bytes"),
            (ingress, &accepted, "destination_bytes", "source_bytes"),
        ] {
            // It counts SYN and FIN as a byte each, and rounds to 0.01 KB.
            let kilobytes = |text: &str| text.parse::<f64>().unwrap() * 1024.0;
            assert!(
                (kilobytes(&words[6]) - row.number(sent) as f64).abs() <= 2.0 + 5.12,
                "{words:?} {row:?}"
            );
            assert!(
                (kilobytes(&words[7]) - row.number(received) as f64).abs() <= 2.0 + 5.12,
                "{words:?} {row:?}"
            );
            // Both take the time themselves, in two programs of the same event; a slow machine does so later.
            let (theirs, ours) = (words[8].parse::<f64>().unwrap(), row.number("duration") as f64 / 1e6);
            let near = f64::from(time_scale()) + ours / 20.0;
            assert!((theirs - ours).abs() < near, "{words:?} {row:?}");
        }
    }
}
