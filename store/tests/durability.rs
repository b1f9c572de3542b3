//! Kills, full disks and second writers: no row is lost or doubled.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kumon_query::Search;
use kumon_shipper::{Sink, SinkError};
use kumon_store::{Store, StoreError, StoreOptions};
use kumon_testing::{Child, SmallDisk, require_root, wait_for};
use support::{File, exec, field, pids, request};

const WRITER_FOLDER: &str = "KUMON_TEST_WRITER_FOLDER";
const LIMIT: Duration = Duration::from_secs(60);

fn eager() -> StoreOptions {
    StoreOptions { commit_interval: Duration::from_millis(50), ..StoreOptions::default() }
}

/// Goes on where the store's positions are, as a restarted shipper does.
fn resumed(sink: &impl Sink) -> (File, u64) {
    let mut file = File::exec("a");
    let offset = sink.positions().unwrap().get("a").copied().unwrap_or(0);
    file.seek(offset);
    (file, offset / 100)
}

fn rows(range: std::ops::Range<u64>) -> Vec<serde_json::Value> {
    range.map(|n| exec((n % 3600) as u32, "loop", n as u32, "a few words more")).collect()
}

/// Not a test of its own: what the killed process does, when started by the test below.
#[test]
fn writer_process() {
    let Some(folder) = std::env::var_os(WRITER_FOLDER) else { return };
    let (mut sink, _) = Store::open_for_writing(Path::new(&folder), eager()).unwrap();
    let (mut file, mut next) = resumed(&sink);
    loop {
        sink.send(&file.batch(&rows(next..next + 50))).unwrap();
        next += 50;
        sink.settle(false).unwrap();
    }
}

fn start_writer(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "writer_process", "--nocapture"]).env(WRITER_FOLDER, folder);
    Child::spawn(command.stdout(Stdio::null()))
}

#[test]
fn ten_kills_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The reader is another process than the writer, and reads while that one writes and dies.
    let reader = Store::open_read_only(folder.path()).unwrap();
    let total = || reader.search(&request("exec", "")).unwrap().total;
    for round in 0..10 {
        let before = total();
        let mut writer = start_writer(folder.path());
        wait_for("rows of the writer to be searchable", LIMIT, || total() > before);
        // Each time at another point of its loop.
        let deadline = Instant::now() + Duration::from_millis(37 * round);
        wait_for("the moment of the kill", LIMIT, || Instant::now() >= deadline);
        writer.kill().unwrap();
    }
    let (mut sink, store) = Store::open_for_writing(folder.path(), eager()).unwrap();
    let (mut file, next) = resumed(&sink);
    sink.send(&file.batch(&rows(next..next + 50))).unwrap();
    sink.settle(true).unwrap();
    let found = pids(&store, "");
    assert_eq!(found.len() as u64, next + 50, "as many rows as the positions say");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), (0..next + 50).collect(), "each of them once");
}

#[test]
fn a_resend_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, store) = Store::open_for_writing(folder.path(), eager()).unwrap();
    let mut file = File::exec("a");
    let batch = file.batch(&rows(0..10));
    assert_eq!(sink.send(&batch).unwrap().created, 10);
    let again = sink.send(&batch).unwrap();
    assert_eq!((again.created, again.duplicates), (0, 10));
    sink.settle(true).unwrap();
    assert_eq!(sink.send(&batch).unwrap().duplicates, 10);
    drop(sink);
    let (mut sink, _) = Store::open_for_writing(folder.path(), eager()).unwrap();
    assert_eq!(sink.send(&batch).unwrap().duplicates, 10, "also after a restart");
    sink.settle(true).unwrap();
    assert_eq!(pids(&store, "").len(), 10);
}

#[test]
fn what_was_not_committed_is_not_in_the_positions() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
    let mut file = File::exec("a");
    sink.send(&file.batch(&rows(0..10))).unwrap();
    assert!(!sink.settle(false).unwrap(), "the commit interval has not passed");
    assert_eq!(sink.positions().unwrap().len(), 0);
    drop(sink);
    assert_eq!(pids(&store, "").len(), 0);

    let (mut sink, _) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
    assert!(sink.settle(false).unwrap(), "nothing is waiting");
    let (mut file, next) = resumed(&sink);
    sink.send(&file.batch(&rows(next..10))).unwrap();
    assert!(sink.settle(true).unwrap());
    assert_eq!(sink.positions().unwrap()["a"], 1000);
    assert_eq!(pids(&store, "").len(), 10);
}

#[test]
fn somebody_looking_gets_rows_sooner() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { commit_interval: LIMIT, ..StoreOptions::default() };
    let (mut sink, store) = Store::open_for_writing(folder.path(), options).unwrap();
    sink.send(&File::exec("a").batch(&rows(0..1))).unwrap();
    let limit = Duration::from_secs(10);
    wait_for("the row to be found before the interval", limit, || {
        sink.settle(false).unwrap();
        pids(&store, "").len() == 1
    });
}

#[test]
fn forgotten_files_leave_the_positions_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, _) = Store::open_for_writing(folder.path(), eager()).unwrap();
    let (mut old, mut new) = (File::exec("old"), File::exec("new"));
    sink.send(&old.batch(&rows(0..1))).unwrap();
    sink.settle(true).unwrap();
    sink.forget(&["old".into()]);
    sink.send(&new.batch(&rows(1..2))).unwrap();
    sink.settle(true).unwrap();
    drop(sink);
    let (sink, _) = Store::open_for_writing(folder.path(), eager()).unwrap();
    assert_eq!(sink.positions().unwrap().into_keys().collect::<Vec<_>>(), ["new".into()]);
}

#[test]
fn a_second_writer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Store::open_for_writing(folder.path(), eager()).unwrap();
    let second = Store::open_for_writing(folder.path(), eager()).err().unwrap();
    assert!(matches!(&second, StoreError::InUse { .. }), "{second}");
    let message = second.to_string();
    assert!(message.contains(&folder.path().display().to_string()), "{message}");
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
}

#[test]
fn a_row_refused_for_good_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sink, store) = Store::open_for_writing(folder.path(), eager()).unwrap();
    let mut batch = rows(0..3);
    batch[1]["process.pid"] = "none".into();
    let outcome = sink.send(&File::exec("a").batch(&batch)).unwrap();
    assert_eq!(outcome.created, 2);
    assert_eq!((outcome.rejected[0].document, outcome.rejected.len()), (1, 1));
    sink.settle(true).unwrap();
    assert_eq!(pids(&store, ""), [2, 0]);
    assert_eq!(sink.positions().unwrap()["a"], 300);
}

#[test]
fn a_full_disk_loses_nothing() {
    if !require_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(place.path(), c"size=3m");
    let folder = disk.path().join("store");
    let (mut sink, store) = Store::open_for_writing(&folder, eager()).unwrap();
    let (mut file, mut next) = resumed(&sink);
    let error = loop {
        let sent = sink.send(&file.batch(&rows(next..next + 500))).and_then(|_| sink.settle(true));
        match sent {
            Ok(_) => next += 500,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, SinkError::Rewind(_)), "{error}");
    assert!(error.to_string().contains(&folder.display().to_string()), "{error}");

    // What is there stays searchable, and trying again fails again without harm.
    let (mut file, durable) = resumed(&sink);
    assert!(durable > 0 && durable <= next, "{durable} of {next}");
    assert_eq!(pids(&store, "").len() as u64, durable);
    let retried = sink.send(&file.batch(&rows(durable..durable + 500))).and_then(|_| sink.settle(true));
    assert!(retried.is_err());

    disk.grow(c"size=64m");
    let (mut file, durable) = resumed(&sink);
    sink.send(&file.batch(&rows(durable..durable + 2000))).unwrap();
    sink.settle(true).unwrap();
    let found = pids(&store, "");
    assert_eq!(found.len() as u64, durable + 2000);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), (0..durable + 2000).collect());
    let hit = store.search(&request("exec", "process.pid:7")).unwrap();
    assert_eq!(field(hit.hits[0].get(), "process.pid"), 7);
}
