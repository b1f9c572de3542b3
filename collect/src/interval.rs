//! Intervals of summaries.

use std::time::{Duration, Instant};

use crate::PollContext;

/// Tells when an interval is over.
#[derive(Debug)]
pub struct Interval {
    length: Duration,
    began: Instant,
}

impl Interval {
    /// The first interval begins now.
    pub fn new(length: Duration) -> Interval {
        Interval { length, began: Instant::now() }
    }

    /// When the interval ended (ns since the Unix epoch) and how long it was (ns), where it is over or cut short by the last
    /// poll; the next one begins. Both are those of this moment, not of the poll's `now`, so read right after it: since then
    /// others may have waited for the kernel.
    pub fn over(&mut self, context: &PollContext<'_>) -> Option<(i64, u64)> {
        if context.now.saturating_duration_since(self.began) < self.length && !context.last {
            return None;
        }
        let end = Instant::now();
        let length = end.saturating_duration_since(self.began);
        self.began = end;
        Some((context.clock.now(), length.as_nanos() as u64))
    }
}
