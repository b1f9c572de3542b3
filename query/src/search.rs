//! The trait through which the command line, the web page and alerts ask.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::suggestion::did_you_mean;

/// Something that keeps rows and can be asked: the embedded store, a running agent's socket, or Elasticsearch.
pub trait Search {
    /// Answers one request by handing its rows over one by one, newest first, so that an answer may be larger than the
    /// memory. The answer itself has none of them.
    ///
    /// # Errors
    /// See [`SearchError`]; an empty answer is not an error. They may come behind rows that were handed over. What `row`
    /// failed at is [`SearchError::Unavailable`].
    fn stream(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError>;

    /// Answers one request, with all rows in the answer: for those with a limit.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    fn search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        let mut hits = Vec::new();
        let response = self.stream(request, &mut |hit| {
            hits.push(hit.to_owned());
            Ok(())
        })?;
        Ok(SearchResponse { hits, ..response })
    }
}

/// Takes the rows of an answer, one at a time.
pub type OnRow<'a> = dyn FnMut(&RawValue) -> io::Result<()> + 'a;

/// Hands rows over that are there already.
///
/// # Errors
/// [`SearchError::Unavailable`] with what `row` failed at.
pub fn hand_over(hits: &[Box<RawValue>], row: &mut OnRow<'_>) -> Result<(), SearchError> {
    let failed =
        |e: io::Error| SearchError::Unavailable { message: format!("the rows can't be passed on: {e}") };
    hits.iter().try_for_each(|hit| row(hit)).map_err(failed)
}

/// A question about the rows of one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    #[error("there is no metric '{metric}'{}; known are: {known}", meant(metric, known))]
    UnknownMetric { metric: String, known: String },
    /// All of the asked time is older than what is kept.
    #[error("expired: rows before {oldest} are no longer kept")]
    Expired { oldest: String },
    #[error("the aggregations can't be used: {message}")]
    Aggregations { message: String },
    #[error("{message}")]
    Unavailable { message: String },
}

fn meant(metric: &str, known: &str) -> String {
    did_you_mean(metric, known.split(", ")).map(|hint| format!("; {hint}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::SearchError;

    #[test]
    fn an_unknown_metric_near_to_a_known_one_is_asked_for() {
        let message = |metric: &str| {
            let known = "exec, exit, runqlat, tcplife".to_owned();
            SearchError::UnknownMetric { metric: metric.to_owned(), known }.to_string()
        };
        assert!(
            message("runqlate").contains("'runqlate'; did you mean 'runqlat'?; known are"),
            "{}",
            message("runqlate")
        );
        assert!(message("tcplive").contains("did you mean 'tcplife'?"));
        assert!(!message("nginx.access").contains("did you mean"));
    }
}
