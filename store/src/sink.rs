//! Taking rows in.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{NaiveDate, Utc};
use kumon_shipper::{Batch, Encoder, Outcome, Rejected, Sink, SinkError};

use crate::StoreOptions;
use crate::commit_payload::{CommitPayload, Positions};
use crate::document::{Prepared, prepare};
use crate::encoder::StoreEncoder;
use crate::error::StoreError;
use crate::layout::Layout;
use crate::lock::{self, WriterLock};
use crate::reader::Attention;
use crate::retention;
use crate::trim::Trim;
use crate::writer::DayWriter;

/// How soon rows are committed while somebody is looking.
const WATCHED_INTERVAL: Duration = Duration::from_secs(1);

/// The thread that indexes is given so many rows at once: it is woken less often, and little waits in memory.
const ROWS_AT_ONCE: usize = 256;

/// How often days are checked for being too old or too many.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// The writing end of the store.
pub struct StoreSink {
    root: PathBuf,
    options: StoreOptions,
    layout: Arc<Layout>,
    today: Box<dyn Fn() -> NaiveDate + Send>,
    attention: Attention,
    writer: Option<DayWriter>,
    /// The number and positions of the last commit.
    number: u64,
    durable: Positions,
    /// The positions of what was taken, committed or not.
    taken: Positions,
    uncommitted: Option<Uncommitted>,
    retained: Option<Instant>,
    /// Since when it has been the writer's day, by a clock that nobody sets.
    day_since: Instant,
    trim: Trim,
    _lock: WriterLock,
}

struct Uncommitted {
    since: Instant,
    bytes: usize,
}

impl StoreSink {
    pub(crate) fn open(
        root: PathBuf,
        options: StoreOptions,
        attention: Attention,
        today: Box<dyn Fn() -> NaiveDate + Send>,
    ) -> Result<StoreSink, StoreError> {
        lock::make_root(&root)?;
        let lock = WriterLock::take(&root)?;
        retention::finish_removals(&root)?;
        let latest = CommitPayload::latest(&root)?;
        Ok(StoreSink {
            root,
            options,
            layout: Layout::current().into(),
            today,
            attention,
            writer: None,
            number: latest.number,
            durable: latest.positions(),
            taken: latest.positions(),
            uncommitted: None,
            retained: None,
            day_since: Instant::now(),
            trim: Trim::default(),
            _lock: lock,
        })
    }

    /// Today's index. What was gathered for the day before is committed first: a commit covers one index only.
    fn writer(&mut self) -> Result<&mut DayWriter, SinkError> {
        let today = (self.today)();
        if self.writer.as_ref().is_some_and(|writer| writer.day.date != today) {
            self.commit()?;
            self.writer = None;
            self.retained = None;
            self.day_since = Instant::now();
        }
        if self.writer.is_none() {
            let opened = DayWriter::open(&self.root, today, &self.layout);
            self.writer = Some(opened.map_err(|e| SinkError::Unavailable(e.to_string()))?);
        }
        Ok(self.writer.as_mut().expect("it was opened above"))
    }

    fn add(&mut self, rows: &mut Vec<Prepared>) -> Result<(), SinkError> {
        let writer = self.writer.as_mut().expect("opened for the batch; only a failure closes it");
        writer.add(rows).map_err(|error| self.give_up(&error))
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let (Some(writer), Some(_)) = (&mut self.writer, &self.uncommitted) else { return Ok(()) };
        if let Err(error) = writer.commit(self.number + 1, &self.taken) {
            return Err(self.give_up(&error));
        }
        self.number += 1;
        self.durable.clone_from(&self.taken);
        self.uncommitted = None;
        self.trim.give_back();
        Ok(())
    }

    /// A tantivy writer that failed once is of no more use: what it gathered must be sent again.
    fn give_up(&mut self, error: &tantivy::TantivyError) -> SinkError {
        self.writer = None;
        self.uncommitted = None;
        // The failure may have come after the commit had become durable: the disk knows.
        match CommitPayload::latest(&self.root) {
            Ok(latest) => {
                self.number = latest.number;
                self.durable = latest.positions();
                // What was forgotten since then stays so.
                self.durable.retain(|generation, _| self.taken.contains_key(generation));
            }
            Err(unreadable) => log::error!("{unreadable}"),
        }
        self.taken.clone_from(&self.durable);
        SinkError::Rewind(format!(
            "could not write to the store {}: {error}; free some space if the disk is full, rows are sent again",
            self.root.display()
        ))
    }

    fn retain(&mut self) {
        if self.retained.is_some_and(|last| last.elapsed() < RETENTION_INTERVAL) {
            return;
        }
        let Some(writer) = &self.writer else { return };
        self.retained = Some(Instant::now());
        let (day, lasted) = (&writer.day, self.day_since.elapsed());
        if let Err(error) = retention::apply(&self.root, &self.options, day.date, lasted, &day.path) {
            log::warn!("old days stay for now: {error}");
        }
    }
}

impl Sink for StoreSink {
    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(StoreEncoder::new(self.layout.clone()))
    }

    fn send(&mut self, batch: &Arc<Batch>) -> Result<Outcome, SinkError> {
        self.writer()?;
        let (mut outcome, mut rows) = (Outcome::default(), Vec::new());
        for (index, document) in batch.documents.iter().enumerate() {
            let generation = &batch.positions[document.file].0;
            if self.taken.get(generation).is_some_and(|taken| document.offset < *taken) {
                outcome.duplicates += 1;
                continue;
            }
            let row = &batch.body[document.encoded.clone()];
            match prepare(&self.layout, &document.stream.dataset, row) {
                Ok(row) => {
                    rows.push(row);
                    if rows.len() == ROWS_AT_ONCE {
                        self.add(&mut rows)?;
                    }
                    outcome.created += 1;
                }
                Err(reason) => outcome.rejected.push(Rejected { document: index, reason }),
            }
        }
        self.add(&mut rows)?;
        for (generation, offset) in &batch.positions {
            let taken = self.taken.entry(generation.clone()).or_default();
            *taken = (*taken).max(*offset);
        }
        let uncommitted =
            self.uncommitted.get_or_insert_with(|| Uncommitted { since: Instant::now(), bytes: 0 });
        uncommitted.bytes += batch.documents.iter().map(|document| batch.json(document).len()).sum::<usize>();
        Ok(outcome)
    }

    fn settle(&mut self, now: bool) -> Result<bool, SinkError> {
        let interval = match self.attention.is_recent() {
            true => self.options.commit_interval.min(WATCHED_INTERVAL),
            false => self.options.commit_interval,
        };
        let due = self.uncommitted.as_ref().is_some_and(|uncommitted| {
            now || uncommitted.since.elapsed() >= interval || uncommitted.bytes >= self.options.commit_bytes
        });
        if due {
            self.commit()?;
        }
        self.retain();
        Ok(self.uncommitted.is_none())
    }

    fn positions(&self) -> Option<HashMap<Arc<str>, u64>> {
        Some(self.durable.clone())
    }

    /// The next commit leaves them out; until then a restart may still name them, which does no harm.
    fn forget(&mut self, generations: &[Arc<str>]) {
        for generation in generations {
            self.durable.remove(generation);
            self.taken.remove(generation);
        }
    }
}

/// The day it is, in UTC.
pub(crate) fn utc_today() -> NaiveDate {
    Utc::now().date_naive()
}
