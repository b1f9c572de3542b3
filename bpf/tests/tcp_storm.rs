//! Very many sessions: what came in is what came out and what was counted as lost.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, SETTLE, with_budget};
use kumon_bpf::Settings;
use kumon_testing::{load_size, require_bpf, require_program, time_scale};
use serde_json::json;

const PYTHON: &str = "/usr/bin/python3";
/// How many connections a storm has.
fn connections() -> usize {
    load_size(20_000)
}

fn settings(ring_buffer_bytes: u32) -> Settings {
    with_budget(Settings { ring_buffer_bytes, ..Settings::default() }, 0)
}

/// Connects and closes, both sides in one process; `held` sessions stand at a time. Returns the listener's port.
fn storm(connections: usize, held: usize) -> i64 {
    let script = "
import socket, sys
connections, held = int(sys.argv[1]), int(sys.argv[2])
listener = socket.create_server(('0.0.0.0', 0), backlog=4096)
port = listener.getsockname()[1]
standing = []
for i in range(connections):
    # More addresses have more ports.
    client = socket.create_connection((f'127.0.0.{1 + i % 4}', port))
    standing += [client, listener.accept()[0]]
    if len(standing) >= 2 * held:
        for s in standing: s.close()
        standing.clear()
settle(port)
print(port)
";
    let script = format!("{SETTLE}{script}");
    let mut python = Command::new(PYTHON);
    let output = python.args(["-c", &script, &connections.to_string(), &held.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Rows of the storm and of all others.
fn rows(collected: &Collected, port: i64) -> (usize, usize) {
    let rows = collected.rows("tcplife");
    let own = rows.iter().filter(|row| row.number("destination_port") == port).count();
    (own, rows.len() - own)
}

#[test]
fn twenty_thousand_connections_have_a_row_for_each_side() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let collecting = Collecting::start("tcp", settings(32 << 20));
    let port = storm(connections(), 1);
    let collected = collecting.stop();
    assert_eq!(collected.lost("tcplife"), 0);
    assert_eq!(rows(&collected, port).0, 2 * connections());
}

#[test]
fn sessions_that_overrun_the_ring_buffer_are_counted() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let witness = Collecting::start("tcp", settings(32 << 20));
    let overrun = Collecting::start_polling("tcp", settings(4096), Duration::from_millis(200) * time_scale());
    let port = storm(connections(), 1);
    let (overrun, witness) = (overrun.stop(), witness.stop());
    let (own, others) = rows(&witness, port);
    assert_eq!((own, witness.lost("tcplife")), (2 * connections(), 0));
    let (through, _) = rows(&overrun, port);
    assert!((1..own).contains(&through), "the storm must overrun the ring buffer, or this tests nothing");
    let sum = overrun.rows("tcplife").len() + overrun.lost("tcplife") as usize;
    assert!((own..=own + others).contains(&sum), "rows and losses are {sum}, the storm was {own}");
}

#[test]
fn sessions_beyond_the_maps_limit_are_counted() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    const HELD: usize = 200;
    let mut limited = settings(32 << 20);
    limited.tcp.tcplife.max_sessions = HELD as u32;
    let witness = Collecting::start("tcp", settings(32 << 20));
    let collecting = Collecting::start("tcp", limited);
    // Each time 200 sessions stand, that is 400 sides.
    let port = storm(10 * HELD, HELD);
    let (collected, witness) = (collecting.stop(), witness.stop());
    let (own, others) = rows(&witness, port);
    assert_eq!((own, witness.lost("tcplife")), (20 * HELD, 0));
    let (through, _) = rows(&collected, port);
    assert!((1..=10 * HELD).contains(&through), "{through} rows");
    let sum = collected.rows("tcplife").len() + collected.lost("tcplife") as usize;
    assert!((own..=own + others).contains(&sum), "rows and losses are {sum}, the load was {own}");
}

#[test]
fn filters_leave_out_other_processes_and_samples_are_counted() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    const SESSIONS: usize = 2_000;
    let filtered = |filter: serde_json::Value, sample: u32| {
        let mut settings = settings(32 << 20);
        settings.tcp.tcplife =
            serde_json::from_value(json!({"filter": filter, "sample": sample, "max_rows_per_second": 0}))
                .unwrap();
        Collecting::start("tcp", settings)
    };
    let name = std::fs::canonicalize(PYTHON).unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let collecting = [
        filtered(json!({"comm": [&name, "python3"]}), 1),
        filtered(json!({"comm": ["kumon-other"]}), 1),
        filtered(json!({"comm": ["python3"], "uid": [0]}), 10),
    ];
    let port = storm(SESSIONS, 1);
    let [chosen, others, sample] = collecting.map(Collecting::stop);
    assert_eq!((rows(&chosen, port).0, chosen.lost("tcplife")), (2 * SESSIONS, 0));
    assert_eq!((others.rows("tcplife").len(), others.lost("tcplife")), (0, 0));
    let left_out = sample.losses.iter().find(|loss| loss.reason == "sampled out").unwrap().count as usize;
    let own = rows(&sample, port).0;
    assert!((2 * SESSIONS / 20..2 * SESSIONS / 5).contains(&own), "one in ten of {} is {own}", 2 * SESSIONS);
    assert!((2 * SESSIONS..2 * SESSIONS + 100).contains(&(own + left_out)), "{own} and {left_out}");
}
