//! Asking the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{NaiveDate, Utc};
use kumon_query::{Fields, Search, SearchError, SearchRequest, SearchResponse, dataset, demanded};
use serde_json::value::RawValue;
use tantivy::schema::Value;
use tantivy::{DocAddress, TantivyDocument, TantivyError, Term};

use crate::aggregations::Aggregating;
use crate::error::StoreError;
use crate::layout::{DATASET, SOURCE};
use crate::newest::{Found, Newest};
use crate::open_days::{OpenDay, OpenDays};
use crate::query::Rendering;
use crate::retention;

/// Somebody who searched so recently is taken to be looking still.
const ATTENTION: Duration = Duration::from_secs(15);

/// The reading end of the store. Clones share what they have open.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    attention: Attention,
}

struct Shared {
    root: PathBuf,
    days: OpenDays,
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

/// A row found, by time in ns and where it is.
struct Hit {
    time: i64,
    day: usize,
    address: DocAddress,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Store {
        let days = OpenDays::new(root.clone());
        Store { shared: Arc::new(Shared { root, days }), attention: Attention::default() }
    }

    /// The same store for who asks regularly without anybody looking: for them, rows are not committed sooner.
    pub fn unattended(&self) -> Store {
        Store { shared: self.shared.clone(), attention: Attention::default() }
    }

    pub(crate) fn attention(&self) -> Attention {
        self.attention.clone()
    }

    fn days(&self, since: Option<i64>, until: Option<i64>) -> Result<Vec<Arc<OpenDay>>, SearchError> {
        self.shared.days.holding(since, until).map_err(|e| unavailable(&e))
    }

    fn answer(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        self.attention.draw();
        let (fields, dataset) = (Fields::of_metric(&request.metric), dataset(&request.metric));
        let condition = demanded(request, &fields)?;
        let aggregating =
            request.aggs.as_ref().map(|aggs| Aggregating::new(aggs, &request.metric, &fields)).transpose()?;

        let days = self.days(request.since, request.until)?;
        let (mut total, mut hits, mut intermediate) = (0, Vec::new(), Vec::new());
        for (number, day) in days.iter().enumerate() {
            let rendering = Rendering { schema: &day.schema, foreign: fields.is_open() };
            let newest = Newest { limit: request.limit };
            let query = rendering.rows(&dataset, &condition).map_err(|e| too_complex(&e))?;
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
            self.explain_nothing(request, fields.is_open(), &dataset)?;
        }
        let aggregations = aggregating.map(|aggregating| aggregating.finish(intermediate)).transpose()?;
        Ok(SearchResponse { total, hits: fetch(&days, &hits)?, aggregations })
    }

    /// An empty answer may have a better reason than 'no match'.
    fn explain_nothing(
        &self,
        request: &SearchRequest,
        foreign: bool,
        dataset: &str,
    ) -> Result<(), SearchError> {
        if foreign && !self.days(None, None)?.iter().any(|day| day.has_dataset(dataset)) {
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
        unavailable(&StoreError::index("search", &self.path)(error))
    }
}

/// All that rendering can fail at: an automaton that would need too many states.
fn too_complex(error: &TantivyError) -> SearchError {
    SearchError::Query { column: 1, message: format!("a wildcard pattern is too complex: {error}") }
}

fn unavailable(error: &StoreError) -> SearchError {
    SearchError::Unavailable { message: error.to_string() }
}

/// Adds an index's hits to those of the others, of which only the newest are wanted.
fn gather(hits: &mut Vec<Hit>, day: usize, found: Found, limit: Option<usize>) {
    hits.extend(found.rows.into_iter().map(|(time, address)| Hit { time, day, address }));
    // Stable: the days come newest first.
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.time));
    hits.truncate(limit.unwrap_or(usize::MAX));
}

fn fetch(days: &[Arc<OpenDay>], hits: &[Hit]) -> Result<Vec<Box<RawValue>>, SearchError> {
    hits.iter().map(|hit| days[hit.day].source(hit.address)).collect()
}

/// ns since the Unix epoch.
fn start_of(date: NaiveDate) -> i64 {
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_nanos_opt().unwrap_or(i64::MAX)
}
