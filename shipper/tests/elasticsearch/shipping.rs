//! A shipper at work, from files to Elasticsearch.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use kumon_schema::Common;
use kumon_shipper::elasticsearch::ElasticsearchSink;
use kumon_shipper::{Dialect, Encoding, Ended, Format, Handle, Input, Options, Shipper, Stats, Times};
use kumon_testing::{keep_log, wait_for};
use tempfile::TempDir;

use crate::support::Access;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A file `<dataset>.ndjson` for each dataset, and the state of who ships them.
pub(crate) struct Files {
    folder: TempDir,
    datasets: Vec<String>,
}

impl Files {
    pub(crate) fn of(datasets: &[&str]) -> Rc<Files> {
        let datasets = datasets.iter().map(|dataset| (*dataset).to_owned()).collect();
        Rc::new(Files { folder: tempfile::tempdir().unwrap(), datasets })
    }

    fn path(&self, dataset: &str) -> PathBuf {
        self.folder.path().join(format!("{dataset}.ndjson"))
    }

    pub(crate) fn append(&self, dataset: &str, numbers: Range<u64>) {
        let mut text = String::new();
        numbers.for_each(|n| writeln!(text, "{{\"n\":{n}}}").unwrap());
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(dataset)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// What the shipper remembers of them.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.folder.path().join("state/checkpoint.json")
    }

    /// Starts a shipper.
    pub(crate) fn ship(self: &Rc<Files>, access: &Access) -> Shipping {
        let input = |dataset: &String| Input {
            paths: vec![self.path(dataset).display().to_string()],
            format: Format::Ndjson,
            schema: None,
            dataset: dataset.clone(),
            timestamp_field: None,
            times: Times::default(),
            encoding: Encoding::default(),
            dialect: Dialect::default(),
            max_record: None,
        };
        let options = Options {
            spool: self.folder.path().join("spool"),
            state: self.folder.path().join("state"),
            inputs: self.datasets.iter().map(input).collect(),
            namespace: "default".into(),
            common: Common::default(),
            batch_bytes: 5_000_000,
            dead_letter_bytes: 1 << 20,
            retry_initial: Duration::from_millis(50),
            retry_max: Duration::from_millis(500),
        };
        keep_log();
        let sink = ElasticsearchSink::new(access.options.clone()).unwrap();
        let (shipper, handle) = Shipper::new(options, Box::new(sink)).unwrap();
        let thread = Some(std::thread::spawn(move || shipper.run()));
        Shipping { files: self.clone(), handle, thread }
    }
}

/// A running shipper; ends with the test.
pub(crate) struct Shipping {
    files: Rc<Files>,
    handle: Handle,
    thread: Option<JoinHandle<Ended>>,
}

impl Shipping {
    pub(crate) fn start(datasets: &[&str], access: &Access) -> Shipping {
        Files::of(datasets).ship(access)
    }

    pub(crate) fn append(&self, dataset: &str, numbers: Range<u64>) {
        self.files.append(dataset, numbers);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Ends it, whatever is left to do.
    pub(crate) fn stop(mut self) {
        self.handle.stop(Duration::ZERO);
        self.thread.take().unwrap().join().unwrap();
    }

    pub(crate) fn wait_until_all_is_delivered(&self) {
        wait_for("all to be delivered", LIMIT, || {
            let stats = self.stats();
            stats.lag == 0 && stats.files > 0 && stats.halted.is_none() && stats.held.is_empty()
        });
    }

    pub(crate) fn wait_until_halted(&self, parts: &[&str]) {
        wait_for(&format!("a halt with {parts:?}"), LIMIT, || {
            let halted = self.stats().halted;
            halted.is_some_and(|halted| parts.iter().all(|part| halted.reason.contains(part)))
        });
    }

    /// Waits until the rows of this dataset have to wait, and of no other; answers why.
    pub(crate) fn wait_until_held(&self, dataset: &str) -> String {
        let stream = format!("logs-{dataset}-default");
        wait_for(&format!("{stream} to be held"), LIMIT, || self.stats().held.contains_key(&stream));
        let stats = self.stats();
        assert!(stats.held.len() == 1 && stats.halted.is_none(), "{stats:?}");
        stats.held[&stream].reason.clone()
    }
}

impl Drop for Shipping {
    fn drop(&mut self) {
        self.handle.stop(Duration::ZERO);
    }
}
