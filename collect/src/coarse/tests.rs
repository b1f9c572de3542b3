use std::collections::BTreeMap;
use std::sync::Arc;

use kumon_schema::{Common, Format, MetricType, Row, SubjectFields, Time, all, builtin, coarse, rows};
use kumon_spool::{Formats, RowBatch};

use super::plan::{self, Role};
use super::{Coarse, LENGTH};
use crate::OTHER;
use crate::capture::{self, CapturedRow};

const SECOND: i64 = 1_000_000_000;
/// 2026-11-21T10:00:00Z.
const TEN: i64 = 1_795_255_200 * SECOND;

/// Rows with what they come to.
struct Emitted {
    batch: RowBatch,
    coarse: Coarse,
}

impl Emitted {
    fn new() -> Emitted {
        Emitted { batch: RowBatch::new(Arc::new(Common::default())), coarse: Coarse::default() }
    }

    fn emit<R: Row>(&mut self, row: &R, subject: &SubjectFields<'_>) {
        self.batch.append(row, subject);
        self.coarse.add(row, subject, &mut self.batch);
    }

    fn finish(&mut self) {
        self.coarse.finish(&mut self.batch);
    }

    fn rows(&self, metric: &str) -> Vec<CapturedRow> {
        capture::rows(metric, &self.batch)
    }
}

/// Numbers without an order, the same at each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn process(pid: u64) -> String {
    format!("boot-{pid}-7")
}

fn subject<'a>(pid: u64, id: &'a str) -> SubjectFields<'a> {
    SubjectFields { entity_id: id.as_bytes(), pid: Some(pid), name: b"a,\"b\"\n", ..SubjectFields::default() }
}

fn others() -> SubjectFields<'static> {
    SubjectFields { name: OTHER, ..SubjectFields::default() }
}

/// What collectors emit at that time: for many processes, that come and go, and for two disks.
fn interval(emitted: &mut Emitted, timestamp: i64, numbers: &mut Numbers) {
    let interval = 10 * SECOND as u64;
    for _ in 0..numbers.below(8) {
        let pid = numbers.below(50);
        let row = rows::Cputime {
            timestamp,
            interval,
            on_cpu: numbers.below(1 << 40),
            off_cpu: numbers.below(1 << 40),
            voluntary_switches: numbers.below(1000),
            ..rows::Cputime::default()
        };
        emitted.emit(&row, &subject(pid, &process(pid)));
    }
    let row =
        rows::Cputime { timestamp, interval, on_cpu: numbers.below(1 << 30), ..rows::Cputime::default() };
    emitted.emit(&row, &others());
    for (disk, operation) in [(&b"sda"[..], &b"read"[..]), (b"sda", b"write"), (b"other", b"other")] {
        let (low, count) = (1000 << numbers.below(4), 1 + numbers.below(9));
        let biolatency = rows::Biolatency {
            timestamp,
            interval,
            disk,
            operation,
            count,
            sum: count * low,
            min: low,
            max: low + 1,
            p99: low,
            ..rows::Biolatency::default()
        };
        emitted.emit(&biolatency, &SubjectFields::default());
        let label = format!("{low}");
        let row = rows::BiolatencyHist {
            timestamp,
            interval,
            disk,
            operation,
            low,
            high: low * 2,
            label: label.as_bytes(),
            count,
        };
        emitted.emit(&row, &SubjectFields::default());
    }
    let row = rows::Memory {
        timestamp,
        interval,
        oom_kills: Some(numbers.below(3)),
        free: Some(numbers.below(1 << 34)),
        ..rows::Memory::default()
    };
    emitted.emit(&row, &SubjectFields::default());
}

/// The sum of each counter of a metric, by the 10 minutes.
fn sums(metric: &str, of: &str, rows: &[CapturedRow]) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    let counters = builtin(metric).unwrap().fields.iter();
    let counters: Vec<_> =
        counters.filter(|field| field.meaning.metric_type == Some(MetricType::Counter)).collect();
    assert!(!counters.is_empty() && !rows.is_empty(), "{of} has rows");
    for row in rows {
        // 2026-11-21T10:0
        let window = row["timestamp"][..15].to_owned();
        for counter in &counters {
            let number = row.get(&counter.name).map_or(0, |text| text.parse::<u64>().unwrap());
            *sums.entry((window.clone(), counter.name.clone())).or_default() += number;
        }
    }
    sums
}

fn assert_same_sums(emitted: &Emitted, metric: &str) {
    let coarse = &coarse(metric).unwrap().name;
    assert_eq!(
        sums(metric, metric, &emitted.rows(metric)),
        sums(metric, coarse, &emitted.rows(coarse)),
        "{metric}"
    );
}

#[test]
fn each_10_minutes_have_the_same_sums_across_restarts_and_steps_of_the_clock() {
    for seed in 1..20 {
        let (mut emitted, mut numbers, mut time) = (Emitted::new(), Numbers(seed), TEN);
        for _ in 0..400 {
            time += match numbers.below(60) {
                0 => -(numbers.below(3000) as i64) * SECOND,
                1 => numbers.below(3000) as i64 * SECOND,
                _ => 10 * SECOND + numbers.below(1000) as i64,
            };
            interval(&mut emitted, time, &mut numbers);
            if numbers.below(50) == 0 {
                emitted.finish();
                emitted.coarse = Coarse::default();
            }
            emitted.coarse.finish_past(time + numbers.below(11) as i64 * SECOND, &mut emitted.batch);
        }
        emitted.finish();
        for metric in ["cputime", "biolatency", "biolatency_hist", "memory"] {
            assert_same_sums(&emitted, metric);
        }
    }
}

#[test]
fn ten_minutes_make_a_row_of_each_key_and_as_many_as_an_interval_had() {
    let (mut emitted, mut numbers) = (Emitted::new(), Numbers(1));
    for at in 0..60 {
        interval(&mut emitted, TEN + at * 10 * SECOND, &mut numbers);
    }
    emitted.coarse.finish_past(TEN + LENGTH - 1, &mut emitted.batch);
    assert_eq!(emitted.rows("memory_10m"), []);
    emitted.coarse.finish_past(TEN + LENGTH, &mut emitted.batch);
    emitted.finish();
    assert_eq!(emitted.rows("memory_10m").len(), 1);
    let latencies = emitted.rows("biolatency_10m");
    assert_eq!(latencies.len(), 3);
    assert_eq!(
        emitted.rows("cputime_10m").len(),
        7 + 1,
        "as many as the largest interval had, and the others"
    );
    assert_same_sums(&emitted, "cputime");

    let memory = &emitted.rows("memory_10m")[0];
    assert_eq!(memory["timestamp"], "2026-11-21T10:09:50.000000Z");
    assert_eq!(memory["interval"], (600 * SECOND).to_string());
    let free: Vec<f64> =
        emitted.rows("memory").iter().map(|row| row["free"].parse::<f64>().unwrap()).collect();
    let mean = free.iter().sum::<f64>() / 60.0;
    assert_eq!(memory["free"], format!("{:.0}", mean.round()));
}

#[test]
fn extremes_are_kept_and_percentiles_are_of_the_histogram() {
    let mut emitted = Emitted::new();
    for (at, (low, count)) in [(1000, 90), (8000, 10)].into_iter().enumerate() {
        let timestamp = TEN + at as i64 * SECOND;
        let (disk, operation) = (&b"sda"[..], &b"read"[..]);
        let (min, max, p50) = (low + 100, low * 2 - 100, low + 500);
        let row = rows::Biolatency {
            timestamp,
            disk,
            operation,
            count,
            min,
            max,
            p50,
            p90: p50,
            p99: p50,
            ..rows::Biolatency::default()
        };
        emitted.emit(&row, &SubjectFields::default());
        let high = low * 2;
        let row =
            rows::BiolatencyHist { timestamp, interval: 0, disk, operation, low, high, label: b"a", count };
        emitted.emit(&row, &SubjectFields::default());
    }
    emitted.finish();
    let row = &emitted.rows("biolatency_10m")[0];
    let numbers = ["count", "min", "max", "p50", "p90", "p99"].map(|column| row[column].as_str());
    // Of 100 values the 50th is the 50th of 90 from 1000 to 2000, the 99th the 9th of 10 from 8000 to 16000.
    assert_eq!(numbers, ["100", "1100", "15900", "1555", "2000", "15200"]);
    let counts: Vec<String> =
        emitted.rows("biolatency_hist_10m").iter().map(|row| row["count"].clone()).collect();
    assert_eq!(counts, ["90", "10"]);

    let mut throttled_only = Emitted::new();
    let row = rows::Runqlat { timestamp: TEN, key: b"all", throttled_count: 3, ..rows::Runqlat::default() };
    throttled_only.emit(&row, &SubjectFields::default());
    throttled_only.finish();
    let row = &throttled_only.rows("runqlat_10m")[0];
    assert_eq!((row["throttled_count"].as_str(), row.get("p99")), ("3", None));
}

#[test]
fn what_tells_no_rows_apart_is_that_of_the_last_one_in_either_format() {
    for format in [Format::Csv, Format::Ndjson] {
        let formats = Formats { of_metrics: [("process".to_owned(), format)].into(), ..Formats::default() };
        let batch = RowBatch::new(Arc::new(Common::default())).with_formats(formats);
        let mut emitted = Emitted { batch, coarse: Coarse::default() };
        for (at, state) in [(0, &b"running"[..]), (1, b"sleeping")] {
            let row = rows::Process {
                timestamp: TEN + at * SECOND,
                interval: 5,
                state,
                start: Some(Time(TEN - SECOND + at)),
                user: Some(3),
                cpu_pct: Some(0.1 + at as f64 / 10.0),
                ..rows::Process::default()
            };
            let id = process(7);
            emitted.emit(&row, &SubjectFields { uid: Some(1000), ..subject(7, &id) });
        }
        emitted.finish();
        if format == Format::Csv {
            let row = &emitted.rows("process_10m")[0];
            let texts =
                ["name", "uid", "state", "user", "cpu_pct", "interval"].map(|column| row[column].as_str());
            assert_eq!(texts, ["a,\"b\"\n", "1000", "sleeping", "6", "0.15", "10"]);
        } else {
            let row: serde_json::Value =
                serde_json::from_slice(emitted.batch.records("process_10m")).unwrap();
            let expected = serde_json::json!({
                "process.name": "a,\"b\"\n", "process.pid": 7, "user.id": "1000",
                "system.process.state": "sleeping", "kumon.process.cpu.user": 6,
                "system.process.cpu.total.pct": 0.15,
                "system.process.cpu.start_time": "2026-11-21T09:59:59.000000Z",
            });
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(&row[field], value, "{row}");
            }
            assert_eq!(row.get("event.module"), None, "Kibana's own views count no row twice");
        }
    }
}

#[test]
fn buckets_alone_are_summed_up_too() {
    let mut emitted = Emitted::new();
    for (at, key) in [(0, b"all"), (1, b"one"), (1, b"two")] {
        let row =
            rows::RunqlatHist { timestamp: TEN + at, key, low: 1, count: 7, ..rows::RunqlatHist::default() };
        emitted.emit(&row, &SubjectFields::default());
    }
    emitted.finish();
    assert_same_sums(&emitted, "runqlat_hist");
    assert_eq!(emitted.rows("runqlat_10m"), []);
}

#[test]
fn a_storm_of_keys_is_written_early_and_nothing_is_lost() {
    let mut emitted = Emitted::new();
    for pid in 0..10_000 {
        let id = process(pid);
        let row = rows::Cputime { timestamp: TEN, on_cpu: pid, ..rows::Cputime::default() };
        emitted.emit(&row, &subject(pid, &id));
    }
    let early = emitted.rows("cputime_10m").len();
    assert!(early > 0);
    emitted.finish();
    assert_same_sums(&emitted, "cputime");
}

#[test]
fn a_gauge_of_the_others_is_the_sum_of_those_that_have_no_row() {
    let mut emitted = Emitted::new();
    for at in 0..2 {
        let timestamp = TEN + at * SECOND;
        // Another process in each interval, the larger one first.
        let pid = 7 + at as u64;
        let id = process(pid);
        let row = rows::Process {
            timestamp,
            interval: 10,
            resident: Some(100 - at as u64 * 60),
            shared: Some(1),
            ..rows::Process::default()
        };
        emitted.emit(&row, &subject(pid, &id));
        let row = rows::Process { timestamp, interval: 10, resident: Some(1000), ..rows::Process::default() };
        emitted.emit(&row, &others());
    }
    emitted.finish();
    let rows = emitted.rows("process_10m");
    let other = rows.iter().find(|row| row["name"] == "other").unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    // In the two intervals 1000 and 1040.
    assert_eq!((other["resident"].as_str(), other.get("shared")), ("1020", None));
    assert_eq!(other["interval"], "20");
}

#[test]
fn every_summary_with_an_interval_has_rows_by_10_minutes() {
    for schema in all().iter().filter(|schema| schema.coarse_of.is_none()) {
        let has_interval = schema.fields.iter().any(|field| field.ecs == "kumon.interval");
        // Its schema says that it has none.
        let has_rows = has_interval && schema.name != "flow";
        assert_eq!(plan::place(&schema.name).is_some(), has_rows, "{}", schema.name);
    }
}

#[test]
fn a_histogram_has_the_keys_of_its_metric_so_that_both_keep_the_same() {
    let keys = |metric: &str, is_key: &dyn Fn(Role) -> bool| -> Vec<&str> {
        let fields = builtin(metric).unwrap().own_fields();
        let columns = &plan::place(metric).unwrap().table().columns;
        let keys = fields.iter().zip(columns).filter(|(_, column)| is_key(column.role));
        keys.map(|(field, _)| field.ecs.as_str()).collect()
    };
    for schema in all().iter().filter(|schema| schema.coarse_of.is_none()) {
        let Some(whole) = &schema.histogram_of else { continue };
        let is_key = |role| role == Role::Key;
        assert_eq!(keys(&schema.name, &is_key), keys(whole, &is_key));
        assert_eq!(keys(&schema.name, &|role| role == Role::Bucket).len(), 3, "{}", schema.name);
    }
}
