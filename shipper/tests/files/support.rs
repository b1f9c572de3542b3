//! A shipper in a thread, and files for it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kumon_schema::rows::Exec;
use kumon_schema::{Common, SubjectFields};
use kumon_shipper::{
    Dialect, Encoding, Ended, Format, Handle, Input, Options, Shipper, ShipperError, Sink, Stats, Times,
};
use kumon_spool::RowBatch;
use kumon_testing::wait_for;
use serde_json::Value;

use crate::stand_in::StandIn;

pub(crate) const LIMIT: Duration = Duration::from_secs(8);
/// How long a file whose name is gone is waited for: longer than a busy machine takes to compress one.
const LINGER: Duration = Duration::from_secs(2);

/// A folder with `state`, `spool` and `in`, of which all `*.ndjson` and `*.csv` are inputs.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: Options,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let options = options(folder.path());
        Place { folder, options }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }

    /// Starts a shipper. A child that another test starts holds for a moment, between its fork and its exec, all that
    /// this process had open, the lock of the shipper before among it.
    pub(crate) fn ship(&self, sink: &StandIn) -> Ship {
        let mut started = self.try_ship(sink);
        let start = Instant::now();
        while matches!(started, Err(ShipperError::InUse(_))) && start.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(10));
            started = self.try_ship(sink);
        }
        started.unwrap()
    }

    pub(crate) fn try_ship(&self, sink: &StandIn) -> Result<Ship, ShipperError> {
        Ship::start(self.options.clone(), sink.reopened())
    }

    /// All dead letters, in order.
    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        let Ok(files) = fs::read_dir(self.options.state.join("dead-letters")) else { return Vec::new() };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the checkpoint holds of the foreign files that are read.
    pub(crate) fn checkpoint(&self) -> Vec<Value> {
        self.remembered(false)
    }

    /// What it holds of those that are out of sight.
    pub(crate) fn missing(&self) -> Vec<Value> {
        self.remembered(true)
    }

    fn remembered(&self, missing: bool) -> Vec<Value> {
        let text = fs::read(self.options.state.join("checkpoint.json")).unwrap_or_default();
        let checkpoint: Value = serde_json::from_slice(&text).unwrap_or_default();
        let files = checkpoint["files"].as_array().cloned().unwrap_or_default();
        files.into_iter().filter(|file| file["missing"].is_object() == missing).collect()
    }
}

pub(crate) fn options(folder: &Path) -> Options {
    let input = |pattern: &str, format, dataset: &str| Input {
        paths: vec![folder.join("in").join(pattern).to_str().unwrap().to_owned()],
        format,
        schema: None,
        dataset: dataset.into(),
        timestamp_field: None,
        times: Times::default(),
        encoding: Encoding::default(),
        dialect: Dialect::default(),
        max_record: None,
    };
    Options {
        spool: folder.join("spool"),
        state: folder.join("state"),
        inputs: vec![input("*.ndjson", Format::Ndjson, "json"), input("*.csv", Format::Csv, "csv")],
        namespace: "default".into(),
        common: Common { host_name: "node-1".into(), ..Common::default() },
        batch_bytes: 1 << 20,
        dead_letter_bytes: 64 << 20,
        retry_initial: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
    }
}

/// A running shipper; ends with the test.
pub(crate) struct Ship {
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<Ended>>,
}

impl Ship {
    fn start(options: Options, sink: impl Sink + 'static) -> Result<Ship, ShipperError> {
        Shipper::new(options, Box::new(sink)).map(Ship::run)
    }

    /// Starts one that is ready.
    pub(crate) fn run((shipper, handle): (Shipper, Handle)) -> Ship {
        let shipper = shipper.with_linger(LINGER);
        Ship { handle, thread: Some(std::thread::spawn(move || shipper.run())) }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.handle.stats()
    }

    pub(crate) fn sync(&self) {
        assert!(self.handle.sync(LIMIT), "{:?}", self.stats());
    }

    /// A clean stop.
    pub(crate) fn stop(mut self) -> Ended {
        self.handle.stop(LIMIT);
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn stop_within(mut self, limit: Duration) -> Ended {
        self.handle.stop(limit);
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Stats) -> bool) {
        wait_for(what, LIMIT, || condition(&self.stats()));
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        self.handle.stop(Duration::ZERO);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the shipper panicked");
        }
    }
}

/// Waits until the sink has exactly these rows, each once.
pub(crate) fn expect(sink: &StandIn, numbers: Range<u64>) {
    let start = Instant::now();
    while (sink.len() as u64) < numbers.end - numbers.start && start.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    exactly(sink, numbers);
}

/// Names what is lost and what is doubled, rather than all that is there.
pub(crate) fn exactly(sink: &StandIn, numbers: Range<u64>) {
    let mut once = HashSet::new();
    let doubled: Vec<u64> = sink.numbers().into_iter().filter(|n| !once.insert(*n)).collect();
    let lost: Vec<u64> = numbers.clone().filter(|n| !once.contains(n)).collect();
    assert!(lost.is_empty() && doubled.is_empty(), "lost {lost:?}, doubled {doubled:?}");
    assert_eq!(once.len() as u64, numbers.end - numbers.start, "rows that were never written");
}

/// Lines `{"n":…}`.
pub(crate) fn lines(numbers: Range<u64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// Rows of one column `n`, without the header.
pub(crate) fn rows(numbers: Range<u64>) -> String {
    numbers.map(|n| format!("{n},\"a, b\"\n")).collect()
}

pub(crate) const HEADER: &str = "n,text\n";

pub(crate) fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

pub(crate) fn append(path: &Path, text: &str) {
    open(path).write_all(text.as_bytes()).unwrap();
}

/// A row of exec, as a collector hands it to the spool.
pub(crate) fn exec(pid: u64, name: &[u8]) -> RowBatch {
    let mut batch = RowBatch::new(Arc::new(Common::default()));
    batch.append(&Exec::default(), &SubjectFields { pid: Some(pid), name, ..SubjectFields::default() });
    batch
}
