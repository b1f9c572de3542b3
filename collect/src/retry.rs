//! When a collector that is not at work is started again.

use std::time::{Duration, Instant};

use crate::Health;

/// A collector that could not be started is tried again after this, and twice as long after each further failure …
const FIRST: Duration = Duration::from_secs(5);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(600);

/// A collector that is not at work: what it lacked may have come meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Retry {
    reason: String,
    pub(crate) next: Instant,
    pause: Duration,
}

impl Retry {
    /// After its first failure, which is logged.
    pub(crate) fn after(collector: &str, reason: String) -> Retry {
        log::error!("the collector {collector} is left out: {reason}; it is tried again");
        Retry { reason, next: Instant::now() + FIRST, pause: FIRST }
    }

    /// After a failure at work, with what is known of the last one: a collector that worked for less than its last pause
    /// fails again.
    pub(crate) fn at_work(last: Option<Retry>, collector: &str, reason: String) -> Retry {
        match last {
            Some(mut retry) if Instant::now() < retry.next + retry.pause => {
                retry.failed_again(collector, reason);
                retry
            }
            _ => Retry::after(collector, reason),
        }
    }

    /// After another one, which is logged where it is a new one.
    pub(crate) fn failed_again(&mut self, collector: &str, reason: String) {
        if reason != self.reason {
            log::error!("the collector {collector} is still left out: {reason}");
        }
        self.pause = (self.pause * 2).min(LONGEST);
        (self.reason, self.next) = (reason, Instant::now() + self.pause);
    }

    pub(crate) fn health(&self) -> Health {
        Health::Failed { reason: self.reason.clone(), next_try: self.next }
    }
}
