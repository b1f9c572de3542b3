//! Streams that can't take rows now, while others can.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::backoff::Backoff;
use crate::sink::Held;
use crate::stats::{Halted, own_words};
use crate::stream::StreamName;
use crate::throttle::throttled;

/// The streams whose rows wait in their files.
#[derive(Debug)]
pub(crate) struct PausedStreams {
    streams: HashMap<Arc<StreamName>, Hold>,
    retry_initial: Duration,
    retry_max: Duration,
}

#[derive(Debug)]
struct Hold {
    halted: Halted,
    backoff: Backoff,
    retry_at: Instant,
}

impl PausedStreams {
    pub(crate) fn new(retry_initial: Duration, retry_max: Duration) -> PausedStreams {
        PausedStreams { streams: HashMap::new(), retry_initial, retry_max }
    }

    /// Lets a stream wait; says so once for each reason.
    pub(crate) fn hold(&mut self, held: &Held) {
        let (initial, max) = (self.retry_initial, self.retry_max);
        let hold = self.streams.entry(held.stream.clone()).or_insert_with(|| Hold {
            halted: Halted { since: SystemTime::now(), reason: String::new() },
            backoff: Backoff::new(initial, max),
            retry_at: Instant::now(),
        });
        if hold.halted.is_news(&held.reason) {
            throttled!(
                Error,
                format!("{} halts: {}", held.stream, own_words(&held.reason)),
                "{}: shipping halts, rows wait in their files, other streams go on: {}",
                held.stream,
                held.reason
            );
        }
        hold.halted.reason.clone_from(&held.reason);
        if held.needs_person {
            hold.backoff.slow_down();
        }
        hold.retry_at = Instant::now() + hold.backoff.wait();
    }

    /// The sink took rows of it.
    pub(crate) fn resume(&mut self, stream: &StreamName) {
        if self.streams.is_empty() {
            return;
        }
        if let Some(hold) = self.streams.remove(stream) {
            let seconds = hold.halted.since.elapsed().unwrap_or_default().as_secs();
            throttled!(Info, format!("{stream} goes on"), "{stream}: shipping goes on after {seconds} s");
        }
    }

    /// Whether a stream has to wait.
    pub(crate) fn holds(&self, stream: &StreamName) -> bool {
        !self.streams.is_empty()
            && self.streams.get(stream).is_some_and(|hold| Instant::now() < hold.retry_at)
    }

    /// Whether none has to.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// When the next one that waits is to be tried again.
    pub(crate) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.streams.values().map(|hold| hold.retry_at).filter(|at| *at > now).min()
    }

    /// By stream, since when and why.
    pub(crate) fn halted(&self) -> BTreeMap<String, Halted> {
        self.streams.iter().map(|(stream, hold)| (stream.to_string(), hold.halted.clone())).collect()
    }
}
