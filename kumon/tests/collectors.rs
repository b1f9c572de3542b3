//! `kumon collectors`: looking at the collectors of a running agent, and switching metrics on and off.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Ended, Kumon, Node, PATIENCE, rows};
use kumon_testing::{require_bpf, require_root, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// How a metric is collected, as `kumon collectors` has it for programs.
fn collector(node: &Node, metric: &str) -> Value {
    let ended = node.run(&["collectors", "--format", "json"]);
    ended.expect(0, &[]);
    let mut metrics = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    metrics.find(|of| of["metric"] == metric).unwrap()
}

fn state(node: &Node, metric: &str) -> (String, String) {
    let of = collector(node, metric);
    (of["state"].as_str().unwrap().to_owned(), of["decided_by"].as_str().unwrap().to_owned())
}

fn expect_state(node: &Node, metric: &str, expected: &str, decided_by: &str) {
    assert_eq!(state(node, metric), (expected.into(), decided_by.into()), "{metric}");
}

fn switch(node: &Node, arguments: &[&str]) -> Ended {
    node.run(&[&["collectors"], arguments].concat())
}

/// Expects `kumon collectors <arguments>` to succeed and to say this.
fn expect_switched(node: &Node, arguments: &[&str], says: &str) {
    let ended = switch(node, arguments);
    ended.expect(0, &[]);
    assert_eq!(ended.stdout, says);
}

fn reload(agent: &Kumon) {
    let loaded = || agent.stderr().matches("kumon.yml: loaded").count();
    let before = loaded();
    agent.signal(Signal::HUP);
    wait_for("the reload", PATIENCE, || loaded() > before);
}

/// Marks until the row of it is there.
fn expect_collected(node: &Node, metric: &str, name: &str) {
    wait_for("a row", PATIENCE, || {
        node.mark(name, 1);
        !node.rows(metric, &format!("process.name:{name}")).is_empty()
    });
}

/// The sum of a field over the rows of the agent metric about what a metric's collector did.
fn ledger(node: &Node, metric: &str, field: &str) -> u64 {
    let rows = node.rows("agent", &format!("kumon.agent.stage:kernel AND kumon.agent.name:{metric}"));
    rows.iter().filter_map(|row| row[field].as_u64()).sum()
}

#[test]
fn a_metric_is_switched_off_and_on_under_load_and_every_count_stays() {
    if !require_bpf() {
        return;
    }
    // A page of ring buffer holds a few events; the load makes hundreds between two polls.
    let node = Node::new("collectors: { ring_buffer_bytes: 4096 }\n");
    let agent = node.start_agent(&["run"]);
    expect_collected(&node, "exec", "before");
    let exec = collector(&node, "exec");
    assert_eq!((&exec["collector"], &exec["backends"][0]), (&"process".into(), &"tp_btf".into()), "{exec}");
    expect_state(&node, "exec", "running", "configuration");

    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                node.mark("load", 10);
            }
        });
        wait_for("losses", PATIENCE, || {
            let of = collector(&node, "exec");
            of["rows"].as_u64() > Some(0) && !of["lost"].as_object().unwrap().is_empty()
        });
        expect_switched(&node, &["disable", "exec"], "exec: disabled, until the agent restarts\n");
        ends.store(true, Ordering::Relaxed);
    });
    expect_state(&node, "exec", "disabled", "switch");
    expect_switched(&node, &["disable", "exec"], "exec: already disabled, until the agent restarts\n");
    node.wait_for_status(0, &["exec is switched off, until it restarts, over the configuration"]);
    node.run(&["query", "exec", "process.name:off"])
        .expect(1, &["exec is switched off on this node", "kumon collectors enable exec"]);

    // Its collector goes on with the other metric, and a reload changes nothing of it.
    expect_collected(&node, "exit", "off");
    reload(&agent);
    expect_state(&node, "exec", "disabled", "switch");
    expect_collected(&node, "exit", "reloaded");
    for name in ["off", "reloaded"] {
        assert_eq!(node.rows("exec", &format!("process.name:{name}")), Vec::<Value>::new());
    }

    expect_switched(
        &node,
        &["enable", "exec", "exit"],
        "exec: enabled, as the configuration says\n\
         exit: already enabled, as the configuration says\n",
    );
    expect_collected(&node, "exec", "on");
    expect_state(&node, "exec", "running", "configuration");
    agent
        .terminate()
        .expect(0, &["exec was switched off by the user 0", "exec was switched on by the user 0"]);

    let collected = node.status_file("collect");
    for metric in ["exec", "exit"] {
        let rows = collected["rows"][metric].as_u64().unwrap();
        let lost: u64 =
            collected["lost"][metric].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert!(lost > 0, "{metric}: the load overruns the ring buffer");
        let told = ["in", "out", "lost"].map(|of| ledger(&node, metric, &format!("kumon.agent.{of}")));
        assert_eq!(told, [rows + lost, rows, lost], "{metric}");
        assert_eq!(node.rows(metric, "").len() as u64, rows, "{metric}: what was written was delivered");
    }
    // exit stood still both times, and that is told; the other collectors went on.
    let paused = |metric: &str| {
        node.rows("agent", &format!("kumon.agent.reason:pause* kumon.agent.name:{metric}")).len()
    };
    assert_eq!(["exec", "exit", "tcplife", "runqlat", "all"].map(paused), [0, 2, 0, 0, 0]);
}

#[test]
fn a_saved_switch_holds_over_restarts_until_it_is_taken_back() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { exit: { enabled: false } }\n");
    let configuration = fs::read(node.config()).unwrap();
    let saved = node.state().join("collect/switches.json");
    let agent = node.start_agent(&["collect"]);
    let both = ["exec", "tcplife"];
    expect_switched(
        &node,
        &["disable", "exec", "tcplife", "--save"],
        "exec: disabled, saved over the configuration\ntcplife: disabled, saved over the configuration\n",
    );
    expect_switched(&node, &["enable", "exit", "--save"], "exit: enabled, saved over the configuration\n");
    expect_switched(&node, &["enable", "exec"], "exec: enabled, as the configuration says\n");
    agent.terminate().expect(0, &[]);

    let agent = node.start_agent(&["collect"]);
    both.iter().for_each(|metric| expect_state(&node, metric, "disabled", "saved_switch"));
    expect_state(&node, "exit", "running", "saved_switch");
    let check = node.run(&["check"]).stdout;
    for part in
        ["exec off, exit on, tcplife off: saved ones, over the configuration", "disabled: by a saved switch"]
    {
        assert!(check.contains(part), "'{part}' is missing in: {check}");
    }
    let check: Value = serde_json::from_str(&node.run(&["check", "--json"]).stdout).unwrap();
    assert_eq!(check["switched"]["exec"]["enabled"], false);

    // What says the same as the configuration is no switch.
    expect_switched(&node, &["enable", "exec", "--save"], "exec: enabled, as the configuration says\n");
    let file: Value = serde_json::from_slice(&fs::read(&saved).unwrap()).unwrap();
    assert_eq!(file, serde_json::json!({"version": 1, "enabled": {"exit": true, "tcplife": false}}));
    assert_eq!(fs::read(node.config()).unwrap(), configuration);

    // A new spool takes a new collecting side, which keeps what was switched.
    expect_switched(&node, &["disable", "runqslower"], "runqslower: disabled, until the agent restarts\n");
    node.configure("collectors: { exit: { enabled: false } }\nspool: { file_age: 50s }\n");
    agent.wait_for_log(&["kumon.yml: loaded"]);
    expect_state(&node, "runqslower", "disabled", "switch");
    expect_state(&node, "tcplife", "disabled", "saved_switch");
    agent.terminate().expect(0, &[]);

    // A broken file keeps nobody from collecting.
    fs::write(&saved, "{").unwrap();
    let agent = node.start_agent(&["collect"]);
    agent.wait_for_log(&["switches.json: the saved switches are damaged", "they are passed over"]);
    expect_state(&node, "tcplife", "running", "configuration");
    assert!(node.run(&["collectors"]).stdout.contains("the saved switches are damaged"));
    assert!(node.run(&["check"]).stdout.contains("the saved switches are damaged"));
    switch(&node, &["enable", "tcplife", "--save"]).expect(0, &[]);
    assert!(!node.run(&["collectors"]).stdout.contains("damaged"));
    agent.terminate().expect(0, &[]);
}

#[test]
fn what_cannot_start_is_not_switched_on_and_the_reason_is_told() {
    if !require_bpf() || !require_root() {
        return;
    }
    let node = Node::new("collectors: { file_hooks: tracepoint, filegone: { enabled: false } }\n");
    fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    // These tracepoints take a tracefs that may be read, which those of the services' capabilities don't give.
    let mut collect = common::as_nobody_with(&node, "+bpf,+perfmon", &["collect"]);
    let agent = node.spawn(&mut collect);
    wait_for("the agent", PATIENCE, || node.run(&["collectors"]).code == Some(0));
    expect_state(&node, "filelife", "off", "configuration");
    // The first one could be: it is all or none.
    switch(&node, &["enable", "filegone"]).expect(1, &[]);
    switch(&node, &["enable", "filelife", "exec"])
        .expect(1, &["nothing was switched: file (filelife) can't start: ", "CAP_DAC_READ_SEARCH"]);
    expect_state(&node, "filelife", "off", "configuration");
    expect_state(&node, "exec", "running", "configuration");
    node.wait_for_status(1, &["exec: ", "shipping: not running"]);

    // By the configuration it is tried again, and said when.
    node.configure("collectors: { file_hooks: tracepoint, filelife: { enabled: true } }\n");
    wait_for("the failure", PATIENCE, || state(&node, "filelife").0 == "failed");
    let file = collector(&node, "filelife");
    assert!(file["reason"].as_str().unwrap().contains("CAP_DAC_READ_SEARCH"), "{file}");
    assert!(file["next_try"].as_str().unwrap().ends_with('Z'), "{file}");
    let again = switch(&node, &["enable", "filelife"]);
    assert!(again.code == Some(1) && again.stdout.contains("already enabled"), "{again:?}");
    wait_for("the status", PATIENCE, || {
        let status: Value = serde_json::from_str(&node.run(&["status", "--json"]).stdout).unwrap();
        let fault = &status["collect"]["failed"]["file (filelife)"];
        fault["state"] == "failed" && fault["next_try"].is_string() && fault["reason"].is_string()
    });
    expect_state(&node, "exec", "running", "configuration");
    agent.terminate().expect(0, &[]);
}

/// Runs a command as nobody in root's group, which may look but not switch.
fn as_member(node: &Node, arguments: &[&str]) -> Ended {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "root", "--clear-groups", "--inh-caps", "-all", "--"]);
    fs::copy(env!("CARGO_BIN_EXE_kumon"), node.path("kumon")).unwrap();
    command.arg(node.path("kumon")).arg("--config").arg(node.config()).args(arguments);
    common::clean(&mut command);
    node.spawn(&mut command).wait()
}

/// What the agent answers to a line.
fn ask(node: &Node, side: &str, line: &str) -> String {
    let mut stream = UnixStream::connect(node.state().join(side)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have its hands full, and hang up before it has read.
    let _ = stream.write_all(line.as_bytes());
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn the_control_socket_tells_who_may_not_and_what_it_does_not_know() {
    if !require_bpf() || !require_root() {
        return;
    }
    let node = Node::new("");
    fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = Command::new("sh");
    run.args(["-c", "umask 007; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_kumon"), "--config"]);
    run.arg(node.config()).arg("run");
    common::clean(&mut run);
    let agent = node.spawn(&mut run);
    wait_for("the agent", PATIENCE, || node.run(&["collectors"]).code == Some(0));
    let (collect, ship) = ("collect/control.sock", "ship/query.sock");
    for socket in [collect, ship] {
        let mode = fs::metadata(node.state().join(socket)).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{socket}: {mode:o}");
    }
    as_member(&node, &["collectors"]).expect(0, &[]);
    as_member(&node, &["collectors", "disable", "exec"])
        .expect(1, &["only root and the user that KuMon collects as"]);
    let stranger = node.spawn(&mut common::as_nobody(&node, &["collectors"])).wait();
    stranger.expect(1, &["control.sock", "Permission denied"]);
    switch(&node, &["disable", "exit", "exek"])
        .expect(2, &["there is no metric 'exek'", "did you mean 'exec'?"]);
    expect_state(&node, "exit", "running", "configuration");

    for (side, line, says) in [
        (
            collect,
            r#"{"version":7,"request":"collectors"}"#,
            ["version 7 of the control protocol", "version 1"],
        ),
        (
            ship,
            r#"{"version":7,"request":{"search":{}}}"#,
            ["version 7 of the control protocol", "version 1"],
        ),
        // As a KuMon from before there was a version asks, and what it understands.
        (ship, r#"{"search":{"metric":"exec"}}"#, [r#"{"failed":{"error":"unavailable""#, "no version"]),
        (collect, r#"{"version":1,"request":"explode"}"#, ["explode", "switch_collectors"]),
        (ship, r#"{"version":1,"request":"collectors"}"#, ["refused", "shipping side"]),
        (collect, r#"{"version":1,"request":{"search":{"metric":"exec"}}}"#, ["refused", "collecting side"]),
        (collect, "what?", ["refused", "no JSON object"]),
    ] {
        let answer = ask(&node, side, &format!("{line}\n"));
        assert!(says.iter().all(|part| answer.contains(part)), "{line}: {answer}");
    }
    assert!(ask(&node, collect, &"x".repeat(2 << 20)).contains("at most 1 MiB"));
    agent.terminate().expect(0, &[]);
}

#[test]
fn a_flood_of_silent_connections_holds_up_neither_the_agent_nor_for_long_anybody_else() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["run"]);
    let socket = node.state().join("collect/control.sock");
    let silent: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    node.run(&["collectors"]).expect(1, &["others are being answered", "try again"]);
    // The other side's socket and the collecting itself go on.
    expect_collected(&node, "exec", "flooded");
    wait_for("the silent ones to be hung up on", PATIENCE, || node.run(&["collectors"]).code == Some(0));
    drop(silent);
    // Nor do those that say nothing hold up its end.
    let _silent: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    agent.terminate().expect(0, &[]);
}

#[test]
fn without_an_agent_there_is_nothing_to_switch() {
    let node = Node::new("");
    for arguments in [["collectors"].as_slice(), &["collectors", "disable", "exec", "--save"]] {
        let state = node.state().join("collect").display().to_string();
        node.run(arguments).expect(1, &["no agent collects", &state, "kumon run"]);
    }
    node.run(&["collectors", "disable"]).expect(2, &["METRIC"]);
    assert!(!node.state().exists(), "asking made folders");
}

#[test]
fn what_takes_cap_net_admin_has_a_process_of_its_own_beside_the_others() {
    if !require_bpf() || !require_root() {
        return;
    }
    let node = Node::new("collectors: { flow: { enabled: true, interval: 1s, interfaces: [lo] } }\n");
    let _collect = node.start_agent(&["collect"]);
    expect_state(&node, "flow", "disabled", "configuration");
    let network = node.start(&["collect", "--network"]);
    wait_for("the other process", PATIENCE, || state(&node, "flow").0 == "running");
    expect_state(&node, "exec", "running", "configuration");
    wait_for("rows", PATIENCE, || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"marked", "127.0.0.1:9").unwrap();
        !rows(&node.files("flow")).is_empty()
    });
    // Each is switched where it is collected.
    expect_switched(
        &node,
        &["disable", "exec", "flow"],
        "exec: disabled, until the agent restarts\nflow: disabled, until the agent restarts\n",
    );
    expect_state(&node, "flow", "disabled", "switch");
    expect_state(&node, "exec", "disabled", "switch");
    let status = node.run(&["status"]).stdout;
    assert!(status.contains("collecting from the network: process"), "{status}");
    network.terminate().expect(0, &[]);
    assert!(!node.run(&["status"]).stdout.contains("collecting from the network"));
}
