//! Getting batches into the sink, however long that takes: one is on its way, sent by a thread of its own, while the
//! next one is gathered.

use std::collections::HashMap;
use std::mem;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::batch_sizer::BatchSizer;
use crate::dead_letters::DeadLetters;
use crate::handle::Message;
use crate::sink::{Outcome, Sink, SinkError};
use crate::worker::Worker;

/// Buffers below this stay: they are needed again with the next row. In bytes.
const WORTH_GIVING_BACK: usize = 256 << 10;

type SharedSink = Arc<Mutex<Box<dyn Sink>>>;

/// The sink, the batch that is on its way to it, and the one after that.
pub(crate) struct Delivery {
    sink: SharedSink,
    keeps_positions: bool,
    /// The batch that is sent until the sink has taken it.
    current: Option<Arc<Batch>>,
    /// Whether somebody is at it right now.
    busy: bool,
    /// Batches that are not of the files, and are on their way, too.
    aside: usize,
    /// What the sink said to it, so that a failure behind that doesn't send anything twice.
    outcome: Option<Outcome>,
    /// Being gathered.
    pub(crate) next: Batch,
    /// Its memory is used again.
    spare: Batch,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) batch_sizer: BatchSizer,
    backoff: Backoff,
    /// Set between tries.
    retry_at: Option<Instant>,
    /// Generations that the sink need not know any more.
    forgotten: Vec<Arc<str>>,
    worker: Worker<Job>,
    messages: Sender<Message>,
}

/// What the thread that sends is given.
enum Job {
    Batch(Arc<Batch>),
    /// One of somebody who waits until it is delivered for good.
    Aside(Arc<Batch>, Sender<Result<Outcome, SinkError>>),
}

/// What became of a try.
#[derive(Debug)]
pub(crate) struct Sent {
    result: Result<Outcome, SinkError>,
    took: Duration,
}

impl Delivery {
    /// Answers come as messages.
    pub(crate) fn new(
        sink: Box<dyn Sink>,
        dead_letters: DeadLetters,
        backoff: Backoff,
        batch_sizer: BatchSizer,
        messages: Sender<Message>,
    ) -> std::io::Result<Delivery> {
        let keeps_positions = sink.positions().is_some();
        let next = Batch::new(sink.encoder());
        let sink: SharedSink = Arc::new(Mutex::new(sink));
        let thread_sink = sink.clone();
        let worker = Worker::start("send", messages.clone(), move |job| match job {
            Job::Batch(batch) => {
                let start = Instant::now();
                let result = lock(&thread_sink).send(&batch);
                drop(batch);
                Message::Sent(Sent { result, took: start.elapsed() })
            }
            Job::Aside(batch, reply) => {
                let mut sink = lock(&thread_sink);
                let delivered = sink.send(&batch).and_then(|outcome| sink.settle(true).map(|_| outcome));
                drop(sink);
                let rewind = match &delivered {
                    Err(SinkError::Rewind(why)) => Some(SinkError::Rewind(why.clone())),
                    _ => None,
                };
                // Who asked may have given up waiting.
                let _ = reply.send(delivered);
                Message::Delivered(rewind)
            }
        })?;
        Ok(Delivery {
            sink,
            keeps_positions,
            current: None,
            busy: false,
            aside: 0,
            outcome: None,
            spare: next.another(),
            next,
            dead_letters,
            batch_sizer,
            backoff,
            retry_at: None,
            forgotten: Vec::new(),
            worker,
            messages,
        })
    }

    /// The sink, when it is not at work; else after that.
    pub(crate) fn sink(&self) -> MutexGuard<'_, Box<dyn Sink>> {
        lock(&self.sink)
    }

    /// Whether somebody is at the sink.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy || self.aside > 0
    }

    /// Delivers a batch that is not of the files, for who waits for the answer; behind what is under way.
    /// [`Message::Delivered`] tells of it, too.
    pub(crate) fn deliver_aside(&mut self, batch: Arc<Batch>, reply: Sender<Result<Outcome, SinkError>>) {
        self.aside += 1;
        self.worker.give(Job::Aside(batch, reply));
    }

    /// One of those is done with.
    pub(crate) fn delivered_aside(&mut self) {
        self.aside -= 1;
    }

    /// The batch that is on its way, or waits to be tried again.
    pub(crate) fn current(&self) -> Option<&Batch> {
        self.current.as_deref()
    }

    /// Tries the current batch, or else the next one where it holds something. [`Message::Sent`] tells the outcome.
    pub(crate) fn start(&mut self) {
        if self.current.is_none() {
            if self.next.is_empty() {
                return;
            }
            let spare = self.next.another();
            let next = mem::replace(&mut self.next, mem::replace(&mut self.spare, spare));
            self.current = Some(Arc::new(next));
        }
        let Some(batch) = self.current.clone() else { return };
        self.busy = true;
        self.forget_now();
        let known = self.outcome.take();
        let known =
            known.or_else(|| (!self.keeps_positions && batch.documents.is_empty()).then(Outcome::default));
        match known {
            Some(outcome) => {
                let sent = Sent { result: Ok(outcome), took: Duration::ZERO };
                // The loop that takes it owns this.
                let _ = self.messages.send(Message::Sent(sent));
            }
            None => self.worker.give(Job::Batch(batch)),
        }
    }

    /// Takes note of what became of a try; the batch, when it is done with.
    ///
    /// # Errors
    /// When the batch has to be tried again.
    pub(crate) fn finish(&mut self, sent: Sent) -> Result<Option<(Arc<Batch>, Outcome)>, SinkError> {
        self.busy = false;
        let Some(batch) = self.current.take() else { return Ok(None) };
        let outcome = match sent.result {
            Ok(outcome) => outcome,
            Err(error) => {
                if let SinkError::Unavailable(_) = error {
                    self.batch_sizer.pushed_back();
                }
                self.current = Some(batch);
                return Err(error);
            }
        };
        match outcome.retried {
            0 => self.batch_sizer.delivered(batch.body.len(), sent.took),
            _ => self.batch_sizer.pushed_back(),
        }
        if let Err(e) = self.dead_letters.write(&batch, &outcome) {
            (self.outcome, self.current) = (Some(outcome), Some(batch));
            return Err(SinkError::Unavailable(format!(
                "the dead letters in the state folder can't be written: {e}; free some space if the disk is full"
            )));
        }
        Ok(Some((batch, outcome)))
    }

    /// Keeps the memory of a batch that is done with, unless an aborted request still has it.
    pub(crate) fn recycle(&mut self, batch: Arc<Batch>) {
        if let Some(mut batch) = Arc::into_inner(batch) {
            batch.clear();
            self.spare = batch;
        }
    }

    /// Gives memory back that only a backlog needs.
    pub(crate) fn shrink(&mut self) {
        if self.spare.body.capacity().max(self.next.body.capacity()) < WORTH_GIVING_BACK {
            return;
        }
        self.spare = self.next.another();
        if self.next.is_empty() {
            self.next = self.next.another();
        }
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim takes its own locks, touches free memory only, and may be called at any time.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// Takes both batches back.
    pub(crate) fn drop_batches(&mut self) {
        self.next.clear();
        (self.current, self.outcome) = (None, None);
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
        self.sink().positions().unwrap_or_default()
    }

    /// For files that are gone.
    pub(crate) fn forget(&mut self, generations: &[Arc<str>]) {
        self.dead_letters.forget(generations);
        self.forgotten.extend_from_slice(generations);
        // Nobody waits for the sink because of that.
        if !self.is_busy() {
            self.forget_now();
        }
    }

    fn forget_now(&mut self) {
        if !self.forgotten.is_empty() {
            let forgotten = mem::take(&mut self.forgotten);
            self.sink().forget(&forgotten);
        }
    }
}

fn lock(sink: &SharedSink) -> MutexGuard<'_, Box<dyn Sink>> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}
