//! exec and exit against execsnoop and exitsnoop of libbpf-tools, at the same time on the same load.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use common::{Collecting, Original};
use kumon_bpf::Settings;
use kumon_testing::{require_bpf, require_program, wait_for};

const PROCESSES: usize = 200;

/// Runs `true` until an original has shown one: from then on it sees everything.
fn wait_until_it_sees(original: &Original) {
    wait_for("the original's first event", Duration::from_secs(30), || {
        Command::new("true").status().unwrap();
        original.lines().iter().any(|line| line.starts_with("true "))
    });
}

#[test]
fn execs_are_the_same_as_execsnoop_sees() {
    if !require_bpf() || !require_program("execsnoop") {
        return;
    }
    let original = Original::start("execsnoop");
    wait_until_it_sees(&original);
    let collecting = Collecting::start("process", Settings::default());
    for i in 0..PROCESSES {
        let marker = format!("kumon-original-{i}");
        Command::new("sh").args(["-c", "exec true \"$0\"", &marker]).status().unwrap();
    }
    let collected = collecting.stop();

    // PCOMM PID PPID RET ARGS, each process with two execs.
    let of_load = |line: &String| line.contains("kumon-original-");
    let theirs: BTreeSet<Vec<String>> = original
        .stop_after(2 * PROCESSES, of_load)
        .iter()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    let ours: BTreeSet<Vec<String>> = collected
        .rows("exec")
        .iter()
        .filter(|row| row.text("command_line").contains("kumon-original-"))
        .map(|row| {
            let columns = ["name", "pid", "ppid", "return_value", "filename", "command_line"];
            // execsnoop shows the path in place of argv[0].
            let [name, pid, ppid, result, path, line] = columns.map(|column| row.text(column));
            let args = line.split_once(' ').unwrap().1;
            format!("{name} {pid} {ppid} {result} {path} {args}")
                .split_whitespace()
                .map(str::to_owned)
                .collect()
        })
        .collect();
    assert_eq!(theirs.len(), 2 * PROCESSES);
    assert_eq!(ours, theirs);
}

#[test]
fn ends_are_the_same_as_exitsnoop_sees() {
    if !require_bpf() || !require_program("exitsnoop") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A name of its own marks the processes' ends.
    let program = folder.path().join("kumon-exits");
    std::fs::copy("/bin/sh", &program).unwrap();
    let original = Original::start("exitsnoop");
    wait_until_it_sees(&original);
    let collecting = Collecting::start("process", Settings::default());
    for i in 0..PROCESSES {
        let script = if i % 5 == 4 { "kill -TERM $$".to_owned() } else { format!("exit {}", i % 5) };
        Command::new(&program).args(["-c", &script]).status().unwrap();
    }
    let collected = collecting.stop();

    // PCOMM PID PPID TID AGE(s) EXIT_CODE, the last one `0`, `code N` or `signal N (name)`.
    let of_load = |line: &String| line.starts_with("kumon-exits ");
    let theirs: BTreeSet<(String, String, String)> = original
        .stop_after(PROCESSES, of_load)
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let end = if words[5] == "0" { "code 0".to_owned() } else { words[5..7].join(" ") };
            (words[1].to_owned(), words[2].to_owned(), end)
        })
        .collect();
    let ours: BTreeSet<(String, String, String)> = collected
        .rows("exit")
        .iter()
        .filter(|row| row.text("name") == "kumon-exits")
        .map(|row| {
            let end = match row.text("signal") {
                "" => format!("code {}", row.text("exit_code")),
                signal => format!("signal {signal}"),
            };
            (row.text("pid").to_owned(), row.text("ppid").to_owned(), end)
        })
        .collect();
    assert_eq!(theirs.len(), PROCESSES);
    assert_eq!(ours, theirs);
}
