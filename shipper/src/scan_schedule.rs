//! When to look for new and finished files, beside what inotify tells.

use std::time::{Duration, Instant};

/// They are looked for so often.
const INTERVAL: Duration = Duration::from_secs(2);
/// Where nothing has happened for a while the looks can be as far apart: they are there for what inotify doesn't see.
const QUIET_INTERVAL: Duration = Duration::from_secs(10);
/// So many scans without anything new are a while.
const QUIET_SCANS: u32 = 3;
/// Without inotify the scans are all there is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Folders full of comings and goings are not looked through more often than that.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct ScanSchedule {
    last: Option<Instant>,
    next: Instant,
    /// Scans since something of a foreign file was last sent, or a file came or went.
    quiet: u32,
}

impl ScanSchedule {
    /// The first one is due at once.
    pub(crate) fn new() -> ScanSchedule {
        ScanSchedule { last: None, next: Instant::now(), quiet: 0 }
    }

    pub(crate) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// A scan begins; `is_watched` says whether inotify tells what happens until the next.
    pub(crate) fn begin(&mut self, is_watched: bool) {
        let pause = match is_watched {
            true if self.quiet >= QUIET_SCANS => QUIET_INTERVAL,
            true => INTERVAL,
            false => POLL_INTERVAL,
        };
        self.quiet += 1;
        let now = Instant::now();
        (self.last, self.next) = (Some(now), now + pause);
    }

    /// Something of a foreign file is being sent.
    pub(crate) fn end_quiet(&mut self) {
        self.quiet = 0;
    }

    /// Something happened that a scan has to look at.
    pub(crate) fn hasten(&mut self) {
        self.end_quiet();
        let earliest = self.last.map_or_else(Instant::now, |last| last + MIN_INTERVAL);
        self.next = self.next.min(earliest);
    }
}
