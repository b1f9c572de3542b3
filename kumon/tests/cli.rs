//! The command line as people and scripts meet it.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Node, PATIENCE, mark};
use kumon_testing::{require_bpf, require_program, require_root, wait_for};
use libbpf_rs::query::ProgInfoIter;
use rustix::process::Signal;
use serde_json::Value;

/// Programs run while something runs, each with a number of its own.
fn mark_all(node: &Node, name: &str, count: usize) {
    for number in 0..count {
        mark(&node.path(""), OsStr::new(name), &[OsStr::new(&format!("number-{number}"))]);
    }
}

/// A finished run that saw three marks.
fn after_a_run() -> Node {
    let node = Node::new("");
    let agent = node.start_agent(&["run"]);
    mark_all(&node, "marked", 3);
    agent.terminate().expect(0, &[]);
    node
}

#[test]
fn run_for_a_duration_ends_with_everything_searchable() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["run", "--duration", "4s"]);
    mark_all(&node, "marked", 20);
    let ended = agent.wait();
    ended.expect(0, &["exec: ", "delivered to the embedded store"]);
    for metric in ["exec", "exit"] {
        let rows = node.rows(metric, "process.name:marked");
        let lines: HashSet<_> = rows.iter().map(|row| row["process.pid"].to_string()).collect();
        assert_eq!((rows.len(), lines.len()), (20, 20), "{metric}");
    }
    // Delivered and closed files are gone; what is left is no row.
    let left = kumon_schema::all().iter().flat_map(|schema| node.files(&schema.name));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn rows_are_found_while_the_agent_writes() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let agent = node.start_agent(&["run"]);
    for round in 1..=3 {
        mark_all(&node, "marked", 1);
        wait_for("the row", Duration::from_secs(5), || {
            node.rows("exec", "process.name:marked").len() == round
        });
    }
    agent.terminate().expect(0, &[]);
    assert_eq!(node.rows("exec", "process.name:marked").len(), 3);
}

#[test]
fn a_query_prints_tables_json_and_csv() {
    if !require_bpf() {
        return;
    }
    let node = after_a_run();
    let query = |options: &[&str]| {
        let ended = node.run(&[&["query", "exec", "process.name:marked"], options].concat());
        ended.expect(0, &[]);
        ended.stdout
    };
    let table = query(&[]);
    assert!(table.starts_with("@timestamp"), "{table}");
    assert_eq!(table.lines().filter(|line| line.contains("marked number-")).count(), 3, "{table}");
    assert!(query(&["--limit", "1"]).contains("… and 2 more"), "{table}");

    let json = query(&["--format", "json"]);
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let times: Vec<_> = rows.iter().map(|row| row["@timestamp"].as_str().unwrap()).collect();
    assert!(times.len() == 3 && times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
    assert_eq!(query(&["--format", "json", "--limit", "2"]).lines().count(), 2);

    let csv = query(&["--format", "csv"]);
    fs::write(node.path("answer.csv"), &csv).unwrap();
    let rows = common::rows(&[node.path("answer.csv")]);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["process.command_line"].starts_with("marked number-")), "{rows:?}");

    assert_eq!(query(&["--since", "1h", "--format", "json"]).lines().count(), 3);
    // Longer than there are times to tell.
    assert_eq!(query(&["--since", "99999999d", "--format", "json"]).lines().count(), 3);
    let counts = query(&["--aggs", r#"{"n":{"value_count":{"field":"process.pid"}}}"#]);
    assert_eq!(serde_json::from_str::<Value>(&counts).unwrap()["n"]["value"], 3.0);
}

#[test]
fn a_snapshot_shows_what_stands_without_an_agent() {
    let node = Node::new("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (own, port) = (std::process::id(), listener.local_addr().unwrap().port());
    let snapshot = |arguments: &[&str]| {
        let ended = node.run(&[&["snapshot"], arguments].concat());
        ended.expect(0, &[]);
        ended.stdout
    };
    let json = |of: &str| -> Vec<Value> {
        let lines = snapshot(&[of, "--format", "json"]);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let processes = json("process");
    let process = processes.iter().find(|row| row["process.pid"] == own).unwrap();
    assert!(
        process["process.start"].as_str().unwrap() <= process["@timestamp"].as_str().unwrap(),
        "{process}"
    );
    let sockets = json("socket");
    let listens = |row: &&Value| {
        row["kumon.snapshot_socket.state"] == "LISTEN" && row["kumon.snapshot_socket.local.port"] == port
    };
    let socket = sockets.iter().find(listens).unwrap();
    assert_eq!(socket["process.entity_id"], process["process.entity_id"], "{socket}");

    let table = snapshot(&["process"]);
    let cells: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert!(cells.starts_with(&["@timestamp", "process.pid"]), "{table}");
    assert!(table.lines().any(|line| line.contains(&format!(" {own} "))), "{table}");
    let csv = snapshot(&["socket", "--format", "csv"]);
    fs::write(node.path("sockets.csv"), &csv).unwrap();
    let rows = common::rows(&[node.path("sockets.csv")]);
    assert!(rows.iter().any(|row| row["kumon.snapshot_socket.local.port"] == port.to_string()), "{csv}");
    node.run(&["snapshot", "disk"]).expect(2, &["process", "socket"]);
}

#[test]
fn no_match_a_wrong_query_and_expired_are_different_answers() {
    if !require_bpf() {
        return;
    }
    let node = after_a_run();
    let query = |arguments: &[&str]| node.run(&[&["query"], arguments].concat());
    query(&["exec", "process.name:nobody"]).expect(1, &["no match"]);
    query(&["exec", "process.name:marked", "--since", "1ns"]).expect(1, &["no match"]);
    query(&["exec", "process.name:marked AND (process.pid:1"]).expect(2, &["error in the query at column"]);
    query(&["exec", "process.pid:abc"])
        .expect(2, &["error in the query at column 13", "'abc' is not a number"]);
    query(&["exec", "process.nme:a"]).expect(2, &["column 1", "did you mean 'process.name'"]);
    query(&["exek"]).expect(2, &["there is no metric 'exek'", "exec, exit"]);
    query(&["exec", "--aggs", "{"]).expect(2, &["--aggs", "column 1"]);
    query(&["exec", "--since", "yesterday"]).expect(2, &["--since"]);
    query(&["exec", "--until", "365d"]).expect(1, &["no match"]);
    // Before all times.
    query(&["exec", "--until", "400y"]).expect(1, &["no match"]);
    query(&["exek"]).expect(2, &["did you mean 'exec'"]);

    // The day becomes one of long ago, which the next run drops, and yesterday, without which it would doubt its clock.
    let mut entries = fs::read_dir(node.state().join("store")).unwrap().map(|entry| entry.unwrap().path());
    let day = entries.find(|path| path.is_dir()).unwrap();
    let yesterday = chrono::Utc::now().date_naive().pred_opt().unwrap();
    copy_folder(&day, &day.with_file_name(yesterday.to_string()));
    fs::rename(&day, day.with_file_name("2020-01-01")).unwrap();
    node.run(&["run", "--duration", "1s"]).expect(0, &["2020-01-01", "retention"]);
    query(&["exec", "--until", "2600d"]).expect(1, &["expired: rows before 2020-01-02 are no longer kept"]);
    query(&["exec", "process.name:nobody"]).expect(1, &["no match"]);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn asking_where_nothing_was_ever_collected_says_so() {
    let node = Node::new("");
    node.run(&["query", "exec"]).expect(1, &["there is nothing to ask", "kumon run"]);
    node.run(&["frobnicate"]).expect(2, &["frobnicate", "--help"]);
    node.run(&["run", "--duration", "never"]).expect(2, &["--duration"]);
    for help in [["--help"].as_slice(), &["query", "--help"]] {
        let ended = node.run(help);
        assert!(ended.code == Some(0) && ended.stdout.contains("Examples:"), "{ended:?}");
    }
}

#[test]
fn status_tells_who_runs_and_how_they_are() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let status = || node.run(&["status"]);
    let none = status();
    none.expect(1, &[]);
    let not_running = |what: &str, side: &str| {
        format!("{what}: not running (state folder {})\n", node.state().join(side).display())
    };
    assert_eq!(none.stdout, not_running("collecting", "collect") + &not_running("shipping", "ship"));
    assert!(!node.state().exists(), "looking made folders");

    let agent = node.start_agent(&["run"]);
    mark_all(&node, "marked", 1);
    wait_for("rows in the status", PATIENCE, || status().stdout.contains("  exec: "));
    let both = status();
    both.expect(0, &[]);
    let process = format!("process {}", agent.id());
    assert_eq!(both.stdout.matches(&process).count(), 2, "{}", both.stdout);
    let json: Value = serde_json::from_str(&node.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!((&json["healthy"], &json["ship"]["pid"]), (&true.into(), &agent.id().into()));

    agent.kill();
    let after = status();
    assert!(after.code == Some(1) && after.stdout.starts_with("collecting: not running"), "{after:?}");

    let collector = node.start_agent(&["collect"]);
    let half = status();
    assert!(half.code == Some(1) && half.stdout.contains("shipping: not running"), "{half:?}");
    collector.terminate().expect(0, &[]);
}

#[test]
fn looking_at_the_status_never_keeps_an_agent_from_starting() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("");
    let lock = node.state().join("ship/lock");
    node.run(&["ship", "--duration", "100ms"]).expect(0, &[]);
    let looked_at = fs::File::open(&lock).unwrap();
    looked_at.lock_shared().unwrap();
    let agent = node.start(&["ship", "--duration", "100ms"]);
    // As long as a look takes, and some.
    std::thread::sleep(Duration::from_millis(30));
    looked_at.unlock().unwrap();
    agent.wait().expect(0, &[]);
}

/// The ids of the BPF programs that a process has open, as programs or links (proc_pid_fdinfo(5)).
fn bpf_programs(pid: u32) -> HashSet<u32> {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = infos.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let id = |text: String| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    texts.filter_map(id).collect()
}

#[test]
fn signals_stop_cleanly_within_a_limit_and_leave_no_bpf_program_behind() {
    if !require_bpf() {
        return;
    }
    for (command, signal, code) in [
        ("run", Signal::TERM, Some(0)),
        ("run", Signal::INT, Some(0)),
        ("collect", Signal::TERM, Some(0)),
        ("collect", Signal::KILL, None),
    ] {
        let node = Node::new("");
        let agent = node.start_agent(&[command]);
        let loaded = bpf_programs(agent.id());
        assert!(loaded.len() > 5, "{loaded:?}");
        mark_all(&node, "marked", 1);
        let start = Instant::now();
        let ended = agent.stop(signal, Duration::from_secs(10));
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
        // The kernel frees programs after a grace period.
        wait_for("the BPF programs to go", Duration::from_secs(5), || {
            !ProgInfoIter::default().any(|program| loaded.contains(&program.id))
        });
        if signal != Signal::KILL {
            println!("{command} ended {:?} after {signal:?}", start.elapsed());
            let left = if command == "run" { 0 } else { 1 };
            assert_eq!(node.files("exec").len(), left);
        }
    }
}

/// Command lines and statements are nobody else's business.
#[test]
fn what_an_agent_keeps_is_closed_to_other_users() {
    if !require_root() {
        return;
    }
    let node = Node::new("");
    fs::set_permissions(node.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let agent = node.start_agent(&["ship"]);
    for path in [node.spool(), node.state(), node.state().join("ship/query.sock")] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{}: {mode:o}", path.display());
    }
    let ended = node.spawn(&mut common::as_nobody(&node, &["query", "exec"])).wait();
    ended.expect(1, &["query.sock", "Permission denied", "group"]);
    agent.terminate().expect(0, &[]);
}

#[test]
fn whoever_connects_and_says_nothing_keeps_nobody_waiting() {
    let node = Node::new("");
    let agent = node.start_agent(&["ship"]);
    let socket = node.state().join("ship/query.sock");
    let mut silent: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    node.run(&["query", "exec"]).expect(1, &[]);
    for connection in &mut silent {
        connection.set_nonblocking(true).unwrap();
        let read = connection.read(&mut [0]).map_err(|e| e.kind());
        assert_eq!(
            read,
            Err(ErrorKind::WouldBlock),
            "the query was answered before the agent hung up on this one"
        );
    }
    agent.terminate().expect(0, &[]);
}

#[test]
fn a_terminal_gets_a_live_summary() {
    if !require_bpf() || !require_program("script") {
        return;
    }
    let node = Node::new("");
    let kumon =
        format!("{} --config {} run --duration 4s", env!("CARGO_BIN_EXE_kumon"), node.config().display());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &kumon, "/dev/null"]);
    common::clean(&mut terminal);
    let ended = node.spawn(&mut terminal).wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let screen = &ended.stdout;
    for part in ["KuMon, ", "% of one core", "metric", "delivered", "lost", "cputime", "\x1b["] {
        assert!(screen.contains(part), "'{part}' is missing in: {screen}");
    }
    assert!(!screen.contains(", 0 B of memory"), "{screen}");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    if !require_bpf() {
        return;
    }
    let node = after_a_run();
    for arguments in
        [["query", "exec", "--format", "json"].as_slice(), &["query", "exec"], &["status"], &["check"]]
    {
        let mut child =
            node.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        // Where the machine was too busy, the exit code of status says that rows were lost.
        assert!(output.status.success() || arguments == ["status"], "{arguments:?}: {output:?}");
        assert!(errors.is_empty(), "{arguments:?}: {output:?}");
    }
    let mut full = node.command(&["query", "exec", "--format", "json"]);
    let output = full.stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("No space left on device"), "{output:?}");
}

#[test]
fn check_shows_each_metrics_strategy() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { filelife: { enabled: true }, filegone: { enabled: true } }\n");
    let ended = node.run(&["check"]);
    // What this machine has no database for, say, is a reason and not a strategy.
    let complete = !ended.stdout.contains("  none: ");
    ended.expect(if complete { 0 } else { 1 }, &[]);
    for part in ["kernel", "BTF", "CAP_BPF yes", "sched_process_exec", "tp_btf"] {
        assert!(ended.stdout.contains(part), "'{part}' is missing in: {}", ended.stdout);
    }
    // Rows by 10 minutes need nothing of the kernel.
    let has_hooks = |schema: &&kumon_schema::Schema| schema.name != "agent" && schema.coarse_of.is_none();
    for schema in kumon_schema::all().iter().filter(has_hooks) {
        assert!(ended.stdout.contains(&schema.name), "{} is missing in: {}", schema.name, ended.stdout);
    }

    let json = node.run(&["check", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let hooks = found["hooks"].as_array().unwrap();
    assert_eq!(hooks.iter().all(|hook| hook["strategy"].is_string()), complete);
    // The file metrics have the best strategy that nothing speaks against; what was refused says why, here as there.
    // Calls by io_uring are only counted where nothing better than tracepoints is there.
    let of_files = |hook: &&serde_json::Value| {
        let is_counted = hook["event"].as_str().unwrap().contains("io_uring");
        hook["metrics"].as_array().unwrap().contains(&"filegone".into()) && !is_counted
    };
    for hook in hooks.iter().filter(of_files) {
        let refused = hook["refused"].as_array().unwrap();
        let better: Vec<&str> = refused.iter().map(|of| of["strategy"].as_str().unwrap()).collect();
        let ladder = ["fentry", "kprobe", "tracepoint"];
        let chosen = ladder.iter().position(|rung| hook["strategy"] == *rung).unwrap();
        assert_eq!(better, ladder[..chosen]);
        for refusal in refused {
            assert!(
                ended.stdout.contains(refusal["reason"].as_str().unwrap()),
                "{refusal} in: {}",
                ended.stdout
            );
        }
    }
}

#[test]
fn a_metric_that_would_slow_every_system_call_is_left_out_with_the_reason() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { file_hooks: tracepoint }\n");
    let ended = node.run(&["check"]);
    for metric in ["filelife", "filegone"] {
        let line = ended.stdout.lines().find(|line| line.starts_with(metric)).unwrap();
        assert!(line.contains("off: 'enabled: auto'"), "{line}");
        assert!(line.contains(&format!("collectors.{metric}.enabled: true")), "{line}");
    }

    // The agent says so, too, and where somebody asks for its rows.
    let agent = node.start_agent(&["run"]);
    node.wait_for_status(0, &["filelife is off: ", "filegone is off: 'enabled: auto'"]);
    node.run(&["query", "filelife"]).expect(1, &["no match; filelife is off on this node: 'enabled: auto'"]);
    node.run(&["query", "dbslower"]).expect(1, &["no match\n"]);
    agent.terminate().expect(0, &[]);
}

#[test]
fn what_the_configuration_switches_off_is_named_by_check_and_by_a_query() {
    if !require_bpf() {
        return;
    }
    let node = Node::new("collectors: { tcplife: { enabled: false } }\nalerts: { enabled: false }\n");
    let ended = node.run(&["check"]);
    let line = |start: &str| ended.stdout.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("tcplife").contains("disabled: collectors.tcplife.enabled is false"), "{}", ended.stdout);
    assert!(line("alerts").contains("none of them evaluated: alerts.enabled is false"), "{}", ended.stdout);
    node.run(&["run", "--duration", "1s"]).expect(0, &[]);
    node.run(&["query", "tcplife"])
        .expect(1, &["no match; tcplife is disabled on this node: collectors.tcplife.enabled"]);
}

#[test]
fn check_says_which_filter_cannot_be_applied_here() {
    if !require_bpf() {
        return;
    }
    // A node without cgroup v2 refuses it as well; one without v1 has no cgroup to refuse.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return;
    }
    let node = Node::new("collectors: { exit: { filter: { cgroup: [/sys/fs/cgroup/memory/some] } } }\n");
    let ended = node.run(&["check"]);
    let line = ended.stdout.lines().find(|line| line.contains("filter by cgroup")).unwrap();
    assert!(line.starts_with("exit ") && line.contains("none: ") && line.contains("cgroup v1"), "{line}");
    ended.expect(1, &[]);
}
