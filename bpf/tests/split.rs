//! Rows by cgroup and by thread against loads whose cgroups and threads the test knows.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{BusyCpus, Cgroup, Collected, Collecting, NAP, Row, nearly, usage_of};
use kumon_bpf::Settings;
use kumon_testing::require_bpf;

fn of(rows: &[Row], column: &str, value: &str) -> Vec<Row> {
    rows.iter().filter(|row| row.text(column) == value).cloned().collect()
}

fn sum(rows: &[Row], column: &str) -> i64 {
    rows.iter().map(|row| row.number(column)).sum()
}

fn run(mut command: Command) -> u32 {
    let mut child = command.spawn().unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    child.id()
}

/// Naps so many times; and how often it can have waited for a CPU, as wait4 tells it: before its start, and after each
/// switch.
fn nap(cgroup: &Cgroup, times: i64) -> i64 {
    let script = format!("{NAP}nap({times})");
    let mut python = cgroup.command("/usr/bin/python3");
    let usage = usage_of(python.args(["-c", &script]).spawn().unwrap().id());
    1 + usage.voluntary_switches + usage.involuntary_switches
}

/// A cgroup that napped, and how often it can have waited.
struct Napper {
    cgroup: Cgroup,
    most_waits: i64,
}

/// The rows of a run in which one cgroup, a container's, napped 400 times and another one 100 times.
fn napped(top: usize) -> Option<([Napper; 2], Collected)> {
    let (container, _) = Cgroup::of_container()?;
    let other = Cgroup::new(&format!("kumon-split-{}", std::process::id()))?;
    let mut settings = Settings::default();
    settings.sched.runqlat.per_cgroup = true;
    settings.sched.runqlat.top = top;
    settings.sched.runqlat.interval = Duration::from_secs(60);
    let _busy = BusyCpus::keep();
    let collecting = Collecting::start("sched", settings);
    let nappers = [(container, 400), (other, 100)].map(|(cgroup, times)| {
        let most_waits = nap(&cgroup, times);
        Napper { cgroup, most_waits }
    });
    Some((nappers, collecting.stop()))
}

#[test]
fn each_cgroup_has_its_waits_and_they_sum_up_to_those_of_the_node() {
    if !require_bpf() {
        return;
    }
    let Some(([container, other], collected)) = napped(200) else { return };
    let rows = collected.rows("runqlat");
    let of_cgroup = |napper: &Napper| of(&rows, "cgroup_id", &napper.cgroup.id().to_string());
    let [row] = &of_cgroup(&container)[..] else { panic!("{rows:?}") };
    assert!((nearly(400)..=container.most_waits).contains(&row.number("count")), "{row:?}");
    assert_eq!(
        (row.text("key"), row.text("container_id")),
        ("cgroup", format!("{:064x}", std::process::id()).as_str())
    );
    let [row] = &of_cgroup(&other)[..] else { panic!("{rows:?}") };
    assert!((nearly(100)..=other.most_waits).contains(&row.number("count")), "{row:?}");
    assert_eq!(row.text("container_id"), "");

    let [all] = &of(&rows, "key", "all")[..] else { panic!("{rows:?}") };
    let parts: Vec<Row> = rows.iter().filter(|row| row.text("key") != "all").cloned().collect();
    for column in ["count", "sum"] {
        assert_eq!(sum(&parts, column), all.number(column), "{column}");
    }
    let buckets = collected.rows("runqlat_hist");
    let of_all = sum(&of(&buckets, "key", "all"), "count");
    assert_eq!((of_all, sum(&buckets, "count")), (all.number("count"), 2 * all.number("count")));
}

#[test]
fn cgroups_below_the_top_are_summed_in_the_row_other() {
    if !require_bpf() {
        return;
    }
    let Some((_cgroups, collected)) = napped(1) else { return };
    let rows = collected.rows("runqlat");
    let keys: Vec<&str> = rows.iter().map(|row| row.text("key")).collect();
    assert_eq!(keys, ["all", "cgroup", "other"], "{rows:?}");
    assert_eq!(rows[1].number("count") + rows[2].number("count"), rows[0].number("count"));
    assert_eq!((rows[2].text("cgroup_id"), rows[2].text("container_id")), ("", ""));
}

#[test]
fn a_process_in_a_container_bears_its_id_in_cputime_and_runqslower() {
    if !require_bpf() {
        return;
    }
    let Some((cgroup, id)) = Cgroup::of_container() else { return };
    let mut settings = Settings::default();
    settings.sched.runqslower.threshold = Duration::from_nanos(1);
    // Else the waits of all the others may fill the ring buffer.
    settings.sched.runqslower.filter =
        serde_json::from_str(&format!(r#"{{"cgroup": [{}]}}"#, cgroup.id())).unwrap();
    let _busy = BusyCpus::keep();
    let collecting = Collecting::start("sched", settings);
    let mut python = cgroup.command("/usr/bin/python3");
    python.args(["-c", &format!("{NAP}nap(50)")]);
    let pid = run(python).to_string();
    let collected = collecting.stop();
    let [row] = &of(&collected.rows("cputime"), "pid", &pid)[..] else { panic!("no row of {pid}") };
    assert_eq!((row.text("container_id"), row.number("cgroup_id") as u64), (id.as_str(), cgroup.id()));
    let waits = of(&of(&collected.rows("runqslower"), "pid", &pid), "container_id", &id);
    assert!(waits.len() as i64 >= nearly(50), "{waits:?}");
}

#[test]
fn threads_have_rows_of_their_own_where_asked_for() {
    if !require_bpf() {
        return;
    }
    // Two named threads that end, and the main one; each tells its own CPU time, ns.
    let script = "import ctypes, threading, time\n\
        def burn(name, seconds):\n \
            ctypes.CDLL(None).prctl(15, name, 0, 0, 0)\n \
            end = time.thread_time() + seconds\n \
            while time.thread_time() < end: pass\n \
            print(time.thread_time_ns())\n\
        for name, seconds in [(b'a,b\"\\n=1+1', 0.3), (b'short', 0.1)]:\n \
            thread = threading.Thread(target=burn, args=(name, seconds))\n thread.start()\n thread.join()";
    let mut settings = Settings::default();
    settings.sched.cputime.threads = true;
    let collecting = Collecting::start("sched", settings);
    let mut python = Command::new("/usr/bin/python3");
    let python = python.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = python.id().to_string();
    let told = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    let told: Vec<i64> = told.lines().map(|line| line.parse().unwrap()).collect();
    let rows = of(&collecting.stop().rows("cputime"), "pid", &pid);
    let by_name: BTreeMap<Vec<u8>, i64> =
        rows.iter().map(|row| (row.bytes("thread_name"), row.number("on_cpu"))).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    let close = |name: &[u8], told: i64| (by_name[name] - told).abs() < 30_000_000;
    assert!(close(b"a,b\"\n=1+1", told[0]) && close(b"short", told[1]), "{told:?} {rows:?}");
    assert!(told[0] >= 300_000_000 && told[1] >= 100_000_000, "{told:?}");
    let main = of(&rows, "tid", &pid);
    assert_eq!((main.len(), main[0].text("thread_name"), main[0].text("name")), (1, "python3", "python3"));
    assert!(rows.iter().all(|row| row.text("entity_id") == main[0].text("entity_id")), "{rows:?}");
}
