//! What became of a batch's documents so far.

use std::collections::HashMap;
use std::sync::Arc;

use super::bulk::Fate;
use super::errors::Trouble;
use super::failure::Failure;
use crate::{Batch, Held, Outcome, Rejected, StreamName};

/// Those of which nothing is noted were created.
#[derive(Default)]
pub(super) struct Progress {
    /// Indices into the batch's documents.
    pub(super) duplicates: Vec<usize>,
    failure_store: Vec<usize>,
    rejected: Vec<Rejected>,
    held: HashMap<Arc<StreamName>, Failure>,
    pub(super) retried: u64,
}

/// A document that is to be sent once more.
pub(super) struct Again {
    pub(super) document: usize,
    /// Whether a shard had no room for it; else something is wrong with it if that doesn't help.
    pub(super) had_no_room: bool,
    reason: String,
}

impl Progress {
    /// Takes note of what an answer says; those that are to be sent again.
    pub(super) fn note(
        &mut self,
        at: &str,
        batch: &Batch,
        fates: impl Iterator<Item = (usize, Fate)>,
    ) -> Vec<Again> {
        let mut again = Vec::new();
        for (document, fate) in fates {
            match fate {
                Fate::Created => {}
                Fate::FailureStore => self.failure_store.push(document),
                Fate::Duplicate => self.duplicates.push(document),
                Fate::Retry(reason) => again.push(Again { document, had_no_room: true, reason }),
                Fate::Failed(reason) => again.push(Again { document, had_no_room: false, reason }),
                Fate::Rejected(reason) => self.reject(document, reason),
                Fate::Refused { trouble, reason } => {
                    let stream = &batch.documents[document].stream;
                    if !self.holds(stream) {
                        self.hold(stream, refusal(at, trouble, &reason));
                    }
                }
            }
        }
        again
    }

    /// Never to be taken.
    pub(super) fn reject(&mut self, document: usize, reason: String) {
        self.rejected.push(Rejected { document, reason });
    }

    /// A stream's rows have to wait.
    pub(super) fn hold(&mut self, stream: &Arc<StreamName>, failure: Failure) {
        self.held.insert(stream.clone(), failure);
    }

    /// Whether a stream's rows have to wait.
    pub(super) fn holds(&self, stream: &StreamName) -> bool {
        self.held.contains_key(stream)
    }

    /// The streams of these documents have to wait, or it is for good that they were refused.
    pub(super) fn give_up(&mut self, batch: &Batch, documents: Vec<Again>, tries: u32) {
        for Again { document, had_no_room, reason } in documents {
            if had_no_room {
                let stream = batch.documents[document].stream.clone();
                self.held.entry(stream).or_insert_with(|| busy(&reason, tries));
            } else {
                self.reject(document, format!("{reason} ({tries} tries)"));
            }
        }
    }

    /// The whole, when all answers are there; and which documents had been delivered before.
    pub(super) fn outcome(self, batch: &Batch) -> (Outcome, Vec<usize>) {
        let Progress { mut duplicates, mut failure_store, mut rejected, held, retried } = self;
        let goes_on = |document: usize| !held.contains_key(&batch.documents[document].stream);
        let mut total = batch.documents.len();
        if !held.is_empty() {
            duplicates.retain(|document| goes_on(*document));
            failure_store.retain(|document| goes_on(*document));
            rejected.retain(|rejected| goes_on(rejected.document));
            total = (0..total).filter(|document| goes_on(*document)).count();
        }
        rejected.sort_by_key(|rejected| rejected.document);
        let created = total - duplicates.len() - failure_store.len() - rejected.len();
        let held = held.into_iter().map(|(stream, failure)| Held {
            stream,
            reason: failure.message,
            needs_person: failure.needs_person,
        });
        let outcome = Outcome {
            created: created as u64,
            duplicates: duplicates.len() as u64,
            failure_store: failure_store.len() as u64,
            rejected,
            held: held.collect(),
            retried,
        };
        (outcome, duplicates)
    }
}

/// Documents that nothing is wrong with, and that can't go in all the same.
fn refusal(at: &str, trouble: Trouble, reason: &str) -> Failure {
    let message = trouble.message(at, reason);
    Failure { message, needs_person: trouble.needs_person(), unclear: false, status: None }
}

fn busy(reason: &str, tries: u32) -> Failure {
    let message = format!(
        "Elasticsearch had no room for some of its rows in {tries} tries ({reason}); sending goes on later"
    );
    Failure { message, needs_person: false, unclear: false, status: Some(429) }
}
