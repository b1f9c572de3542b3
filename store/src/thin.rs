//! Days of which the rows by 10 minutes are kept for longer than all others.

use tantivy::collector::Count;
use tantivy::indexer::{IndexWriterOptions, NoMergePolicy};
use tantivy::query::{AllQuery, BooleanQuery, Occur, Query, TermSetQuery};
use tantivy::schema::Field;
use tantivy::{Index, IndexWriter, TantivyError, Term};

use crate::days::Day;
use crate::error::StoreError;
use crate::layout::DATASET;
use crate::writer::MEMORY;

/// Takes all rows out of a day's index but those by 10 minutes, and returns how many of these there are. Where there are none,
/// the day stays as it is: it is to be dropped.
pub(crate) fn thin(day: &Day) -> Result<usize, StoreError> {
    let index = day.open()?;
    let failed = || StoreError::index("take rows out of", &day.path);
    let coarse = coarse_rows(index.schema().get_field(DATASET).map_err(failed())?);
    let reader = index.reader().map_err(failed())?;
    let kept = reader.searcher().search(&coarse, &Count).map_err(failed())?;
    if kept > 0 {
        take_out_all_but(&index, coarse).map_err(failed())?;
    }
    Ok(kept)
}

fn coarse_rows(dataset: Field) -> TermSetQuery {
    let coarse = kumon_schema::all().iter().filter(|schema| schema.coarse_of.is_some());
    TermSetQuery::new(coarse.map(|schema| Term::from_field_text(dataset, &schema.dataset())))
}

fn take_out_all_but(index: &Index, kept: TermSetQuery) -> Result<(), TantivyError> {
    let options =
        IndexWriterOptions::builder().num_worker_threads(1).memory_budget_per_thread(MEMORY).build();
    let mut writer: IndexWriter = index.writer_with_options(options)?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let all: Box<dyn Query> = Box::new(AllQuery);
    let others = BooleanQuery::new(vec![(Occur::Must, all), (Occur::MustNot, Box::new(kept))]);
    writer.delete_query(Box::new(others))?;
    let payload = index.load_metas()?.payload;
    let mut commit = writer.prepare_commit()?;
    // The positions are as durable as they were.
    if let Some(payload) = payload {
        commit.set_payload(&payload);
    }
    commit.commit()?;
    // What is only marked as deleted takes its room until then.
    writer.merge(&index.searchable_segment_ids()?).wait()?;
    writer.wait_merging_threads()
}
