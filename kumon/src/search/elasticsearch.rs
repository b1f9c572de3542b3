//! Asking Elasticsearch.

use kumon_query::{
    Fields, OnRow, Search, SearchError, SearchRequest, SearchResponse, hand_over, to_elasticsearch,
};
use kumon_schema::Kind;
use kumon_shipper::elasticsearch::{Answer, Client, Failure, Method, Options, OptionsError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How long Elasticsearch keeps a point in time while nobody asks for its next page.
const KEEP_ALIVE: &str = "1m";

/// Searches the data streams of one namespace.
pub(crate) struct ElasticsearchSearch {
    client: Client,
    namespace: String,
}

#[derive(Deserialize)]
struct Page {
    hits: Hits,
    aggregations: Option<Value>,
    /// May change from page to page.
    pit_id: Option<String>,
}

#[derive(Deserialize)]
struct Hits {
    /// Only where it was asked for.
    total: Option<Total>,
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct Hit {
    _source: Box<RawValue>,
    #[serde(default)]
    sort: Value,
}

impl ElasticsearchSearch {
    /// A search in that cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When a file that the options name can't be read or used, or a host is no URL.
    pub(crate) fn new(options: Options, namespace: &str) -> Result<ElasticsearchSearch, OptionsError> {
        Ok(ElasticsearchSearch { client: Client::new(options)?, namespace: namespace.to_owned() })
    }

    fn stream(&self, metric: &str) -> String {
        match kumon_schema::builtin(metric) {
            Some(schema) => schema.data_stream(&self.namespace),
            None => format!("{}-{metric}-{}", Kind::Event.stream_type(), self.namespace),
        }
    }

    fn one_page(&self, request: &SearchRequest, body: &Value) -> Result<SearchResponse, SearchError> {
        let path = format!("{}/_search?allow_partial_search_results=false", self.stream(&request.metric));
        let answer = self.client.request(Method::POST, &path, Some(body)).map_err(unavailable)?;
        if answer.status == 404 {
            return nothing_there(&request.metric);
        }
        let page = self.page(request, answer)?;
        let mut response = SearchResponse { aggregations: page.aggregations, ..SearchResponse::default() };
        append(&mut response, page.hits);
        Ok(response)
    }

    /// Page after page of one point in time, so that rows which arrive meanwhile change nothing.
    fn all_pages(
        &self,
        request: &SearchRequest,
        mut body: Value,
        row: &mut OnRow<'_>,
    ) -> Result<SearchResponse, SearchError> {
        let open = format!("{}/_pit?keep_alive={KEEP_ALIVE}", self.stream(&request.metric));
        let answer = self.client.request(Method::POST, &open, None).map_err(unavailable)?;
        if answer.status == 404 {
            return nothing_there(&request.metric);
        }
        let mut id = self.client.ok(answer).map_err(unavailable)?.json()["id"].clone();
        let response = self.read_pages(request, &mut body, &mut id, row);
        // It would end by itself; the answer does not depend on it.
        let _ = self.client.request(Method::DELETE, "_pit", Some(&json!({"id": id})));
        response
    }

    fn read_pages(
        &self,
        request: &SearchRequest,
        body: &mut Value,
        id: &mut Value,
        row: &mut OnRow<'_>,
    ) -> Result<SearchResponse, SearchError> {
        let mut left = request.limit.unwrap_or(usize::MAX);
        let page_size = body["size"].as_u64().unwrap_or_default() as usize;
        let mut response = SearchResponse::default();
        loop {
            body["pit"] = json!({"id": id, "keep_alive": KEEP_ALIVE});
            let path = "_search?allow_partial_search_results=false";
            let answer = self.client.request(Method::POST, path, Some(body)).map_err(unavailable)?;
            let page = self.page(request, answer)?;
            if let Some(next) = page.pit_id {
                *id = next.into();
            }
            let (got, last) = (page.hits.hits.len(), page.hits.hits.last().map(|hit| hit.sort.clone()));
            response.aggregations = response.aggregations.or(page.aggregations);
            append(&mut response, page.hits);
            hand_over(&std::mem::take(&mut response.hits), row)?;
            left = left.saturating_sub(got);
            let Some(last) = last else { break };
            if got < page_size || left == 0 {
                break;
            }
            body["search_after"] = last;
            body["size"] = page_size.min(left).into();
            // The first page told both.
            body["track_total_hits"] = false.into();
            body.as_object_mut().map(|body| body.remove("aggs"));
        }
        Ok(response)
    }

    fn page(&self, request: &SearchRequest, answer: Answer) -> Result<Page, SearchError> {
        if answer.status == 400 && request.aggs.is_some() {
            return Err(SearchError::Aggregations { message: answer.reason() });
        }
        let answer = self.client.ok(answer).map_err(unavailable)?;
        serde_json::from_slice(&answer.body).map_err(|e| SearchError::Unavailable {
            message: format!("{} answered something else than Elasticsearch would ({e})", answer.host),
        })
    }
}

impl Search for ElasticsearchSearch {
    fn stream(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        // Anything else would be another request than a search in one data stream.
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
        if !request.metric.chars().all(allowed) {
            return nothing_there(&request.metric);
        }
        let body = to_elasticsearch(request, &Fields::of_metric(&request.metric))?;
        // One page holds as many as the body asks for.
        match (request.limit, body["size"].as_u64()) {
            (Some(limit), Some(size)) if limit as u64 <= size => {
                let mut response = self.one_page(request, &body)?;
                hand_over(&std::mem::take(&mut response.hits), row)?;
                Ok(response)
            }
            _ => self.all_pages(request, body, row),
        }
    }
}

fn append(response: &mut SearchResponse, hits: Hits) {
    if let Some(total) = hits.total {
        response.total = total.value;
    }
    response.hits.extend(hits.hits.into_iter().map(|hit| hit._source));
}

/// A metric of which nothing was shipped yet, or a name that means nothing.
fn nothing_there(metric: &str) -> Result<SearchResponse, SearchError> {
    if kumon_schema::builtin(metric).is_some() {
        return Ok(SearchResponse::default());
    }
    let known: Vec<&str> = kumon_schema::all().iter().map(|schema| schema.name.as_str()).collect();
    Err(SearchError::UnknownMetric { metric: metric.to_owned(), known: known.join(", ") })
}

fn unavailable(failure: Failure) -> SearchError {
    SearchError::Unavailable { message: failure.message }
}
