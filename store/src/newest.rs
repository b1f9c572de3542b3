//! The newest matches of one index, and how many there are.

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::{DateTime, DocAddress, DocId, Score, SegmentOrdinal, SegmentReader};

use crate::layout::TIMESTAMP;

/// Collects the addresses of the newest `limit` matches by `@timestamp`.
pub(crate) struct Newest {
    pub(crate) limit: usize,
    /// Only matches that come behind this one, which was the last of those before.
    pub(crate) behind: Option<(i64, DocAddress)>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) total: u64,
    /// Time in ns since the Unix epoch, and where the row is. Newest first; rows of one instant in the reverse order
    /// in which they came in, as far as merges left it.
    pub(crate) rows: Vec<(i64, DocAddress)>,
}

pub(crate) struct SegmentNewest {
    segment: SegmentOrdinal,
    times: Column<DateTime>,
    limit: usize,
    behind: Option<(i64, DocAddress)>,
    found: Found,
}

impl Collector for Newest {
    type Fruit = Found;
    type Child = SegmentNewest;

    fn for_segment(&self, segment: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<SegmentNewest> {
        let times = reader.fast_fields().date(TIMESTAMP)?;
        let (limit, behind) = (self.limit, self.behind);
        Ok(SegmentNewest { segment, times, limit, behind, found: Found::default() })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<Found>) -> tantivy::Result<Found> {
        let mut merged = Found::default();
        for segment in segments {
            merged.total += segment.total;
            merged.rows.extend(segment.rows);
        }
        merged.rows.sort_unstable_by(|a, b| b.cmp(a));
        merged.rows.truncate(self.limit);
        Ok(merged)
    }
}

impl SegmentCollector for SegmentNewest {
    type Fruit = Found;

    fn collect(&mut self, doc: DocId, _: Score) {
        self.found.total += 1;
        if self.limit == 0 {
            return;
        }
        let time = self.times.first(doc).map_or(i64::MIN, DateTime::into_timestamp_nanos);
        let row = (time, DocAddress::new(self.segment, doc));
        if self.behind.is_some_and(|behind| row >= behind) {
            return;
        }
        self.found.rows.push(row);
        // Twice the limit at most: the older half goes each time.
        if self.found.rows.len() >= self.limit.saturating_mul(2) {
            self.keep_newest();
        }
    }

    fn harvest(mut self) -> Found {
        self.keep_newest();
        self.found
    }
}

impl SegmentNewest {
    fn keep_newest(&mut self) {
        let rows = &mut self.found.rows;
        if rows.len() > self.limit {
            rows.select_nth_unstable_by(self.limit, |a, b| b.cmp(a));
            rows.truncate(self.limit);
        }
    }
}
