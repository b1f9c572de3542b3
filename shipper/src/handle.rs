//! Talking to the loop that ships, from other threads.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::Batch;
use crate::delivery::Sent;
use crate::encoder::Encoder;
use crate::sink::{Outcome, SinkError};
use crate::stats::Stats;

/// Talks to a running shipper from other threads.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) messages: Sender<Message>,
    pub(crate) stats: Arc<Mutex<Stats>>,
    /// The sink's.
    pub(crate) encoder: Arc<dyn Encoder>,
}

impl Handle {
    /// Ships what stands in the files now and makes it durable; false when that wasn't possible within `limit`.
    pub fn sync(&self, limit: Duration) -> bool {
        let (reply, answer) = channel();
        self.messages.send(Message::Sync(reply)).is_ok() && answer.recv_timeout(limit).unwrap_or(false)
    }

    /// Delivers a batch that is not of the shipper's files, durably.
    pub(crate) fn deliver(&self, batch: Batch) -> Result<Outcome, SinkError> {
        let (reply, answer) = channel();
        let ended = || SinkError::Unavailable("the shipper has ended; start it again".into());
        self.messages.send(Message::Deliver(batch.into(), reply)).map_err(|_| ended())?;
        answer.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Lets the sink forget generations that [`Handle::deliver`] named.
    pub(crate) fn forget(&self, generations: Vec<Arc<str>>) {
        // A shipper that has ended leaves them to nobody.
        let _ = self.messages.send(Message::Forget(generations));
    }

    /// Ends the shipper, which may take `limit` to deliver what stands in the files.
    pub fn stop(&self, limit: Duration) {
        // It has ended by itself if it doesn't listen any more.
        let _ = self.messages.send(Message::Stop(limit));
    }

    /// The shipper's ledger as of its last round.
    pub fn stats(&self) -> Stats {
        self.lock().clone()
    }

    /// [`Stats::revision`], without the rest: whether it is worth asking for.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened to files or folders: the [`Watcher`](crate::sources::Watcher) knows what.
    Noticed,
    /// What a compressed file holds is known by now.
    Unpacked,
    Sync(Sender<bool>),
    /// The sink has taken the batch, or not.
    Sent(Sent),
    /// What was to be written down is, or can't be: [`CheckpointWriter`](crate::checkpoint_writer::CheckpointWriter) knows.
    Written,
    /// A thread that sends, or writes down, died of a bug.
    Died,
    Deliver(Arc<Batch>, Sender<Result<Outcome, SinkError>>),
    /// What was to be delivered beside the files' rows is, or the sink has to be started anew.
    Delivered(Option<SinkError>),
    Forget(Vec<Arc<str>>),
    Stop(Duration),
}
