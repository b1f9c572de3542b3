//! Getting a batch into the sink, however long that takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::dead_letters::DeadLetters;
use crate::sink::{Outcome, Sink, SinkError};

/// The sink, and the one batch that is on its way.
pub(crate) struct Delivery {
    pub(crate) sink: Box<dyn Sink>,
    keeps_positions: bool,
    /// Empty when none is on its way.
    pub(crate) batch: Batch,
    /// What the sink said to it, so that a failure behind that doesn't send anything twice.
    outcome: Option<Outcome>,
    pub(crate) dead_letters: DeadLetters,
    backoff: Backoff,
    /// Set between tries.
    retry_at: Option<Instant>,
}

impl Delivery {
    pub(crate) fn new(sink: Box<dyn Sink>, dead_letters: DeadLetters, backoff: Backoff) -> Delivery {
        let keeps_positions = sink.positions().is_some();
        Delivery {
            sink,
            keeps_positions,
            batch: Batch::default(),
            outcome: None,
            dead_letters,
            backoff,
            retry_at: None,
        }
    }

    /// Tries once. The batch is the next one's when that succeeds.
    pub(crate) fn attempt(&mut self) -> Result<Outcome, SinkError> {
        let outcome = match self.outcome.take() {
            Some(outcome) => outcome,
            None if self.keeps_positions || !self.batch.documents.is_empty() => {
                self.sink.send(&self.batch)?
            }
            None => Outcome::default(),
        };
        if let Err(e) = self.dead_letters.write(&self.batch, &outcome) {
            self.outcome = Some(outcome);
            return Err(SinkError::Unavailable(format!(
                "the dead letters in the state folder can't be written: {e}; free some space if the disk is full"
            )));
        }
        Ok(outcome)
    }

    /// Takes the batch back.
    pub(crate) fn drop_batch(&mut self) {
        self.batch.clear();
        self.outcome = None;
    }

    /// Puts off the next try.
    pub(crate) fn pause(&mut self, error: &SinkError) {
        if let SinkError::Refused(_) = error {
            self.backoff.slow_down();
        }
        self.retry_at = Some(Instant::now() + self.backoff.wait());
    }

    /// When the next try is due, if that is later than now.
    pub(crate) fn waits_until(&self) -> Option<Instant> {
        self.retry_at.filter(|at| Instant::now() < *at)
    }

    /// After a success.
    pub(crate) fn resume(&mut self) {
        self.backoff.reset();
        self.retry_at = None;
    }

    /// The positions that the sink holds for good.
    pub(crate) fn positions(&self) -> HashMap<Arc<str>, u64> {
        self.sink.positions().unwrap_or_default()
    }

    /// For files that are gone.
    pub(crate) fn forget(&mut self, generations: &[Arc<str>]) {
        if !generations.is_empty() {
            self.sink.forget(generations);
            self.dead_letters.forget(generations);
        }
    }
}
