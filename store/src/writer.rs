//! Writing into one day's index.

use std::path::Path;

use chrono::NaiveDate;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, UserOperation};
use tantivy::{IndexWriter, TantivyError};

use crate::commit_payload::{CommitPayload, Positions};
use crate::days::{self, Day};
use crate::document::Prepared;
use crate::error::StoreError;
use crate::layout::Layout;

/// The least that tantivy accepts. One thread is enough for far more rows than an agent ever sees.
pub(crate) const MEMORY: usize = 15_000_000;

/// Segments of fewer rows count as equally small when merges are chosen. An idle agent commits some dozen rows at a
/// time; tantivy's own 10,000 would rewrite thousands of rows with every eighth commit.
const SMALL_SEGMENT: u32 = 1_000;

pub(crate) struct DayWriter {
    pub(crate) day: Day,
    writer: IndexWriter,
    times: Option<(i64, i64)>,
}

impl DayWriter {
    pub(crate) fn open(root: &Path, date: NaiveDate, layout: &Layout) -> Result<DayWriter, StoreError> {
        let (day, index) = days::open_for_writing(root, date, layout)?;
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .memory_budget_per_thread(MEMORY)
            .num_merge_threads(1)
            .build();
        let writer = index.writer_with_options(options).map_err(StoreError::index("write to", &day.path))?;
        let mut merging = LogMergePolicy::default();
        merging.set_min_layer_size(SMALL_SEGMENT);
        writer.set_merge_policy(Box::new(merging));
        let times = CommitPayload::of(&index, &day.path)?.times;
        Ok(DayWriter { day, writer, times })
    }

    /// Adds rows and empties the list. Each call wakes the thread that indexes, which costs as much as some rows do.
    pub(crate) fn add(&mut self, rows: &mut Vec<Prepared>) -> Result<(), TantivyError> {
        for Prepared { timestamp, .. } in &*rows {
            let (oldest, newest) = self.times.unwrap_or((*timestamp, *timestamp));
            self.times = Some((oldest.min(*timestamp), newest.max(*timestamp)));
        }
        let add = |row: Prepared| UserOperation::Add(row.document);
        self.writer.run(rows.drain(..).map(add)).map(|_| ())
    }

    /// Makes all that was added durable, together with the positions.
    pub(crate) fn commit(&mut self, number: u64, positions: &Positions) -> Result<(), TantivyError> {
        let mut commit = self.writer.prepare_commit()?;
        commit.set_payload(&CommitPayload::new(number, positions, self.times).text());
        commit.commit().map(|_| ())
    }
}
