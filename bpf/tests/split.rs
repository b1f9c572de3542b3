//! Rows by cgroup and by thread against loads whose cgroups and threads the test knows.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use common::{Cgroup, Collected, Collecting, Row};
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

/// Sleeps so many times, a millisecond each.
fn nap(cgroup: &Cgroup, times: i64) {
    let script = format!("import time\nfor i in range({times}): time.sleep(0.001)");
    let mut python = cgroup.command("/usr/bin/python3");
    python.args(["-c", &script]);
    run(python);
}

/// The rows of a run in which one cgroup, a container's, napped 400 times and another one 100 times.
fn napped(top: usize) -> Option<(Cgroup, Cgroup, Collected)> {
    let (container, _) = Cgroup::of_container()?;
    let other = Cgroup::new(&format!("kumon-split-{}", std::process::id()))?;
    let mut settings = Settings::default();
    settings.runqlat.per_cgroup = true;
    settings.runqlat.top = top;
    settings.runqlat.interval = Duration::from_secs(60);
    let collecting = Collecting::start("sched", settings);
    nap(&container, 400);
    nap(&other, 100);
    let collected = collecting.stop();
    Some((container, other, collected))
}

#[test]
fn each_cgroup_has_its_waits_and_they_sum_up_to_those_of_the_node() {
    if !require_bpf() {
        return;
    }
    let Some((container, other, collected)) = napped(200) else { return };
    let rows = collected.rows("runqlat");
    let of_cgroup = |cgroup: &Cgroup| of(&rows, "cgroup_id", &cgroup.id().to_string());
    let [row] = &of_cgroup(&container)[..] else { panic!("{rows:?}") };
    assert!((400..800).contains(&row.number("count")), "{row:?}");
    assert_eq!(
        (row.text("key"), row.text("container_id")),
        ("cgroup", format!("{:064x}", std::process::id()).as_str())
    );
    let [row] = &of_cgroup(&other)[..] else { panic!("{rows:?}") };
    assert!((100..300).contains(&row.number("count")), "{row:?}");
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
    let Some((_, _, collected)) = napped(1) else { return };
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
    settings.runqslower.threshold = Duration::from_nanos(1);
    let collecting = Collecting::start("sched", settings);
    let mut python = cgroup.command("/usr/bin/python3");
    python.args(["-c", "import time\nfor i in range(50): time.sleep(0.001)"]);
    let pid = run(python).to_string();
    let collected = collecting.stop();
    let [row] = &of(&collected.rows("cputime"), "pid", &pid)[..] else { panic!("no row of {pid}") };
    assert_eq!((row.text("container_id"), row.number("cgroup_id") as u64), (id.as_str(), cgroup.id()));
    let waits = of(&of(&collected.rows("runqslower"), "pid", &pid), "container_id", &id);
    assert!(waits.len() >= 50, "{waits:?}");
}

#[test]
fn threads_have_rows_of_their_own_where_asked_for() {
    if !require_bpf() {
        return;
    }
    // Two named threads that end, and the main one; each with its own CPU time.
    let script = "import ctypes, threading, time\n\
        def burn(name, seconds):\n \
            ctypes.CDLL(None).prctl(15, name, 0, 0, 0)\n \
            end = time.thread_time() + seconds\n \
            while time.thread_time() < end: pass\n\
        for name, seconds in [(b'a,b\"\\n=1+1', 0.3), (b'short', 0.1)]:\n \
            thread = threading.Thread(target=burn, args=(name, seconds))\n thread.start()\n thread.join()";
    let mut settings = Settings::default();
    settings.cputime.threads = true;
    let collecting = Collecting::start("sched", settings);
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script]);
    let pid = run(python).to_string();
    let rows = of(&collecting.stop().rows("cputime"), "pid", &pid);
    let by_name: BTreeMap<Vec<u8>, i64> =
        rows.iter().map(|row| (row.bytes("thread_name"), row.number("on_cpu"))).collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    let close = |name: &[u8], ms: i64| (by_name[name] - ms * 1_000_000).abs() < 30_000_000;
    assert!(close(b"a,b\"\n=1+1", 300) && close(b"short", 100), "{rows:?}");
    let main = of(&rows, "tid", &pid);
    assert_eq!((main.len(), main[0].text("thread_name"), main[0].text("name")), (1, "python3", "python3"));
    assert!(rows.iter().all(|row| row.text("entity_id") == main[0].text("entity_id")), "{rows:?}");
}
