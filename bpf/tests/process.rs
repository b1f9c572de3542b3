//! exec and exit against what the processes themselves did.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Cgroup, Collecting, Row, TASK_STORAGE, kernel_is_at_least};
use kumon_bpf::Settings;
use kumon_collect::Clock;
use kumon_testing::{require_bpf, wait_for};

const SIGKILL: i64 = 9;

/// Rows whose command line has the word `marker`.
fn marked(rows: Vec<Row>, marker: &str) -> Vec<Row> {
    rows.into_iter().filter(|row| row.text("command_line").split(' ').any(|word| word == marker)).collect()
}

fn sh(script: &str, marker: &str) -> u32 {
    let mut child = Command::new("sh").args(["-c", script, marker]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

#[test]
fn each_of_many_processes_has_one_exec_and_one_exit_row_that_tell_what_it_did() {
    if !require_bpf() {
        return;
    }
    const PROCESSES: i64 = 300;
    let collecting = Collecting::start("process", Settings::default());
    let clock = Clock::new();
    let begin = clock.now();
    let script = |i: i64| {
        if i % 10 == 9 { "kill -KILL $$".to_owned() } else { format!("exit {}", i % 10) }
    };
    let pids: Vec<i64> =
        (0..PROCESSES).map(|i| i64::from(sh(&script(i), &format!("kumon-marked-{i}")))).collect();
    let end = clock.now();
    let collected = collecting.stop();
    assert_eq!((collected.lost("exec"), collected.lost("exit")), (0, 0));

    let (execs, exits) = (collected.rows("exec"), collected.rows("exit"));
    for (i, &pid) in pids.iter().enumerate() {
        let execs = marked(execs.clone(), &format!("kumon-marked-{i}"));
        let [exec] = execs.as_slice() else { panic!("exec rows of process {i}: {execs:?}") };
        assert_eq!(exec.number("pid"), pid);
        assert_eq!(exec.number("ppid"), i64::from(std::process::id()));
        assert_eq!(exec.text("name"), "sh");
        assert_eq!(exec.text("action"), "exec");
        assert_eq!(exec.number("return_value"), 0);
        assert_eq!(exec.number("uid"), i64::from(rustix::process::getuid().as_raw()));
        assert_eq!(exec.number("args_count"), 4);
        assert_eq!(exec.text("truncated"), "false");

        let ended = |row: &&Row| row.text("entity_id") == exec.text("entity_id");
        let exits: Vec<&Row> = exits.iter().filter(ended).collect();
        let [exit] = exits.as_slice() else { panic!("exit rows of process {i}: {exits:?}") };
        assert_eq!(exit.number("pid"), pid);
        assert_eq!(exit.number("ppid"), i64::from(std::process::id()));
        assert_eq!(exit.text("parent_name"), exec.text("parent_name"));
        if i % 10 == 9 {
            assert_eq!((exit.text("exit_code"), exit.number("signal")), ("", SIGKILL));
            assert_eq!(exit.text("core_dumped"), "false");
        } else {
            assert_eq!((exit.number("exit_code"), exit.text("signal")), (i as i64 % 10, ""));
        }
        assert!((1..end - begin).contains(&exit.number("duration")));
        for row in [exec, exit] {
            let time: chrono::DateTime<chrono::Utc> = row.text("timestamp").parse().unwrap();
            let time = time.timestamp_nanos_opt().unwrap();
            assert!((begin - 1_000_000..=end + 1_000_000).contains(&time), "{begin} {time} {end}");
        }
    }
}

#[test]
fn a_process_of_many_threads_ends_once() {
    if !require_bpf() {
        return;
    }
    // Threads that all end by themselves at the same time, and threads that the main thread's exit takes along.
    let scripts = [
        "import threading\nfor i in range(200): threading.Thread(target=lambda: None).start()",
        "import os, threading, time\nfor i in range(20): threading.Thread(target=time.sleep, args=(9,)).start()\n\
         os._exit(7)",
    ];
    let collecting = Collecting::start("process", Settings::default());
    let codes: Vec<i64> = scripts
        .iter()
        .map(|script| {
            let status = Command::new("/usr/bin/python3").args(["-c", script]).status().unwrap();
            i64::from(status.code().unwrap())
        })
        .collect();
    let collected = collecting.stop();
    let execs = collected.rows("exec");
    for (script, code) in scripts.iter().zip(codes) {
        let exec = execs.iter().find(|row| row.text("command_line").ends_with(script)).unwrap();
        let mut exits = collected.rows("exit");
        exits.retain(|row| row.text("entity_id") == exec.text("entity_id"));
        assert_eq!(exits.len(), 1, "{exits:?}, lost: {:?}", collected.losses);
        assert_eq!(exits[0].number("exit_code"), code);
    }
}

#[test]
fn hostile_names_and_arguments_come_back_byte_by_byte() {
    if !require_bpf() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let hostile = b"a,b\"\n=1+1\xff\\xff";
    // /bin/true under a hostile name, so that comm, path and arguments are all hostile.
    let program = folder.path().join(OsStr::from_bytes(hostile));
    std::fs::copy("/bin/true", &program).unwrap();

    let collecting = Collecting::start("process", Settings::default());
    let status = Command::new(&program).arg(OsStr::from_bytes(b"\r\n,\"\xc3\x28")).arg("").status().unwrap();
    assert!(status.success());
    let collected = collecting.stop();

    let rows = collected.rows("exec");
    let path = program.as_os_str().as_bytes();
    let [row] = &rows.iter().filter(|row| row.bytes("executable") == path).collect::<Vec<_>>()[..] else {
        panic!("no row of {program:?}")
    };
    assert_eq!(row.bytes("name"), hostile);
    assert_eq!(row.bytes("command_line"), [path, b"\r\n,\"\xc3\x28", b""].join(&b' '));
    assert_eq!(row.number("args_count"), 3);
    let exits = collected.rows("exit");
    let exit = exits.iter().find(|exit| exit.text("entity_id") == row.text("entity_id")).unwrap();
    assert_eq!(exit.bytes("name"), hostile);
}

#[test]
fn secrets_in_arguments_are_masked_unless_the_setting_says_otherwise() {
    if !require_bpf() {
        return;
    }
    for (mask, expected) in [(true, "--password=***"), (false, "--password=hunter2")] {
        let mut settings = Settings::default();
        settings.process.exec.mask = mask;
        let collecting = Collecting::start("process", settings);
        let status = Command::new("true").args(["kumon-secret", "--password=hunter2"]).status().unwrap();
        assert!(status.success());
        let rows = marked(collecting.stop().rows("exec"), "kumon-secret");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].text("command_line"), format!("true kumon-secret {expected}"));
    }
}

#[test]
fn long_arguments_are_cut_at_the_limit_and_flagged() {
    if !require_bpf() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kumon-long");
    std::fs::copy("/bin/true", &program).unwrap();
    let missing = folder.path().join("kumon-missing");
    let long = "x".repeat(5000);
    for limit in [4096, 100, 0] {
        let mut settings = Settings::default();
        settings.process.exec.max_args_bytes = limit;
        settings.process.exec.failed = true;
        let collecting = Collecting::start("process", settings);
        Command::new(&program).args([&long, "unseen"]).status().unwrap();
        Command::new(&missing).args([&long, "unseen"]).status().unwrap_err();
        let rows = collecting.stop().rows("exec");
        let failed = kernel_is_at_least(TASK_STORAGE).then_some(&missing);
        for path in [Some(&program), failed].into_iter().flatten() {
            let path = path.to_str().unwrap();
            let rows: Vec<&Row> = rows.iter().filter(|row| row.text("executable") == path).collect();
            let [row] = rows.as_slice() else { panic!("{path}: {rows:?}") };
            assert_eq!(row.text("command_line"), &format!("{path} {long} unseen")[..limit as usize]);
            assert_eq!(row.text("truncated"), "true");
            assert_eq!(row.number("args_count"), 3);
        }
    }
}

#[test]
fn failed_execs_are_told_where_the_setting_asks_for_them() {
    if !require_bpf() {
        return;
    }
    const ENOENT: i64 = 2;
    let mut settings = Settings::default();
    settings.process.exec.failed = true;
    let collecting = Collecting::start("process", settings);
    // An absolute path, because the search through PATH would fail several times.
    let error = Command::new("/kumon/missing").args(["--token", "x"]).status().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOENT as i32));
    let rows = collecting.stop().rows("exec");
    let failed: Vec<&Row> = rows.iter().filter(|row| row.text("executable") == "/kumon/missing").collect();
    if !kernel_is_at_least(TASK_STORAGE) {
        // What is said there is in tests/kernels.rs.
        assert!(failed.is_empty(), "{failed:?}");
        return;
    }
    let [row] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!(row.text("action"), "exec-failed");
    assert_eq!(row.number("return_value"), -ENOENT);
    assert_eq!(row.text("command_line"), "/kumon/missing --token ***");
    assert_eq!((row.number("args_count"), row.text("truncated")), (3, "false"));
    assert_eq!(row.number("ppid"), i64::from(std::process::id()));
}

#[test]
fn kumon_itself_is_left_out_unless_the_setting_says_otherwise() {
    if !require_bpf() {
        return;
    }
    for (exclude_self, seen) in [(true, false), (false, true)] {
        let mut settings = Settings { exclude_self, ..Settings::default() };
        settings.process.exec.failed = true;
        let collecting = Collecting::start("process", settings);
        // A child is a process of its own from its fork on: only an exec by this very process tells, one that fails.
        let path = format!("/kumon/self-{exclude_self}");
        let error = Command::new(&path).exec();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        let rows = collecting.stop().rows("exec");
        assert_eq!(
            rows.iter().any(|row| row.text("executable") == path),
            seen && kernel_is_at_least(TASK_STORAGE),
            "exclude_self: {exclude_self}"
        );
    }
}

#[test]
fn a_process_in_a_containers_cgroup_bears_its_id() {
    if !require_bpf() {
        return;
    }
    let Some((cgroup, id)) = Cgroup::of_container() else { return };
    let collecting = Collecting::start("process", Settings::default());
    let script = "echo $$ >\"$1/cgroup.procs\" && exec true kumon-contained";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(&cgroup.0).status().unwrap();
    assert!(status.success());
    wait_for("the row in the file", Duration::from_secs(5), || {
        !marked(collecting.rows("exec"), "kumon-contained").is_empty()
    });
    let collected = collecting.stop();
    let rows = marked(collected.rows("exec"), "kumon-contained");
    let row = rows.iter().find(|row| row.text("name") == "true").unwrap();
    let inode = cgroup.id();
    assert_eq!((row.text("container_id"), row.number("cgroup_id")), (id.as_str(), inode as i64));
    let exits = collected.rows("exit");
    let exit = exits.iter().find(|exit| exit.text("entity_id") == row.text("entity_id")).unwrap();
    assert_eq!(exit.text("container_id"), id);
}

#[test]
fn a_row_is_written_while_the_collector_runs() {
    if !require_bpf() {
        return;
    }
    let collecting = Collecting::start("process", Settings::default());
    Command::new("true").arg("kumon-live").stdout(Stdio::null()).status().unwrap();
    wait_for("the row in the file", Duration::from_secs(5), || {
        !marked(collecting.rows("exec"), "kumon-live").is_empty()
    });
    collecting.stop();
}

#[test]
fn a_process_that_works_on_the_same_spool_is_left_out() {
    if !require_bpf() {
        return;
    }
    // This test's own executable once more, as a separate process that does what the shipper's does with the spool.
    let collecting = Collecting::start("process", Settings::default());
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--ignored", "--exact", "works_on_a_spool"]).env(SPOOL, collecting.spool());
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let announced = collecting.spool().join(".processes");
    let prefix = format!("{}-", other.id());
    wait_for("the other process to be announced", Duration::from_secs(20), || {
        let mut entries = std::fs::read_dir(&announced).unwrap().flatten();
        entries.any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
    });
    // It is looked up once a second.
    let begin = std::time::Instant::now();
    wait_for("a look-up", Duration::from_secs(20), || begin.elapsed() > Duration::from_secs(2));
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    let stranger = sh("exit 0", "kumon-stranger");
    let exits = collecting.stop().rows("exit");
    let has = |pid: u32| exits.iter().any(|row| row.number("pid") == i64::from(pid));
    assert!(!has(other.id()) && has(stranger), "{exits:?}");
}

/// Where the process of the test above finds its spool.
const SPOOL: &str = "KUMON_TEST_SPOOL";

#[test]
#[ignore = "a process that another test starts"]
fn works_on_a_spool() {
    let Some(root) = std::env::var_os(SPOOL) else { return };
    let _spool =
        kumon_spool::Spool::open(std::path::Path::new(&root), kumon_spool::Limits::default()).unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
