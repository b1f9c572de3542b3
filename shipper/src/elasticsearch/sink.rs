//! Batches to data streams, each document once.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bulk::{PATH, all_created, fates};
use super::client::{Answer, Client};
use super::concurrency_limit::ConcurrencyLimit;
use super::encoder::BulkEncoder;
use super::errors::{Concern, concern};
use super::failure::Failure;
use super::lookup::Lookup;
use super::options::{Options, OptionsError};
use super::progress::{Again, Progress};
use crate::{Batch, Encoder, Outcome, Sink, SinkError};

/// How often single documents are sent before their stream has to wait, where a shard had no room for them, or they go
/// to the dead letters, where something else failed.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Of an answer no more is read than these bytes, these for each document, and its own bytes twice: reasons repeat a
/// part of the value.
const ANSWER_BYTES: usize = 1 << 20;
const ANSWER_BYTES_PER_DOCUMENT: usize = 1 << 10;

/// Delivers to Elasticsearch. Ids derive from file and offset, so that a document that is sent again while its data
/// stream still writes to the same index is answered 409, which is success; [`Lookup`] takes care of the others.
pub struct ElasticsearchSink {
    client: Client,
    lookup: Lookup,
    concurrency: ConcurrencyLimit,
    /// Whether requests as they are sent here were ever taken for what they are.
    understood: bool,
}

impl ElasticsearchSink {
    /// A sink to that cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When a file that the options name can't be read or used, or a host is no URL.
    pub fn new(options: Options) -> Result<ElasticsearchSink, OptionsError> {
        let client = Client::new(options)?;
        let (lookup, concurrency) = (Lookup::default(), ConcurrencyLimit::default());
        Ok(ElasticsearchSink { client, lookup, concurrency, understood: false })
    }

    fn deliver(&mut self, batch: &Arc<Batch>) -> Result<Progress, Failure> {
        let mut progress = Progress::default();
        let existing = self.lookup.existing(&self.client, batch, &mut progress)?;
        progress.duplicates.extend(&existing);
        let is_due = |document: &usize| {
            !existing.contains(document) && !progress.holds(&batch.documents[*document].stream)
        };
        let mut pending: Vec<usize> = (0..batch.documents.len()).filter(is_due).collect();
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let mut again = Vec::new();
            for portion in self.concurrency.portions(batch, &pending) {
                again.extend(self.send_documents(batch, portion, &mut progress)?);
            }
            again.retain(|again| !progress.holds(&batch.documents[again.document].stream));
            if again.is_empty() {
                break;
            }
            let had_no_room = again.iter().filter(|again| again.had_no_room).count();
            if had_no_room > 0 {
                self.concurrency.pushed_back();
            }
            if attempt == TRIES {
                progress.give_up(batch, again, TRIES);
                break;
            }
            progress.retried += had_no_room as u64;
            pending = again.into_iter().map(|again| again.document).collect();
            sleep(pause);
            pause *= 2;
        }
        Ok(progress)
    }

    /// Sends these documents, at once or in several requests at a time. Returns those that are to be sent again.
    fn send_documents(
        &mut self,
        batch: &Arc<Batch>,
        documents: &[usize],
        progress: &mut Progress,
    ) -> Result<Vec<Again>, Failure> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let parts = self.concurrency.split(batch, documents);
        let with_limit = |part: &Vec<usize>| {
            let body = body(batch, part);
            let limit = ANSWER_BYTES + part.len() * ANSWER_BYTES_PER_DOCUMENT + 2 * body.len();
            (body, limit)
        };
        let bodies = parts.iter().map(with_limit).collect();
        let start = Instant::now();
        let answers = self.client.post_all(PATH, bodies);
        self.concurrency.took(parts.len(), start.elapsed());
        let (mut again, mut failures) = (Vec::new(), Vec::new());
        // What one answer says holds whatever became of the others.
        for (part, answer) in parts.iter().zip(answers) {
            match answer.and_then(|answer| self.handle_answer(batch, part, &answer, progress)) {
                Ok(more) => again.extend(more),
                Err(failure) => failures.push(failure),
            }
        }
        if failures.is_empty() { Ok(again) } else { Err(Failure::of_all(failures)) }
    }

    /// What an answer says of these documents. Those that were too large for one request are sent in several.
    fn handle_answer(
        &mut self,
        batch: &Arc<Batch>,
        documents: &[usize],
        answer: &Answer,
        progress: &mut Progress,
    ) -> Result<Vec<Again>, Failure> {
        let (status, many) = (answer.status, documents.len() > 1);
        // The line that is no JSON to Elasticsearch, or too long for it or for a proxy in between, isn't told; and what
        // it had to say of so many may be too long to be read.
        if many && (status == 413 || (status == 200 && answer.is_cut) || is_about_content(answer)) {
            let (first, second) = documents.split_at(documents.len() / 2);
            let mut again = self.send_documents(batch, first, progress)?;
            again.extend(self.send_documents(batch, second, progress)?);
            return Ok(again);
        }
        match status {
            _ if answer.is_cut => Err(Failure::of_length(answer, answer.body.len())),
            200 if all_created(&answer.body, documents.len()) => {
                self.understood = true;
                Ok(Vec::new())
            }
            200 => {
                let fates =
                    fates(&answer.body, documents.len()).map_err(|e| Failure::of_content(answer, &e))?;
                self.understood = true;
                let at = format!("Elasticsearch at {}", answer.host);
                Ok(progress.note(&at, batch, documents.iter().copied().zip(fates)))
            }
            413 => {
                let reason = "larger than the cluster's http.max_content_length, or than what a proxy in between takes";
                progress.reject(documents[0], reason.into());
                Ok(Vec::new())
            }
            // Until then it may as well be the request that an older Elasticsearch doesn't know.
            _ if self.understood && is_about_content(answer) => {
                progress.reject(documents[0], answer.reason());
                Ok(Vec::new())
            }
            429 => {
                let bytes = documents.iter().map(|document| batch.documents[*document].encoded.len()).sum();
                self.concurrency.had_no_room(bytes);
                Err(self.client.refusal(answer))
            }
            _ => {
                self.concurrency.pushed_back();
                Err(self.client.refusal(answer))
            }
        }
    }
}

/// Whether Elasticsearch refuses a whole request for what stands in it.
fn is_about_content(answer: &Answer) -> bool {
    answer.status == 400 && answer.error().is_some_and(|error| concern(400, Some(&error)) == Concern::Row)
}

/// A request's body. That of a whole batch is the batch's own, not a copy.
fn body(batch: &Arc<Batch>, documents: &[usize]) -> Bytes {
    if documents.len() == batch.documents.len() {
        return Bytes::from_owner(Whole(batch.clone()));
    }
    let lines = documents.iter().map(|document| &batch.body[batch.documents[*document].encoded.clone()]);
    lines.collect::<Vec<_>>().concat().into()
}

struct Whole(Arc<Batch>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0.body
    }
}

impl Sink for ElasticsearchSink {
    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(BulkEncoder::default())
    }

    fn send(&mut self, batch: &Arc<Batch>) -> Result<Outcome, SinkError> {
        match self.deliver(batch) {
            Ok(progress) => {
                let (outcome, duplicates) = progress.outcome(batch);
                self.lookup.delivered(batch, &duplicates, &outcome);
                Ok(outcome)
            }
            Err(failure) => {
                self.lookup.failed(batch);
                Err(failure.into())
            }
        }
    }

    fn settle(&mut self, _now: bool) -> Result<bool, SinkError> {
        // Elasticsearch answers when the documents are in its translog.
        Ok(true)
    }

    fn positions(&self) -> Option<HashMap<Arc<str>, u64>> {
        None
    }

    fn forget(&mut self, generations: &[Arc<str>]) {
        self.lookup.forget(generations);
    }
}
