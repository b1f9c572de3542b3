//! The metric process beside what ps, pidstat and the files in /proc/<pid> tell, with loads of known numbers.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Numbers, compare, number, output, share};
use kumon_proc::Settings;
use kumon_testing::{Child, require_program, require_root, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const TICK: u64 = 10_000_000;

/// With a row for this process, and for no other: reading all that all processes tell takes long on a busy machine.
fn only(pid: u32) -> Settings {
    let mut settings = Settings::default();
    settings.process.filter = serde_json::from_value(json!({"pid": [pid]})).unwrap();
    settings
}

/// A program that waits for a line before it begins.
fn start(program: &str, arguments: &[&str]) -> Child {
    Child::spawn(Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()))
}

fn go(child: &mut Child) {
    drop(child.inner().stdin.take());
}

/// What the files of a process tell: times in ticks, memory in bytes.
fn told_of(pid: u32) -> Numbers {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let mut told = Numbers::new();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    for (name, field) in [
        ("user", 14),
        ("system", 15),
        ("children_user", 16),
        ("children_system", 17),
        ("threads", 20),
        ("io_wait", 42),
    ] {
        told.insert(name.into(), fields[field - 3].parse().unwrap());
    }
    let page = rustix::param::page_size() as u64;
    for (name, word) in
        ["size", "resident", "shared", "text", "", "data"].iter().zip(read("statm").split(' '))
    {
        told.insert((*name).into(), word.trim().parse::<u64>().unwrap() * page);
    }
    for line in read("io").lines() {
        let (name, number) = line.split_once(": ").unwrap();
        told.insert(name.into(), number.parse().unwrap());
    }
    told.insert("descriptors".into(), fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64);
    told
}

/// Takes CPU time of its own and of a child, memory, I/O, threads and descriptors, and then stays.
const LOAD: &str = r#"
import os, subprocess, sys, threading, time
folder = sys.argv[1]
open(folder + "/ready", "w").close()
sys.stdin.read()
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
subprocess.run([sys.executable, "-c", "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"])
memory = b"x" * (32 << 20)
with open(folder + "/data", "wb") as file:
    for _ in range(100):
        os.write(file.fileno(), b"y" * 4096)
    os.fsync(file.fileno())
files = [open("/dev/null") for _ in range(20)]
threads = [threading.Thread(target=time.sleep, args=(600,), daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
open(folder + "/done", "w").close()
time.sleep(600)
"#;

#[test]
fn what_a_process_used_is_what_its_files_and_ps_and_pidstat_tell() {
    if !require_root() || !["python3", "ps", "pidstat"].into_iter().all(require_program) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let is_there = |name: &str| folder.path().join(name).exists();
    let mut child = start("python3", &["-c", LOAD, folder.path().to_str().unwrap()]);
    let pid = child.id();
    wait_for("the load to be ready", LIMIT, || is_there("ready"));
    let compared = compare(
        "process",
        &only(pid),
        || told_of(pid),
        || {
            go(&mut child);
            wait_for("the load to be done", LIMIT, || is_there("done"));
        },
    );
    let row = compared.row("pid", &pid.to_string());
    for column in ["user", "system", "children_user", "children_system"] {
        compared.assert_added(row, column, column, TICK);
    }
    for (column, name) in [
        ("reads", "syscr"),
        ("writes", "syscw"),
        ("read_bytes", "read_bytes"),
        ("write_bytes", "write_bytes"),
        ("read_chars", "rchar"),
        ("written_chars", "wchar"),
    ] {
        compared.assert_added(row, column, name, 1);
    }
    for column in ["size", "resident", "shared", "text", "data", "threads"] {
        compared.assert_stands(row, column, column, 1, 0);
    }
    compared.assert_stands(row, "open_descriptors", "descriptors", 1, 0);
    assert!(number(row, "user") + number(row, "system") >= 300_000_000 - 2 * TICK, "{row:?}");
    assert!(
        number(row, "children_user") + number(row, "children_system") >= 200_000_000 - 2 * TICK,
        "{row:?}"
    );
    assert!(number(row, "written_chars") >= 100 * 4096 && number(row, "writes") >= 100, "{row:?}");
    assert!(number(row, "resident") >= 32 << 20 && number(row, "open_descriptors") >= 20, "{row:?}");
    assert_eq!(
        (number(row, "threads"), row["state"].as_str(), row["name"].as_str()),
        (5, "sleeping", "python3")
    );
    let of_cpu = (number(row, "user") + number(row, "system")) as f64 / number(row, "interval") as f64;
    assert!((share(row, "cpu_pct") - of_cpu).abs() < 0.001, "{row:?}");
    // Off unless somebody switches it on.
    let accounts_delays =
        fs::read_to_string("/proc/sys/kernel/task_delayacct").is_ok_and(|text| text.trim() == "1");
    if accounts_delays {
        compared.assert_added(row, "io_wait", "io_wait", TICK);
    } else if Path::new("/proc/sys/kernel/task_delayacct").exists() {
        assert_eq!(row.get("io_wait"), None);
    }

    let of_ps = output("ps", &["-o", "uid=,gid=,rss=,vsz=,nlwp=", "-p", &pid.to_string()]);
    let of_ps: Vec<u64> = of_ps.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let ours = ["uid", "gid", "resident", "size", "threads"].map(|column| number(row, column));
    assert_eq!(of_ps, [ours[0], ours[1], ours[2] >> 10, ours[3] >> 10, ours[4]]);
    // `Time UID PID usr system guest wait CPU %CPU Command`, of all its life: the load and Python's own start.
    let report = output("pidstat", &["-h", "-H", "-u", "-T", "TASK", "-p", &pid.to_string()]);
    let line = report.lines().last().unwrap_or_else(|| panic!("{report}"));
    assert!(line.contains("python3"), "{report}");
    assert_eq!(line.split_whitespace().nth(2), Some(pid.to_string().as_str()), "{report}");
}

#[test]
fn the_rows_of_all_and_of_the_others_sum_up_to_the_whole() {
    if !require_root() || !require_program("python3") {
        return;
    }
    // Of all processes, those without a row too.
    let processes = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let count =
            all.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
        Numbers::from([("processes".into(), count.count() as u64)])
    };
    let mut settings = Settings::default();
    (settings.process.top_by_cpu, settings.process.top_by_memory) = (1, 1);
    let mut busy = start("python3", &["-c", "import sys\nsys.stdin.read()\nwhile True: pass"]);
    let pid = busy.id().to_string();
    let compared = compare("process", &settings, processes, || {
        go(&mut busy);
        let used = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(11).unwrap().parse::<u64>().unwrap()
        };
        wait_for("it to take CPU time", LIMIT, || used() >= 50);
    });
    let others = compared.row("name", "other");
    assert_eq!(others.get("pid"), None);
    let sum: u64 = compared.rows.iter().map(|row| number(row, "processes")).sum();
    // Others start and end processes meanwhile.
    let told = processes()["processes"];
    assert!(sum.abs_diff(told) <= 20 + told / 5, "{sum} of {told}");
    assert!((2..=3).contains(&compared.rows.len()), "{:?}", compared.rows);
}

#[test]
fn names_of_any_kind_are_told_and_processes_that_end_meanwhile_are_no_fault() {
    if !require_root() || !require_program("python3") {
        return;
    }
    let name = ") R 1 (\n x";
    let rename = "import sys\nopen('/proc/self/comm', 'w').write(sys.argv[1])\nprint('', flush=True)\nsys.stdin.read()";
    let odd = Child::spawn(Command::new("python3").args(["-c", rename, name]).stdin(Stdio::piped()));
    let comm = || fs::read_to_string(format!("/proc/{}/comm", odd.id())).unwrap();
    wait_for("it to have its name", LIMIT, || comm().trim_end() == name);
    // Starts and ends processes all the time.
    let mut churn = start("sh", &["-c", "while :; do (true; true) & wait; done"]);
    for _ in 0..10 {
        let compared = compare("process", &only(odd.id()), Numbers::new, || {});
        let row = compared.row("pid", &odd.id().to_string());
        assert_eq!(row["name"], name);
        assert!(row["entity_id"].contains(&format!("-{}-", odd.id())), "{row:?}");
    }
    churn.kill().unwrap();
}

#[test]
fn only_the_processes_of_a_filter_have_rows() {
    let mut child = start("sleep", &["600"]);
    let compared = compare("process", &only(child.id()), Numbers::new, || {});
    let [row] = compared.rows.as_slice() else { panic!("{:?}", compared.rows) };
    assert_eq!((number(row, "pid"), row["name"].as_str()), (child.id().into(), "sleep"));
    child.kill().unwrap();
}
