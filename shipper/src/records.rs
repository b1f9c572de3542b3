//! Writing down how far everything is delivered.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkpoint::Checkpoint;
use crate::options::Options;
use crate::sources::Sources;

/// Positions are written at most so often: a stale one costs a resend, which the sink recognises.
const INTERVAL: Duration = Duration::from_secs(1);
/// Soon after the start they are written sooner: so one that is killed over and over makes headway.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);

/// The checkpoint of the foreign files, and the spool's acknowledgements.
#[derive(Debug)]
pub(crate) struct Records {
    state: PathBuf,
    spool: PathBuf,
    /// Whether they are behind.
    pub(crate) stale: bool,
    next: Instant,
    interval: Duration,
}

impl Records {
    pub(crate) fn new(options: &Options) -> Records {
        let (state, spool) = (options.state.clone(), options.spool.clone());
        Records { state, spool, stale: false, next: Instant::now(), interval: FIRST_INTERVAL }
    }

    /// When they are to be written, if they are behind.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.stale.then_some(self.next)
    }

    /// Writes them; then the spool files' locks can go.
    ///
    /// # Errors
    /// With what was tried, on what, and what to do; they stay behind then.
    pub(crate) fn write(&mut self, sources: &mut Sources) -> Result<(), String> {
        (self.stale, self.next) = (true, Instant::now() + self.interval);
        self.interval = (self.interval * 2).min(INTERVAL);
        let failed = |what: &str, folder: &Path, e: io::Error| {
            format!("{}: {what} can't be written: {e}; free some space if the disk is full", folder.display())
        };
        Checkpoint::write(&self.state, &sources.entries())
            .map_err(|e| failed("the checkpoint", &self.state, e))?;
        let acknowledged = sources.acknowledged().write(&self.spool);
        acknowledged.map_err(|e| failed("the acknowledgements", &self.spool, e))?;
        sources.saved();
        self.stale = false;
        Ok(())
    }
}
