//! The trait through which the command line, the web page and alerts ask.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Something that keeps rows and can be asked: the embedded store, a running agent's socket, or Elasticsearch.
pub trait Search {
    /// Answers one request.
    ///
    /// # Errors
    /// See [`SearchError`]; an empty answer is not an error.
    fn search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError>;
}

/// A question about the rows of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRequest {
    /// The metric (`exec`), or the dataset of a foreign input (`app.events`).
    pub metric: String,
    /// The query; empty matches every row.
    #[serde(default)]
    pub query: String,
    /// Only rows from this time on, ns since the Unix epoch.
    pub since: Option<i64>,
    /// Only rows before this time, ns since the Unix epoch.
    pub until: Option<i64>,
    /// At most so many hits, newest first; `None` for all.
    pub limit: Option<usize>,
    /// Aggregations as in Elasticsearch's `aggs`.
    pub aggs: Option<Value>,
}

/// The answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SearchResponse {
    /// How many rows match, whatever the limit.
    pub total: u64,
    /// The rows as flat JSON objects with ECS names, newest first.
    pub hits: Vec<Box<RawValue>>,
    /// As Elasticsearch's `aggregations`.
    pub aggregations: Option<Value>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum SearchError {
    /// `column` counts characters from 1.
    #[error("error in the query at column {column}: {message}")]
    Query { column: usize, message: String },
    #[error("there is no metric '{metric}'; known are: {known}")]
    UnknownMetric { metric: String, known: String },
    /// All of the asked time is older than what is kept.
    #[error("expired: rows before {oldest} are no longer kept")]
    Expired { oldest: String },
    #[error("the aggregations can't be used: {message}")]
    Aggregations { message: String },
    #[error("{message}")]
    Unavailable { message: String },
}
