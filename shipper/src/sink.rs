//! Where rows are delivered: Elasticsearch or the embedded store.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Batch, Encoder, StreamName};

/// Takes batches in order, from one thread.
pub trait Sink: Send {
    /// Gives rows the form in which this sink takes them in batches.
    fn encoder(&self) -> Box<dyn Encoder>;

    /// Delivers a batch. A repeated delivery of the same documents must not double them.
    ///
    /// # Errors
    /// When nothing, or not everything, of the batch could be delivered now; the shipper waits and sends the same
    /// batch again, until it succeeds or the shipper is stopped.
    fn send(&mut self, batch: &Arc<Batch>) -> Result<Outcome, SinkError>;

    /// Whether all that was sent is durable, so that the files' positions may move. A sink that gathers rows
    /// before it commits them does so here when it is time, or at once when `now` asks for it.
    ///
    /// # Errors
    /// When it could not commit; nothing is lost, the shipper tries again.
    fn settle(&mut self, now: bool) -> Result<bool, SinkError>;

    /// The position of each file (by generation) that the sink itself keeps together with the rows. It is the
    /// truth after a restart. `None` where the shipper's checkpoint is (Elasticsearch).
    fn positions(&self) -> Option<HashMap<Arc<str>, u64>>;

    /// Tells the sink that these generations' files are gone, so that their positions can be forgotten.
    fn forget(&mut self, generations: &[Arc<str>]);
}

/// What became of a batch's documents.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub created: u64,
    /// Were there already: a resend of what had arrived.
    pub duplicates: u64,
    /// Went to the failure store of Elasticsearch (8.19, 9.1 and later).
    pub failure_store: u64,
    /// Never to be taken; the shipper writes them to the dead letters.
    pub rejected: Vec<Rejected>,
    /// Streams that can't take rows now. Their documents are in none of the other counts, whatever became of them:
    /// the shipper sends all of them again.
    pub held: Vec<Held>,
    /// Documents that had to be sent more than once, because the sink had more to do than it could take.
    pub retried: u64,
}

/// A stream that can't take rows now, while others may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub stream: Arc<StreamName>,
    /// What was tried, on what, and what to do.
    pub reason: String,
    /// Whether only a person can help, so that there is no hurry to try again.
    pub needs_person: bool,
}

impl Outcome {
    /// Whether the rows of this stream have to wait.
    pub fn holds(&self, stream: &StreamName) -> bool {
        self.held.iter().any(|held| *held.stream == *stream)
    }
}

/// A document that the sink refuses for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index into the batch's documents.
    pub document: usize,
    pub reason: String,
}

/// Why a sink could not take a batch now. The message says what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Worth trying again by itself: refused connection, time-out, 429, 503, a full disk.
    #[error("{0}")]
    Unavailable(String),
    /// Needs a person: wrong password, missing privilege, expired certificate. Tried again too, but slowly.
    #[error("{0}")]
    Refused(String),
    /// The sink gave up what it had gathered but not made durable (a full disk in a commit). Nothing is lost when
    /// the shipper goes back to [`Sink::positions`] and sends everything after them again; the batch at hand
    /// alone would leave a gap.
    #[error("{0}")]
    Rewind(String),
}
