//! Whose an accepted session is: each kind of server, and whatever becomes of the session.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, Load, Row};
use kumon_bpf::Settings;
use kumon_testing::{require_bpf, require_program, wait_for};

fn can_run() -> bool {
    require_bpf() && require_program("python3")
}

/// Debian's 5.10 hasn't.
fn kernel_has_mptcp() -> bool {
    Path::new("/proc/sys/net/mptcp").exists()
}

/// Runs a function of tcp_owners.py.
fn load(call: &str) -> Load {
    load_in(&["env"], call)
}

/// As `load`, by a command that runs one.
fn load_in(prefix: &[&str], call: &str) -> Load {
    let script = format!(
        "import sys; sys.dont_write_bytecode = True; sys.path[0] = {:?}; import tcp_owners; tcp_owners.{call}",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests")
    );
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args(["/usr/bin/python3", "-c", &script]);
    Load::start(command)
}

/// The accepted sides of a session.
fn accepted<'a>(rows: &'a [Row], opener: &str, server: &str) -> Vec<&'a Row> {
    let of_ports = |row: &&Row| {
        row.text("direction") == "ingress"
            && row.text("source_port") == opener
            && row.text("destination_port") == server
    };
    rows.iter().filter(of_ports).collect()
}

/// Compares each session with what the load said of it, and names all that differ. Returns how many there were by the
/// part of their kind before the point.
fn check(collected: &Collected, told: &[Vec<String>]) -> BTreeMap<String, usize> {
    let rows = collected.rows("tcplife");
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    // Sessions of two addresses may have the same ports.
    let mut owners: BTreeMap<[&str; 2], Vec<(&str, &str)>> = BTreeMap::new();
    for words in told {
        let [kind, opener, server, pid] = &words[..] else { panic!("{words:?}") };
        owners.entry([opener.as_str(), server.as_str()]).or_default().push((pid.as_str(), kind.as_str()));
        *count.entry(kind.split('.').next().unwrap().to_owned()).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for ([opener, server], mut expected) in owners {
        let mut found: Vec<[String; 2]> = accepted(&rows, opener, server)
            .iter()
            .map(|row| ["pid", "name"].map(|column| row.text(column).to_owned()))
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        if !found.iter().map(|[pid, _]| pid.as_str()).eq(expected.iter().map(|(pid, _)| *pid)) {
            wrong.push(format!("{expected:?}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), told.len(), wrong.join("\n"));
    assert_eq!(collected.lost("tcplife"), 0);
    count
}

#[test]
fn each_kind_of_server_owns_its_sessions_read_or_not_and_killed_with_them_or_not() {
    if !can_run() {
        return;
    }
    for settings in [Settings::default(), Settings { as_on_old_kernels: true, ..Settings::default() }] {
        let collecting = Collecting::start("tcp", settings);
        let told = load("every_server()").end();
        let count = check(&collecting.stop(), &told);
        for kind in ["ipv4", "any_address", "dual_stack", "device"] {
            assert!(count.get(kind) >= Some(&21), "{kind}: {count:?}");
        }
        assert_eq!(count.contains_key("mptcp"), kernel_has_mptcp());
    }
}

#[test]
fn a_session_that_is_handed_on_belongs_to_who_uses_it_first_or_closes_it() {
    if !can_run() {
        return;
    }
    let collecting = Collecting::start("tcp", Settings::default());
    let told = load("handed_on()").end();
    assert_eq!(told.len(), 12);
    check(&collecting.stop(), &told);
}

/// Servers of one port, none of which accepts before the collector has stopped.
fn servers_of_one_port(servers_first: bool) {
    const SESSIONS: usize = 8;
    let mut load = load(&format!("same_port({SESSIONS})"));
    let start = || Collecting::start("tcp", Settings::default());
    let mut collecting = (!servers_first).then(start);
    let ready = load.told().unwrap();
    assert_eq!(ready[0], "ready");
    let ports = &ready[1..];
    let collecting = collecting.take().unwrap_or_else(start);
    load.go_on();
    assert_eq!(load.told().unwrap(), ["done"]);
    if !servers_first {
        // They are told after a while all the same; else, when the collector stops.
        wait_for("the sessions that nobody accepts", Duration::from_secs(60), || {
            let rows = collecting.rows("tcplife");
            let of_port = |row: &&Row| ports.iter().any(|port| row.text("destination_port") == port);
            let accepted = rows.iter().filter(|row| row.text("direction") == "ingress");
            accepted.filter(of_port).count() >= ports.len() * SESSIONS
        });
    }
    let collected = collecting.stop();
    load.go_on();
    let count = check(&collected, &load.end());
    for kind in ["two_addresses", "any_and_one", "reuseport", "daemons"] {
        assert_eq!(count.get(kind), Some(&(2 * SESSIONS)), "{kind}");
    }
}

#[test]
fn a_session_that_nobody_accepts_belongs_to_the_very_server_of_several_on_one_port() {
    if can_run() {
        servers_of_one_port(false);
    }
}

#[test]
fn servers_that_listened_before_are_known_as_well() {
    if can_run() {
        servers_of_one_port(true);
    }
}

#[test]
fn a_filter_by_process_takes_in_what_nobody_read_and_counts_what_has_no_process() {
    if !can_run() {
        return;
    }
    let named = |name: &str| {
        let mut settings = Settings::default();
        settings.tcp.tcplife.filter = serde_json::from_value(serde_json::json!({"comm": [name]})).unwrap();
        settings
    };
    let (chosen, others) =
        (Collecting::start("tcp", named("owner-server")), Collecting::start("tcp", named("kumon-none")));
    let mut unknown = named("owner-server");
    // The listeners of this machine fill it.
    unknown.tcp.tcplife.max_listeners = 1;
    let unknown = Collecting::start("tcp", unknown);
    let mut load = load("same_port(4)");
    load.told();
    load.go_on();
    load.told();
    let [chosen, others, unknown] = [chosen, others, unknown].map(Collecting::stop);
    load.go_on();
    let told = load.end();
    check(&chosen, &told);
    assert_eq!((others.rows("tcplife").len(), others.lost("tcplife")), (0, 0));
    let without = unknown.losses.iter().find(|loss| loss.reason == "no process").unwrap().count as usize;
    let with = unknown.rows("tcplife").len();
    assert!(without > 0 && without + with >= told.len(), "{without} without a process, {with} with one");
}

#[test]
fn further_subflows_of_multipath_tcp_belong_to_the_processes_that_have_the_session() {
    if !can_run() || !kernel_has_mptcp() || !require_program("ip") {
        return;
    }
    const SESSIONS: usize = 3;
    let up = "ip link set lo up && ip mptcp limits set subflow 2 && \
              ip mptcp endpoint add 127.0.0.2 dev lo subflow && exec \"$@\"";
    let collecting = Collecting::start("tcp", Settings::default());
    let told = load_in(&["unshare", "--net", "sh", "-c", up, "sh"], &format!("subflows({SESSIONS})")).end();
    let rows = collecting.stop().rows("tcplife");
    assert_eq!(told.len(), SESSIONS);
    for words in &told {
        let [_, client, at, server] = &words[..] else { panic!("{words:?}") };
        let of_session = rows.iter().filter(|row| row.text("destination_port") == at);
        let sides: Vec<(&str, &str)> =
            of_session.map(|row| (row.text("direction"), row.text("pid"))).collect();
        assert_eq!(sides.len(), 4, "two subflows, each with two sides: {sides:?}");
        for (direction, pid) in sides {
            assert_eq!(pid, if direction == "egress" { client } else { server }, "{direction}");
        }
    }
}
