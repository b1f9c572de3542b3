//! Alerts and rows for the tests.
#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../../../store/tests/support/mod.rs"]
pub(crate) mod batches;
pub(crate) mod cases;
pub(crate) mod http;

use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use kumon_alerts::{Alert, Draft, evaluate};
use kumon_query::Search;
use kumon_shipper::Sink;
use kumon_store::{Store, StoreOptions, StoreSink};
use serde_json::{Value, json};

/// An alert of that text, named `name`.
pub(crate) fn alert(name: &str, text: &str) -> Alert {
    let draft = Draft::parse(Path::new(&format!("{name}.yml")), text).unwrap();
    draft.check(&[]).unwrap()
}

/// A row with these fields, `seconds` ago.
pub(crate) fn row(seconds: i64, fields: &Value) -> Value {
    let mut row = json!({"@timestamp": ago(seconds)});
    row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    row
}

/// RFC 3339, in microseconds.
pub(crate) fn ago(seconds: i64) -> String {
    let at: DateTime<Utc> = Utc::now() - chrono::TimeDelta::seconds(seconds);
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The embedded store of one test, which takes rows.
pub(crate) struct Rows {
    pub(crate) store: Store,
    sink: StoreSink,
    files: u32,
    _folder: tempfile::TempDir,
}

impl Rows {
    pub(crate) fn new() -> Rows {
        let folder = tempfile::tempdir().unwrap();
        let (sink, store) = Store::open_for_writing(folder.path(), StoreOptions::default()).unwrap();
        Rows { store, sink, files: 0, _folder: folder }
    }

    /// Rows of a metric, searchable afterwards.
    pub(crate) fn add(&mut self, metric: &str, rows: &[Value]) {
        if rows.is_empty() {
            return;
        }
        self.files += 1;
        let mut file = batches::File::new(&self.files.to_string(), &format!("kumon.{metric}"));
        let outcome = self.sink.send(&file.batch(rows)).unwrap();
        assert_eq!(outcome.created as usize, rows.len(), "{outcome:?}");
        self.sink.settle(true).unwrap();
    }
}

/// The groups for which an alert fires by KuMon's own evaluation.
pub(crate) fn firing(alert: &Alert, search: &dyn Search) -> Vec<String> {
    let now = Utc::now().timestamp_nanos_opt().unwrap();
    let evaluation = evaluate(alert, search, now, None).unwrap();
    evaluation.firing(alert).map(kumon_alerts::Group::key).collect()
}
