//! Writing into one day's index.

use std::path::Path;

use chrono::NaiveDate;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{IndexWriter, TantivyError};

use crate::commit_payload::{CommitPayload, Positions};
use crate::days::{self, Day};
use crate::document::Prepared;
use crate::error::StoreError;
use crate::layout::Layout;

/// The least that tantivy accepts. One thread is enough for far more rows than an agent ever sees.
const MEMORY: usize = 15_000_000;

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

    pub(crate) fn add(&mut self, row: Prepared) -> Result<(), TantivyError> {
        self.writer.add_document(row.document)?;
        let (oldest, newest) = self.times.unwrap_or((row.timestamp, row.timestamp));
        self.times = Some((oldest.min(row.timestamp), newest.max(row.timestamp)));
        Ok(())
    }

    /// Makes all that was added durable, together with the positions.
    pub(crate) fn commit(&mut self, number: u64, positions: &Positions) -> Result<(), TantivyError> {
        let mut commit = self.writer.prepare_commit()?;
        commit.set_payload(&CommitPayload::new(number, positions, self.times).text());
        commit.commit().map(|_| ())
    }
}
