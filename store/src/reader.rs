//! Asking the store.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use kumon_query::{
    Fields, OnRow, Search, SearchError, SearchRequest, SearchResponse, dataset, full_condition, hand_over,
};
use serde_json::value::RawValue;
use tantivy::aggregation::intermediate_agg_result::IntermediateAggregationResults;
use tantivy::query::Query;
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

/// When somebody last searched, shared with the writer, which commits sooner then. The clock of the day may be set
/// back; this one isn't.
#[derive(Clone, Default)]
pub(crate) struct Attention(Arc<Mutex<Option<Instant>>>);

impl Attention {
    fn draw(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn is_recent(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() <= ATTENTION)
    }
}

/// Rows that are looked up at a time, which bounds the memory of an answer.
const PAGE: usize = 10_000;

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

    fn answer(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        self.attention.draw();
        let (fields, dataset) = (Fields::of_metric(&request.metric), dataset(&request.metric));
        let condition = full_condition(request, &fields)?;
        let aggregating =
            request.aggs.as_ref().map(|aggs| Aggregating::new(aggs, &request.metric, &fields)).transpose()?;
        // As they are now: rows that come meanwhile change nothing.
        let days = self.days(request.since, request.until)?;
        let queries = days.iter().map(|day| {
            let rendering = Rendering { schema: &day.schema, foreign: fields.is_open() };
            rendering.rows(&dataset, &condition).map_err(|e| too_complex(&e))
        });
        let question = Question { queries: queries.collect::<Result<_, _>>()?, days };

        let mut left = request.limit.unwrap_or(usize::MAX);
        let (page, intermediate) = question.first_page(left.min(PAGE), aggregating.as_ref())?;
        let (total, mut hits) = (page.total, page.hits);
        if total == 0 {
            self.explain_nothing(request, fields.is_open(), &dataset)?;
        }
        let aggregations = aggregating.map(|aggregating| aggregating.finish(intermediate)).transpose()?;
        loop {
            for hit in &hits {
                hand_over(&[question.days[hit.day].source(hit.address)?], row)?;
            }
            left -= hits.len();
            // A page that is not full is the last one.
            let Some(last) = hits.last().filter(|_| left > 0 && hits.len() == PAGE) else { break };
            hits = question.page_behind(last, left.min(PAGE))?;
        }
        Ok(SearchResponse { total, hits: Vec::new(), aggregations })
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
        let is_coarse = kumon_schema::of_dataset(dataset).is_some_and(|schema| schema.coarse_of.is_some());
        let kept = retention::dropped_before(&self.shared.root, is_coarse);
        let (Some(until), Some(kept)) = (request.until, kept) else { return Ok(()) };
        if until <= start_of(kept) {
            return Err(SearchError::Expired { oldest: kept.to_string() });
        }
        Ok(())
    }
}

impl Search for Store {
    fn stream(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        self.answer(request, row)
    }
}

/// A question to the days that may hold answers, newest first.
struct Question {
    days: Vec<Arc<OpenDay>>,
    /// One for each day.
    queries: Vec<Box<dyn Query>>,
}

/// The newest matches.
struct Page {
    /// All that there are.
    total: u64,
    hits: Vec<Hit>,
}

impl Question {
    fn first_page(
        &self,
        limit: usize,
        aggregating: Option<&Aggregating>,
    ) -> Result<(Page, Vec<IntermediateAggregationResults>), SearchError> {
        let (mut page, mut intermediate) = (Page { total: 0, hits: Vec::new() }, Vec::new());
        for (number, (day, query)) in self.days.iter().zip(&self.queries).enumerate() {
            let newest = Newest { limit, behind: None };
            let found = match aggregating {
                None => day.searcher.search(query, &newest).map_err(|e| day.failed(e))?,
                Some(aggregating) => {
                    let collectors = (newest, aggregating.collector(day.searcher.index()));
                    let (found, part) = day
                        .searcher
                        .search(query, &collectors)
                        .map_err(|e| SearchError::Aggregations { message: e.to_string() })?;
                    intermediate.push(part);
                    found
                }
            };
            page.total += found.total;
            gather(&mut page.hits, number, found, limit);
        }
        Ok((page, intermediate))
    }

    /// The newest matches behind that one, in the order of [`gather`].
    fn page_behind(&self, last: &Hit, limit: usize) -> Result<Vec<Hit>, SearchError> {
        let mut hits = Vec::new();
        for (number, (day, query)) in self.days.iter().zip(&self.queries).enumerate() {
            let behind = match number.cmp(&last.day) {
                // Those of the same instant were before it.
                Less => (last.time, DocAddress::new(0, 0)),
                Equal => (last.time, last.address),
                Greater => (last.time.saturating_add(1), DocAddress::new(0, 0)),
            };
            let newest = Newest { limit, behind: Some(behind) };
            let found = day.searcher.search(query, &newest).map_err(|e| day.failed(e))?;
            gather(&mut hits, number, found, limit);
        }
        Ok(hits)
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
fn gather(hits: &mut Vec<Hit>, day: usize, found: Found, limit: usize) {
    hits.extend(found.rows.into_iter().map(|(time, address)| Hit { time, day, address }));
    // Stable: the days come newest first.
    hits.sort_by_key(|hit| std::cmp::Reverse(hit.time));
    hits.truncate(limit);
}

/// ns since the Unix epoch.
fn start_of(date: NaiveDate) -> i64 {
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_nanos_opt().unwrap_or(i64::MAX)
}
