//! The rows that a collector emits, to be looked at: for a command that shows them, and for tests of collectors, which need
//! no root for that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kumon_schema::{Common, builtin};
use kumon_spool::RowBatch;

use crate::coarse::Coarse;
use crate::subject::Resolver;
use crate::{Cgroups, Clock, Emitter, PollContext, RowSink};

/// A row by column, as its file would have it; empty columns are left out.
pub type CapturedRow = BTreeMap<String, String>;

/// Polls and keeps the rows.
pub struct Capture {
    batch: RowBatch,
    resolver: Resolver,
}

impl Capture {
    /// # Panics
    /// When this boot's id can't be read.
    pub fn new() -> Capture {
        Capture::of(RowBatch::new(Arc::new(Common::default())))
    }

    /// The same with rows of that batch's format and common columns.
    ///
    /// # Panics
    /// When this boot's id can't be read.
    pub fn of(batch: RowBatch) -> Capture {
        let resolver = Resolver::new(Cgroups::of_this_node()).expect("/proc is mounted");
        Capture { batch, resolver }
    }

    /// Lets `poll` emit rows, as at the last poll where `last`.
    pub fn poll<T>(&mut self, last: bool, poll: impl FnOnce(&mut PollContext<'_>) -> T) -> T {
        let Capture { batch, resolver } = self;
        let emitter = Emitter { batch, coarse: &mut Coarse::default(), sink: &mut Kept, resolver };
        poll(&mut PollContext {
            clock: &Clock::new(),
            now: Instant::now(),
            last,
            own_processes: &[],
            emitter,
        })
    }

    /// The records of a metric so far, as its file would have them.
    pub fn records(&self, metric: &str) -> &[u8] {
        self.batch.records(metric)
    }

    /// The rows of a metric so far.
    ///
    /// # Panics
    /// When there is no such metric.
    pub fn rows(&self, metric: &str) -> Vec<CapturedRow> {
        rows(metric, &self.batch)
    }
}

/// The rows of a metric in a batch.
///
/// # Panics
/// When there is no such metric.
pub fn rows(metric: &str, batch: &RowBatch) -> Vec<CapturedRow> {
    let schema = builtin(metric).expect("the metric has a schema");
    let (mut reader, mut rest) = (csv_core::Reader::new(), batch.records(metric));
    let (mut out, mut ends) = (vec![0; rest.len() + 1], vec![0; schema.fields.len() + 1]);
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (_, read, _, columns) = reader.read_record(rest, &mut out, &mut ends);
        rest = &rest[read..];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let texts = starts.zip(&ends).take(columns).map(|(start, &end)| &out[start..end]);
        let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
        let names = schema.fields.iter().map(|field| field.name.clone());
        rows.push(names.zip(texts).filter(|(_, text)| !text.is_empty()).collect());
    }
    rows
}

impl Default for Capture {
    fn default() -> Capture {
        Capture::new()
    }
}

/// Leaves the rows where they are.
struct Kept;

impl RowSink for Kept {
    fn take(&mut self, _batch: &mut RowBatch) {}
}
