//! A node of files that tests write.

use std::fs;
use std::os::unix::fs::symlink;

use kumon_collect::capture::{Capture, CapturedRow};
use kumon_collect::{ActiveCollector, Collector};
use tempfile::TempDir;

use crate::{Root, Settings, collectors};

pub(crate) struct Node(TempDir);

/// A collector that reads a node's files.
pub(crate) struct Started {
    metric: &'static str,
    active: Box<dyn ActiveCollector>,
}

impl Node {
    pub(crate) fn new() -> Node {
        Node(tempfile::tempdir().unwrap())
    }

    /// Writes the file anew, in place: who has it open reads that.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a link to whatever `target` is.
    pub(crate) fn link(&self, file: &str, target: &str) {
        let path = self.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn collector(&self, metric: &str, settings: Settings) -> Box<dyn Collector> {
        let settings = Settings { root: Root::at(self.0.path()), ..settings };
        collectors(&settings).into_iter().find(|collector| collector.metrics() == [metric]).unwrap()
    }

    pub(crate) fn start(&self, metric: &'static str, settings: Settings) -> Started {
        let collector = self.collector(metric, settings);
        assert!(collector.probe().iter().all(|hook| hook.strategy == Ok("read")));
        Started { metric, active: collector.start().unwrap() }
    }

    /// Why it doesn't start: the same as is said beforehand.
    pub(crate) fn refusal(&self, metric: &str, settings: Settings) -> String {
        let collector = self.collector(metric, settings);
        let message = collector.start().err().unwrap().to_string();
        let hooks = collector.probe();
        let reason = hooks[0].strategy.as_ref().unwrap_err();
        assert!(message.contains(reason), "{message}: {reason}");
        message
    }
}

impl Started {
    /// The rows of the interval that ends now.
    pub(crate) fn rows(&mut self) -> Vec<CapturedRow> {
        let mut capture = Capture::new();
        capture.poll(true, |context| self.active.poll(context)).unwrap();
        capture.rows(self.metric)
    }

    /// The same of a metric with one row.
    pub(crate) fn row(&mut self) -> CapturedRow {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    /// The rows have these columns and the interval's, and no others.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[&[(&str, &str)]]) {
        let mut rows = self.rows();
        for row in &mut rows {
            assert!(row.remove("interval").is_some() && row.remove("timestamp").is_some());
        }
        let expected =
            expected.iter().map(|row| row.iter().map(|(key, text)| ((*key).into(), (*text).into())));
        assert_eq!(rows, expected.map(Iterator::collect).collect::<Vec<CapturedRow>>());
    }

    /// What the interval that ends now fails at.
    pub(crate) fn failure(&mut self) -> String {
        let mut capture = Capture::new();
        let message = capture.poll(true, |context| self.active.poll(context)).unwrap_err().to_string();
        assert!(capture.rows(self.metric).is_empty());
        message
    }
}
