//! Midnight, retention, and days of another layout: what takes another clock, or another program's index.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use chrono::{Datelike, NaiveDate};
use kumon_query::{Search, SearchError, SearchRequest};
use kumon_shipper::Sink;
use serde_json::json;
use tantivy::schema::{FAST, STORED, STRING, Schema};
use tantivy::{DateTime, Index, IndexWriter, doc};

use crate::support::{File, ask, exec, pids, request};
use crate::{Store, StoreOptions, StoreSink};

/// A store whose day is set by hand.
struct Dated {
    day: Arc<AtomicI32>,
    sink: StoreSink,
    store: Store,
}

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, day).unwrap()
}

impl Dated {
    fn open(root: &Path, options: StoreOptions, day: u32) -> Dated {
        let clock = Arc::new(AtomicI32::new(date(day).num_days_from_ce()));
        let read = clock.clone();
        let today =
            move || NaiveDate::from_num_days_from_ce_opt(read.load(Ordering::Relaxed)).unwrap_or_default();
        let store = Store::new(root.to_owned());
        let sink = StoreSink::open(root.to_owned(), options, store.attention(), Box::new(today)).unwrap();
        Dated { day: clock, sink, store }
    }

    fn set_day(&self, day: u32) {
        self.day.store(date(day).num_days_from_ce(), Ordering::Relaxed);
    }

    /// Keeps one row, with the number as pid, on that day.
    fn row(&mut self, file: &mut File, day: u32, pid: u32) {
        self.set_day(day);
        let mut row = exec(0, "name", pid, "words");
        row["@timestamp"] = format!("2026-11-{day:02}T12:00:00Z").into();
        self.sink.send(&file.batch(&[row])).unwrap();
    }
}

fn folders(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap().flatten();
    let names = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn during(day: u32) -> SearchRequest {
    let at = |day: u32| date(day).and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_nanos_opt();
    SearchRequest { since: at(day), until: at(day + 1), ..request("exec", "") }
}

#[test]
fn midnight_starts_a_new_index_and_breaks_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 21);
    let mut file = File::exec("a");
    dated.row(&mut file, 21, 1);
    assert_eq!(dated.sink.positions().unwrap().len(), 0, "not committed yet");
    // The first batch of the new day commits the old one, and nothing of its own.
    dated.row(&mut file, 22, 2);
    assert_eq!(dated.sink.positions().unwrap()["a"], 100);
    assert_eq!(pids(&dated.store, ""), [1]);
    drop(dated);

    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 22);
    assert_eq!(dated.sink.positions().unwrap()["a"], 100);
    file.seek(100);
    dated.row(&mut file, 22, 2);
    dated.sink.settle(true).unwrap();
    assert_eq!(pids(&dated.store, ""), [2, 1]);
    assert_eq!(dated.sink.positions().unwrap()["a"], 200);
    assert_eq!(folders(folder.path()), ["2026-11-21", "2026-11-22"]);
}

#[test]
fn an_answer_of_several_pages_has_each_row_once_and_newest_first_over_all_days() {
    const ROWS: u32 = 21_000;
    let folder = tempfile::tempdir().unwrap();
    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 20);
    let mut file = File::exec("a");
    // Half of them come in on another day, and hundreds have one time.
    for (day, first) in [(20, 0), (21, 1)] {
        dated.set_day(day);
        for part in (first..ROWS).step_by(2).collect::<Vec<_>>().chunks(4_000) {
            let rows: Vec<_> = part.iter().map(|pid| exec(pid / 300, "name", *pid, "words")).collect();
            dated.sink.send(&file.batch(&rows)).unwrap();
            dated.sink.settle(true).unwrap();
        }
    }
    for limit in [None, Some(15_000), Some(10_000), Some(3)] {
        let (mut pids, mut times) = (Vec::new(), Vec::new());
        let question = SearchRequest { limit, ..request("exec", "") };
        let answer = dated.store.stream(&question, &mut |row| {
            let row: serde_json::Value = serde_json::from_str(row.get())?;
            pids.push(row["process.pid"].as_u64().unwrap() as u32);
            times.push(row["@timestamp"].as_str().unwrap().to_owned());
            Ok(())
        });
        assert_eq!(answer.unwrap().total, u64::from(ROWS));
        assert_eq!(pids.len(), limit.unwrap_or(ROWS as usize));
        assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), times.len(), "each once");
    }
}

#[test]
fn hits_and_aggregations_go_over_all_days() {
    let folder = tempfile::tempdir().unwrap();
    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 19);
    let mut file = File::exec("a");
    for (day, pid) in [(19, 1), (20, 2), (21, 3), (21, 4)] {
        dated.row(&mut file, day, pid);
    }
    dated.sink.settle(true).unwrap();
    let mut question = request("exec", "process.pid:>1");
    question.limit = Some(1);
    question.aggs = Some(json!({
        "days": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1d"}},
        "mean": {"avg": {"field": "process.pid"}},
    }));
    let answer = dated.store.search(&question).unwrap();
    assert_eq!((answer.total, answer.hits.len()), (3, 1));
    let aggregations = answer.aggregations.unwrap();
    assert_eq!(aggregations["mean"]["value"], 3.0);
    assert_eq!(aggregations["days"]["buckets"][0]["doc_count"], 1);
    assert_eq!(aggregations["days"]["buckets"][1]["doc_count"], 2);
    assert_eq!(dated.store.search(&during(20)).unwrap().total, 1);
}

#[test]
fn old_days_are_dropped_and_asking_for_them_says_expired() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { keep_days: 2, ..StoreOptions::default() };
    let mut dated = Dated::open(folder.path(), options, 17);
    let mut file = File::exec("a");
    for day in [17, 19, 20, 21] {
        dated.row(&mut file, day, day);
    }
    assert_eq!(dated.store.search(&during(15)).unwrap().total, 0, "nothing was dropped so far");
    dated.sink.settle(true).unwrap();
    assert_eq!(folders(folder.path()), ["2026-11-19", "2026-11-20", "2026-11-21"]);
    assert_eq!(pids(&dated.store, ""), [21, 20, 19]);
    let expired = SearchError::Expired { oldest: "2026-11-18".into() };
    assert_eq!(dated.store.search(&during(17)).unwrap_err(), expired);
    assert_eq!(dated.store.search(&during(18)).unwrap().total, 0);
    assert_eq!(dated.sink.positions().unwrap()["a"], 400);
}

#[test]
fn old_days_keep_their_rows_by_10_minutes_for_longer() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { keep_days: 2, keep_coarse_days: 4, ..StoreOptions::default() };
    let mut dated = Dated::open(folder.path(), options.clone(), 15);
    let mut file = File::exec("a");
    let mut coarse = File::new("b", "kumon.cpu_10m");
    let cpu_10m = |day: u32| SearchRequest { metric: "cpu_10m".into(), ..during(day) };
    for day in 15..=20 {
        for pid in 0..1000 {
            dated.row(&mut file, day, pid);
        }
        let row = json!({"@timestamp": format!("2026-11-{day:02}T13:00:00Z"), "kumon.cpu.user": day});
        dated.sink.send(&coarse.batch(&[row])).unwrap();
        dated.sink.settle(true).unwrap();
    }
    let found =
        |dated: &Dated, request: SearchRequest| dated.store.search(&request).map(|answer| answer.total);
    let expired = |oldest: &str| Err(SearchError::Expired { oldest: oldest.into() });
    for (day, whole, by_10_minutes) in [
        (15, expired("2026-11-18"), expired("2026-11-16")),
        (16, expired("2026-11-18"), Ok(1)),
        (17, expired("2026-11-18"), Ok(1)),
        (18, Ok(1000), Ok(1)),
        (20, Ok(1000), Ok(1)),
    ] {
        assert_eq!(
            (found(&dated, during(day)), found(&dated, cpu_10m(day))),
            (whole, by_10_minutes),
            "{day}"
        );
    }
    let size = |day: &str| crate::days::size(&folder.path().join(day));
    let (without, with) = (size("2026-11-17"), size("2026-11-18"));
    assert!(without < with, "what is taken out takes no room: {without} and {with} bytes");
    // Nothing is sent again after a restart, whatever days were touched last.
    let positions = dated.sink.positions().unwrap();
    drop(dated);
    assert_eq!(Dated::open(folder.path(), options, 20).sink.positions().unwrap(), positions);
}

#[test]
fn a_clock_that_jumps_ahead_drops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { keep_days: 2, ..StoreOptions::default() };
    let mut dated = Dated::open(folder.path(), options, 1);
    let mut file = File::exec("a");
    for day in [1, 2, 28] {
        dated.row(&mut file, day, day);
        dated.sink.settle(true).unwrap();
    }
    dated.row(&mut file, 3, 3);
    dated.sink.settle(true).unwrap();
    assert_eq!(folders(folder.path()), ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-28"]);
    assert_eq!(pids(&dated.store, ""), [28, 3, 2, 1]);
}

#[test]
fn too_many_bytes_drop_the_oldest_days_but_never_the_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { keep_bytes: 1, ..StoreOptions::default() };
    let mut dated = Dated::open(folder.path(), options.clone(), 20);
    let mut file = File::exec("a");
    dated.row(&mut file, 20, 20);
    dated.row(&mut file, 21, 21);
    dated.sink.settle(true).unwrap();
    assert_eq!(folders(folder.path()), ["2026-11-21"]);
    assert_eq!(pids(&dated.store, ""), [21]);
    // The positions live on in the day that is kept.
    drop(dated);
    let dated = Dated::open(folder.path(), options, 21);
    assert_eq!(dated.sink.positions().unwrap()["a"], 200);
}

#[test]
fn a_kill_while_a_day_is_made_or_dropped_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("2026-11-21")).unwrap();
    std::fs::create_dir(folder.path().join(".gone-2026-11-01")).unwrap();
    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 21);
    dated.row(&mut File::exec("a"), 21, 1);
    dated.sink.settle(true).unwrap();
    assert_eq!(folders(folder.path()), ["2026-11-21"]);
    assert_eq!(pids(&dated.store, ""), [1]);
}

#[test]
fn a_day_of_another_layout_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    older_program_writes(&folder.path().join("2026-11-21"));
    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 21);
    dated.row(&mut File::exec("a"), 21, 7);
    dated.sink.settle(true).unwrap();
    assert_eq!(folders(folder.path()), ["2026-11-21", "2026-11-21.2"]);
    assert_eq!(ask(&dated.store, "process.name:name").unwrap().total, 2);
    // The older program kept this field as text, and did not have that one.
    assert_eq!(pids(&dated.store, "process.pid:7"), [7]);
    assert_eq!(pids(&dated.store, "process.command_line.text:words"), [7]);
    assert_eq!(pids(&dated.store, "process.command_line:*"), [7]);
    let mut question = request("exec", "");
    question.aggs = Some(json!({"names": {"terms": {"field": "process.name"}}}));
    let aggregations = dated.store.search(&question).unwrap().aggregations.unwrap();
    assert_eq!(aggregations["names"]["buckets"][0]["doc_count"], 2);
    // The next program of today's layout goes on in the second index.
    drop(dated);
    let mut dated = Dated::open(folder.path(), StoreOptions::default(), 21);
    dated.row(&mut File::exec("b"), 21, 8);
    dated.sink.settle(true).unwrap();
    assert_eq!(folders(folder.path()), ["2026-11-21", "2026-11-21.2"]);
}

fn older_program_writes(path: &Path) {
    let mut builder = Schema::builder();
    let dataset = builder.add_text_field("_dataset", STRING | FAST);
    let source = builder.add_text_field("_source", STORED);
    let name = builder.add_text_field("process.name", STRING | FAST);
    let pid = builder.add_text_field("process.pid", STRING | FAST);
    let time = builder.add_date_field("@timestamp", FAST);
    std::fs::create_dir_all(path).unwrap();
    let index = Index::create_in_dir(path, builder.build()).unwrap();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
    let row = doc!(
        dataset => "kumon.exec", source => r#"{"process.pid":7}"#, name => "name", pid => "7",
        time => DateTime::from_timestamp_secs(1_795_262_400),
    );
    writer.add_document(row).unwrap();
    let mut commit = writer.prepare_commit().unwrap();
    let seconds = 1_795_262_400_i64 * 1_000_000_000;
    commit.set_payload(&json!({"number": 1, "positions": {}, "times": [seconds, seconds]}).to_string());
    commit.commit().unwrap();
}
