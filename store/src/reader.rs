//! Asking the store.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{NaiveDate, Utc};
use kumon_query::{Fields, Search, SearchError, SearchRequest, SearchResponse, demanded};
use kumon_schema::builtin;
use serde_json::value::RawValue;
use tantivy::schema::{Schema, Value};
use tantivy::{DocAddress, Index, IndexReader, ReloadPolicy, Searcher, TantivyDocument, TantivyError, Term};

use crate::aggregations::Aggregating;
use crate::days::{self, Day};
use crate::error::StoreError;
use crate::layout::{DATASET, SOURCE};
use crate::newest::{Found, Newest};
use crate::note::Note;
use crate::query::Rendering;
use crate::retention;

/// Indexes kept open between searches: most questions are about today, some about yesterday.
const KEPT_OPEN: usize = 2;

/// Blocks of stored rows kept decompressed per segment, 16 KB each.
const CACHED_BLOCKS: usize = 8;

/// Somebody who searched so recently is taken to be looking still.
const ATTENTION: Duration = Duration::from_secs(15);

/// The reading end of the store. Clones share what they have open.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    attention: Attention,
    open: Mutex<HashMap<PathBuf, Arc<OpenDay>>>,
}

/// When somebody last searched, shared with the writer, which commits sooner then.
#[derive(Clone, Default)]
pub(crate) struct Attention(Arc<AtomicI64>);

impl Attention {
    fn draw(&self) {
        self.0.store(Utc::now().timestamp(), Ordering::Relaxed);
    }

    pub(crate) fn is_recent(&self) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        Utc::now().timestamp() - last <= ATTENTION.as_secs() as i64
    }
}

/// An index, as of its last commit.
struct OpenDay {
    day: Day,
    state: FileState,
    schema: Schema,
    searcher: Searcher,
    /// Makes the searcher's segments reload without opening everything again.
    reader: IndexReader,
    index: Index,
    note: Note,
}

/// Tells whether a file was replaced: inode, size, time of change in ns.
type FileState = (u64, u64, i64, i64);

/// A row found, by time in ns and where it is.
struct Hit {
    time: i64,
    day: usize,
    address: DocAddress,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Store {
        let (attention, open) = (Attention::default(), Mutex::default());
        Store { shared: Arc::new(Shared { root, attention, open }) }
    }

    pub(crate) fn attention(&self) -> Attention {
        self.shared.attention.clone()
    }

    /// All days that can be read, newest first.
    fn days(&self) -> Result<Vec<Arc<OpenDay>>, SearchError> {
        let listed = days::list(&self.shared.root).map_err(|e| unavailable(&e))?;
        let mut opened = Vec::with_capacity(listed.len());
        for day in listed.into_iter().rev() {
            match self.open(&day) {
                Ok(open) => opened.push(open),
                // Retention dropped it meanwhile.
                Err(_) if !day.path.exists() => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        let mut cache = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        *cache = opened.iter().take(KEPT_OPEN).map(|open| (open.day.path.clone(), open.clone())).collect();
        Ok(opened)
    }

    fn open(&self, day: &Day) -> Result<Arc<OpenDay>, StoreError> {
        let state = file_state(day)?;
        let cached = {
            let cache = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(&day.path).cloned()
        };
        let failed = StoreError::index("read", &day.path);
        let (index, reader) = match cached {
            Some(open) if open.state == state => return Ok(open),
            Some(open) => {
                open.reader.reload().map_err(failed)?;
                (open.index.clone(), open.reader.clone())
            }
            None => {
                let index = day.open()?;
                let reader = index
                    .reader_builder()
                    .reload_policy(ReloadPolicy::Manual)
                    .doc_store_cache_num_blocks(CACHED_BLOCKS)
                    .try_into()
                    .map_err(failed)?;
                (index, reader)
            }
        };
        let note = Note::of(&index, &day.path)?;
        let (schema, searcher) = (index.schema(), reader.searcher());
        Ok(Arc::new(OpenDay { day: day.clone(), state, schema, searcher, reader, index, note }))
    }

    fn answer(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        self.shared.attention.draw();
        let metric = request.metric.strip_prefix("kumon.").filter(|metric| builtin(metric).is_some());
        let schema = builtin(metric.unwrap_or(&request.metric));
        let fields = schema.map_or_else(Fields::foreign, Fields::of);
        let dataset = schema.map_or_else(|| request.metric.clone(), kumon_schema::Schema::dataset);
        let condition = demanded(request, &fields)?;
        let aggregating = request.aggs.as_ref().map(|aggs| Aggregating::new(aggs, &fields)).transpose()?;

        let all = self.days()?;
        let asked: Vec<_> = all.iter().filter(|day| day.may_hold(request)).cloned().collect();
        let (mut total, mut hits, mut intermediate) = (0, Vec::new(), Vec::new());
        for (number, day) in asked.iter().enumerate() {
            let rendering = Rendering { schema: &day.schema, foreign: schema.is_none() };
            let newest = Newest { limit: request.limit };
            let query = rendering.rows(&dataset, &condition).map_err(|e| day.failed(e))?;
            let found = match &aggregating {
                None => day.searcher.search(&query, &newest).map_err(|e| day.failed(e))?,
                Some(aggregating) => {
                    let collectors = (newest, aggregating.collector(day.searcher.index()));
                    let (found, part) = day
                        .searcher
                        .search(&query, &collectors)
                        .map_err(|e| SearchError::Aggregations { message: e.to_string() })?;
                    intermediate.push(part);
                    found
                }
            };
            total += found.total;
            gather(&mut hits, number, found, request.limit);
        }
        if total == 0 {
            self.explain_nothing(request, schema.is_none(), &dataset, &all)?;
        }
        let aggregations = aggregating.map(|aggregating| aggregating.finish(intermediate)).transpose()?;
        Ok(SearchResponse { total, hits: fetch(&asked, &hits)?, aggregations })
    }

    /// An empty answer may have a better reason than 'no match'.
    fn explain_nothing(
        &self,
        request: &SearchRequest,
        foreign: bool,
        dataset: &str,
        days: &[Arc<OpenDay>],
    ) -> Result<(), SearchError> {
        if foreign && !days.iter().any(|day| day.has_dataset(dataset)) {
            let known: Vec<&str> = kumon_schema::all().iter().map(|schema| schema.name.as_str()).collect();
            return Err(SearchError::UnknownMetric { metric: dataset.to_owned(), known: known.join(", ") });
        }
        let (Some(until), Some(kept)) = (request.until, retention::dropped_before(&self.shared.root)) else {
            return Ok(());
        };
        if until <= start_of(kept) {
            return Err(SearchError::Expired { oldest: kept.to_string() });
        }
        Ok(())
    }
}

impl Search for Store {
    fn search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        self.answer(request)
    }
}

impl OpenDay {
    /// Whether rows of the asked time may be in it.
    fn may_hold(&self, request: &SearchRequest) -> bool {
        const MILLISECOND: i64 = 1_000_000;
        self.note.times.is_some_and(|(oldest, newest)| {
            request.since.is_none_or(|since| newest >= since.saturating_sub(MILLISECOND))
                && request.until.is_none_or(|until| oldest <= until.saturating_add(MILLISECOND))
        })
    }

    fn has_dataset(&self, dataset: &str) -> bool {
        let field = self.schema.get_field(DATASET);
        let frequency =
            field.and_then(|field| self.searcher.doc_freq(&Term::from_field_text(field, dataset)));
        frequency.is_ok_and(|rows| rows > 0)
    }

    fn source(&self, address: DocAddress) -> Result<Box<RawValue>, SearchError> {
        let document: TantivyDocument = self.searcher.doc(address).map_err(|e| self.failed(e))?;
        let source = self.schema.get_field(SOURCE).ok().and_then(|field| document.get_first(field));
        let text = source.and_then(|value| value.as_str()).unwrap_or_default();
        RawValue::from_string(text.to_owned()).map_err(|e| self.failed(e.into()))
    }

    fn failed(&self, error: TantivyError) -> SearchError {
        unavailable(&StoreError::index("search", &self.day.path)(error))
    }
}

fn unavailable(error: &StoreError) -> SearchError {
    SearchError::Unavailable { message: error.to_string() }
}

/// Adds an index's hits to those of the others, of which only the newest are wanted.
fn gather(hits: &mut Vec<Hit>, day: usize, found: Found, limit: Option<usize>) {
    hits.extend(found.rows.into_iter().map(|(time, address)| Hit { time, day, address }));
    // Stable: the days come newest first.
    hits.sort_by(|a, b| b.time.cmp(&a.time));
    hits.truncate(limit.unwrap_or(usize::MAX));
}

fn fetch(days: &[Arc<OpenDay>], hits: &[Hit]) -> Result<Vec<Box<RawValue>>, SearchError> {
    hits.iter().map(|hit| days[hit.day].source(hit.address)).collect()
}

fn file_state(day: &Day) -> Result<FileState, StoreError> {
    let path = day.meta();
    let metadata = fs::metadata(&path).map_err(StoreError::io("read", &path))?;
    Ok((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// ns since the Unix epoch.
fn start_of(date: NaiveDate) -> i64 {
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_nanos_opt().unwrap_or(i64::MAX)
}
