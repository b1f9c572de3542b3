//! Rows on their way to the spool.

use std::collections::BTreeMap;
use std::sync::Arc;

use kumon_schema::{Common, Format, Record, Row, SubjectFields, builtin, write_record};

/// Rows as the spool's files have them, by metric. Whoever makes rows fills one of his own, and hands it over to the one
/// who owns the spool.
#[derive(Debug)]
pub struct RowBatch {
    common: Arc<Common>,
    formats: Arc<Formats>,
    metrics: BTreeMap<&'static str, Records>,
    bytes: usize,
}

/// How the metrics' rows stand in files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formats {
    /// That of the metrics that are not among `of_metrics`.
    pub default: Format,
    pub of_metrics: BTreeMap<String, Format>,
}

impl Formats {
    fn of(&self, metric: &str) -> Format {
        let of_metric = self.of_metrics.get(metric);
        // What sums up another metric's rows has their format, unless it has one of its own.
        let of_fine = || self.of_metrics.get(builtin(metric)?.coarse_of.as_deref()?);
        of_metric.or_else(of_fine).copied().unwrap_or(self.default)
    }
}

/// The records of a metric, one after the other.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) format: Format,
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u64,
}

/// What a metric's records keep of their memory for the next ones.
const KEPT_BYTES: usize = 1 << 16;

impl RowBatch {
    /// An empty one; `common` goes into each row.
    pub fn new(common: Arc<Common>) -> RowBatch {
        RowBatch { common, formats: Arc::default(), metrics: BTreeMap::new(), bytes: 0 }
    }

    /// An empty one whose rows are for files of these formats.
    #[must_use]
    pub fn with_formats(self, formats: Formats) -> RowBatch {
        RowBatch { formats: formats.into(), ..self.empty() }
    }

    /// Another one that is empty.
    pub fn empty(&self) -> RowBatch {
        let (common, formats) = (Arc::clone(&self.common), Arc::clone(&self.formats));
        RowBatch { common, formats, metrics: BTreeMap::new(), bytes: 0 }
    }

    /// Appends a row to those of its metric.
    pub fn append<R: Row>(&mut self, row: &R, subject: &SubjectFields<'_>) {
        self.append_record(R::METRIC, row.timestamp(), |record| row.write_fields(subject, record));
    }

    /// Appends a row of that time, whose columns after the common ones `fill` writes.
    pub fn append_record(
        &mut self,
        metric: &'static str,
        timestamp: i64,
        fill: impl FnOnce(&mut Record<'_>),
    ) {
        let records = self.metrics.entry(metric).or_insert_with(|| Records {
            format: self.formats.of(metric),
            bytes: Vec::new(),
            count: 0,
        });
        let before = records.bytes.len();
        write_record(&mut records.bytes, records.format, &self.common, timestamp, fill);
        records.count += 1;
        self.bytes += records.bytes.len() - before;
    }

    /// Bytes of all records in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many rows of each metric are in it.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.metrics.iter().map(|(metric, records)| (*metric, records.count))
    }

    /// A metric's records as they are written: lines of CSV without their header, or of NDJSON.
    pub fn records(&self, metric: &str) -> &[u8] {
        self.metrics.get(metric).map_or(&[], |records| &records.bytes)
    }

    /// Takes all rows out into a batch of their own.
    pub fn split(&mut self) -> RowBatch {
        let empty = self.empty();
        std::mem::replace(self, empty)
    }

    /// Hands out each metric's records, and is empty then.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(&'static str, &Records)) {
        self.bytes = 0;
        for (metric, records) in self.metrics.iter_mut().filter(|(_, records)| records.count > 0) {
            take(metric, records);
            records.count = 0;
            records.bytes.clear();
            records.bytes.shrink_to(KEPT_BYTES);
        }
    }
}
