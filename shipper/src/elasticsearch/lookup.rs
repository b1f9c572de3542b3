//! Keeps documents from doubling across a rollover.
//!
//! Ids are unique within a backing index only: once the data stream has rolled over, a document that had arrived
//! would be created again. So where it is not known what has arrived (after a start, after a request without a clear
//! answer), the ids are looked up in the data stream's older indices first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::error_cause::ErrorCause;
use super::failure::Failure;
use super::progress::Progress;
use crate::{Batch, Outcome, StreamName};

/// Below `index.max_result_window`, which is 10,000.
const IDS_PER_REQUEST: usize = 5000;

/// How many of the older indices may hold documents that no search sees yet: streams roll over minutes apart (ILM looks
/// every 10 minutes), indices are refreshed within seconds, but somebody may roll over by hand, twice in a row. They are
/// also those that what was sent last is in; so a stream waits for their shards, but not for older ones', which may be
/// gone for good.
const UNREFRESHED: usize = 3;

/// Knows of which files everything that was sent is accounted for.
#[derive(Default)]
pub(super) struct Lookup {
    /// Generations of files whose last sent document is known to be new. Documents of a file arrive in order, so what
    /// follows was never sent before.
    clear: HashSet<Arc<str>>,
    /// Up to which offset a file's documents were sent, in bytes, where not all of them may have arrived: a shard may
    /// have had no room for the first and taken the last.
    doubtful: HashMap<Arc<str>, u64>,
    warned: bool,
}

impl Lookup {
    /// Indices of the batch's documents that are in the cluster already and would not be answered 409. A stream of
    /// which that can't be told now has to wait.
    pub(super) fn existing(
        &mut self,
        client: &Client,
        batch: &Batch,
        progress: &mut Progress,
    ) -> Result<HashSet<usize>, Failure> {
        let mut unclear: HashMap<&Arc<StreamName>, Vec<usize>> = HashMap::new();
        let clear: Vec<bool> = batch.positions.iter().map(|(file, _)| self.clear.contains(file)).collect();
        for (index, document) in batch.documents.iter().enumerate() {
            if !clear[document.file] {
                unclear.entry(&document.stream).or_default().push(index);
            }
        }
        let mut existing = HashSet::new();
        for (stream, documents) in unclear {
            match existing_in(client, batch, stream, &documents) {
                Ok(found) => existing.extend(found),
                Err(Unknown::Stream(failure)) => progress.hold(stream, failure),
                // Shipping is more important than what a rollover at the worst moment might double.
                Err(Unknown::All(failure)) if failure.status == Some(403) => self.warn(&failure),
                Err(Unknown::All(failure)) => return Err(failure),
            }
        }
        Ok(existing)
    }

    /// All of the batch is delivered but for the streams that are held; these documents had been delivered before.
    pub(super) fn delivered(&mut self, batch: &Batch, duplicates: &[usize], outcome: &Outcome) {
        let duplicates: HashSet<&usize> = duplicates.iter().collect();
        for (generation, document) in last_documents(batch) {
            let (offset, stream) = (batch.documents[document].offset, &batch.documents[document].stream);
            if outcome.holds(stream) {
                self.doubt(generation, offset);
            } else if !duplicates.contains(&document)
                && self.doubtful.get(generation).is_none_or(|until| offset >= *until)
            {
                self.clear.insert(generation.clone());
                self.doubtful.remove(generation);
            }
        }
    }

    /// It is not known how much of the batch was delivered.
    pub(super) fn failed(&mut self, batch: &Batch) {
        for (generation, document) in last_documents(batch) {
            self.doubt(generation, batch.documents[document].offset);
        }
    }

    fn doubt(&mut self, generation: &Arc<str>, offset: u64) {
        self.clear.remove(generation);
        let until = self.doubtful.entry(generation.clone()).or_default();
        *until = offset.max(*until);
    }

    pub(super) fn forget(&mut self, generations: &[Arc<str>]) {
        for generation in generations {
            self.clear.remove(generation);
            self.doubtful.remove(generation);
        }
    }

    fn warn(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.warned, true) {
            log::warn!("rows may double where a rollover meets an outage: {failure}");
        }
    }
}

/// The last document of each file of the batch that has some.
fn last_documents(batch: &Batch) -> impl Iterator<Item = (&Arc<str>, usize)> {
    let mut last = vec![None; batch.positions.len()];
    for (index, document) in batch.documents.iter().enumerate() {
        last[document.file] = Some(index);
    }
    batch.positions.iter().zip(last).filter_map(|((generation, _), document)| Some((generation, document?)))
}

/// Why it can't be told what has arrived.
enum Unknown {
    /// A shard of this stream isn't there.
    Stream(Failure),
    All(Failure),
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Unknown {
        Unknown::All(failure)
    }
}

fn existing_in(
    client: &Client,
    batch: &Batch,
    stream: &StreamName,
    documents: &[usize],
) -> Result<Vec<usize>, Unknown> {
    let indices = backing_indices(client, stream)?;
    let Some((_write, older)) = indices.split_last() else { return Ok(Vec::new()) };
    if older.is_empty() {
        return Ok(Vec::new());
    }
    let by_id: HashMap<String, usize> =
        documents.iter().map(|document| (batch.id(*document), *document)).collect();
    let ids: Vec<&str> = by_id.keys().map(String::as_str).collect();
    let mut found = Vec::new();
    for ids in ids.chunks(IDS_PER_REQUEST) {
        // A get sees what no search sees yet.
        for index in older.iter().rev().take(UNREFRESHED) {
            found.extend(get(client, index, ids)?);
        }
        found.extend(search(client, stream, ids)?);
    }
    Ok(found.iter().filter_map(|id| by_id.get(id).copied()).collect())
}

/// The names of a data stream's indices, the one that is written to last; none where there is no such stream yet.
fn backing_indices(client: &Client, stream: &StreamName) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Resolved {
        #[serde(default)]
        data_streams: Vec<DataStream>,
    }
    #[derive(Deserialize)]
    struct DataStream {
        backing_indices: Vec<String>,
    }
    let answer = client.request(Method::GET, &format!("_resolve/index/{stream}"), None)?;
    // Not so somebody else's page, which knows nothing of it.
    if answer.status == 404 && answer.body.starts_with(b"{") {
        return Ok(Vec::new());
    }
    let resolved: Resolved = client.ok(answer)?.read()?;
    Ok(resolved.data_streams.into_iter().next().map(|stream| stream.backing_indices).unwrap_or_default())
}

/// Which of the ids are in an index, whether it was refreshed or not. Of a closed one nothing is asked: who closed it
/// wants nothing from it.
fn get(client: &Client, index: &str, ids: &[&str]) -> Result<Vec<String>, Unknown> {
    #[derive(Deserialize)]
    struct Documents {
        #[serde(default)]
        docs: Vec<Got>,
    }
    #[derive(Deserialize)]
    struct Got {
        _id: String,
        #[serde(default)]
        found: bool,
        #[serde(default)]
        error: Option<ErrorCause>,
    }
    let path = format!(
        "{index}/_mget?_source=false&filter_path=docs._id,docs.found,docs.error.type,docs.error.reason"
    );
    let answer = client.request(Method::POST, &path, Some(&json!({"ids": ids})))?;
    let documents: Documents = client.ok(answer)?.read()?;
    let mut errors = documents.docs.iter().filter_map(|got| got.error.as_ref());
    if let Some(error) = errors.find(|error| !error.is("index_closed_exception")) {
        return Err(Unknown::Stream(shard_missing(index, error)));
    }
    Ok(documents.docs.into_iter().filter(|got| got.found).map(|got| got._id).collect())
}

fn shard_missing(index: &str, error: &ErrorCause) -> Failure {
    let message = format!(
        "whether rows of it have arrived already can't be told, because Elasticsearch can't read {index} ({error}); see \
         its _cluster/allocation/explain, and restore the index, close it or delete it if it is lost"
    );
    Failure { message, needs_person: false, unclear: false, status: Some(503) }
}

/// Which of the ids are in any index of the data stream, as far as it was refreshed.
fn search(client: &Client, stream: &StreamName, ids: &[&str]) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(default)]
        hits: Hits,
    }
    #[derive(Deserialize, Default)]
    struct Hits {
        #[serde(default)]
        hits: Vec<Hit>,
    }
    #[derive(Deserialize)]
    struct Hit {
        _id: String,
    }
    let query = json!({"size": ids.len(), "_source": false, "query": {"ids": {"values": ids}}});
    let path = format!("{stream}/_search?ignore_unavailable=true&filter_path=hits.hits._id");
    let answer = client.request(Method::POST, &path, Some(&query))?;
    if answer.status == 503
        && answer.error().is_some_and(|error| error.is("search_phase_execution_exception"))
    {
        // No shard at all that could be asked.
        return Ok(Vec::new());
    }
    let response: Response = client.ok(answer)?.read()?;
    Ok(response.hits.hits.into_iter().map(|hit| hit._id).collect())
}
