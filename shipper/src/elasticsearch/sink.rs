//! Batches to data streams, each document once.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::bulk::{Fate, PATH, all_created, fates};
use super::client::Client;
use super::failure::{Failure, missing_privilege};
use super::lookup::Lookup;
use super::options::{Options, OptionsError};
use crate::{Batch, Outcome, Rejected, Sink, SinkError};

/// How often single documents that a shard had no room for are sent again before the whole batch waits.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Delivers to Elasticsearch. Ids derive from file and offset, so that a document that is sent again while its data
/// stream still writes to the same index is answered 409, which is success; [`Lookup`] takes care of the others.
pub struct ElasticsearchSink {
    client: Client,
    lookup: Lookup,
}

/// What became of a batch so far.
#[derive(Default)]
struct Progress {
    outcome: Outcome,
    /// Indices into the batch's documents.
    duplicates: Vec<usize>,
}

impl ElasticsearchSink {
    /// A sink to that cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When a file that the options name can't be read or used, or a host is no URL.
    pub fn new(options: Options) -> Result<ElasticsearchSink, OptionsError> {
        Ok(ElasticsearchSink { client: Client::new(options)?, lookup: Lookup::default() })
    }

    fn deliver(&mut self, batch: &Batch) -> Result<Progress, Failure> {
        let mut progress = Progress::default();
        let existing = self.lookup.existing(&self.client, batch)?;
        progress.outcome.duplicates = existing.len() as u64;
        progress.duplicates.extend(&existing);
        let mut pending: Vec<usize> =
            (0..batch.documents.len()).filter(|document| !existing.contains(document)).collect();
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let retry = self.send_documents(batch, &pending, &mut progress)?;
            let Some((_, reason)) = retry.first() else { break };
            if attempt == TRIES {
                return Err(busy(retry.len(), reason));
            }
            pending = retry.into_iter().map(|(document, _)| document).collect();
            sleep(pause);
            pause *= 2;
        }
        progress.outcome.rejected.sort_by_key(|rejected| rejected.document);
        Ok(progress)
    }

    /// Sends these documents in one request, or in several where they are too large for one. Returns those that are
    /// to be sent again, with the reason.
    fn send_documents(
        &self,
        batch: &Batch,
        documents: &[usize],
        progress: &mut Progress,
    ) -> Result<Vec<(usize, String)>, Failure> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let answer = if documents.len() == batch.documents.len() {
            self.client.post_ndjson(PATH, &[&batch.body])?
        } else {
            let part = |document: &usize| &batch.body[batch.documents[*document].action.clone()];
            self.client.post_ndjson(PATH, &documents.iter().map(part).collect::<Vec<_>>())?
        };
        match answer.status {
            200 if all_created(&answer.body) => {
                progress.outcome.created += documents.len() as u64;
                Ok(Vec::new())
            }
            200 => {
                let fates =
                    fates(&answer.body, documents.len()).map_err(|e| no_bulk_answer(&answer.host, &e))?;
                let at = format!("Elasticsearch at {}", answer.host);
                progress.note(&at, documents.iter().copied().zip(fates))
            }
            // 400 for a whole request is a line that is no JSON to Elasticsearch; it does not say which.
            400 | 413 if documents.len() > 1 => {
                let (first, second) = documents.split_at(documents.len() / 2);
                let mut retry = self.send_documents(batch, first, progress)?;
                retry.extend(self.send_documents(batch, second, progress)?);
                Ok(retry)
            }
            413 => {
                progress.reject(documents[0], "larger than the cluster's http.max_content_length".into());
                Ok(Vec::new())
            }
            400 if !answer.reason().contains("unrecognized parameter") => {
                progress.reject(documents[0], answer.reason());
                Ok(Vec::new())
            }
            _ => Err(self.client.refusal(&answer)),
        }
    }
}

impl Sink for ElasticsearchSink {
    fn send(&mut self, batch: &Batch) -> Result<Outcome, SinkError> {
        match self.deliver(batch) {
            Ok(progress) => {
                self.lookup.delivered(batch, &progress.duplicates);
                Ok(progress.outcome)
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

impl Progress {
    fn note(
        &mut self,
        at: &str,
        fates: impl Iterator<Item = (usize, Fate)>,
    ) -> Result<Vec<(usize, String)>, Failure> {
        let mut retry = Vec::new();
        let mut refused = None;
        for (document, fate) in fates {
            match fate {
                Fate::Created => self.outcome.created += 1,
                Fate::FailureStore => self.outcome.failure_store += 1,
                Fate::Duplicate => {
                    self.outcome.duplicates += 1;
                    self.duplicates.push(document);
                }
                Fate::Retry(reason) => retry.push((document, reason)),
                Fate::Rejected(reason) => self.reject(document, reason),
                Fate::Refused { status, reason } => {
                    refused.get_or_insert((status, reason));
                }
            }
        }
        match refused {
            Some((status, reason)) => Err(refusal(at, status, &reason)),
            None => Ok(retry),
        }
    }

    fn reject(&mut self, document: usize, reason: String) {
        self.outcome.rejected.push(Rejected { document, reason });
    }
}

/// Documents that no person has to look at, but a person has to let in.
fn refusal(at: &str, status: u16, reason: &str) -> Failure {
    let message = if status == 404 {
        format!(
            "{at} has no data stream for this and no index template to make one ({reason}): run 'kumon setup'"
        )
    } else if reason.starts_with("cluster_block_exception") {
        format!("{at} has closed the index for writing ({reason}): a full disk, or a block set by hand")
    } else {
        missing_privilege(at, reason)
    };
    Failure { message, needs_person: true, unclear: false, status: Some(status) }
}

fn busy(documents: usize, reason: &str) -> Failure {
    let message = format!(
        "Elasticsearch had no room for {documents} documents in {TRIES} tries ({reason}); sending goes on later"
    );
    Failure { message, needs_person: false, unclear: false, status: Some(429) }
}

fn no_bulk_answer(host: &str, why: &str) -> Failure {
    let message = format!("{host} answered something else than Elasticsearch would ({why}); is that one?");
    Failure { message, needs_person: true, unclear: true, status: Some(200) }
}
