//! Giving memory back.

use std::time::{Duration, Instant};

/// Fetching the memory again costs a commit some milliseconds: too much where commits follow each other closely.
const INTERVAL: Duration = Duration::from_secs(5);

/// Returns the memory that a commit needed to the kernel. tantivy fills 15 MB and more for each commit, on a thread
/// made for it; the C library would keep all of it, in each of its arenas: 40 MB that an idle agent does not need.
#[derive(Default)]
pub(crate) struct Trim {
    given_back: Option<Instant>,
}

impl Trim {
    pub(crate) fn give_back(&mut self) {
        if self.given_back.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        self.given_back = Some(Instant::now());
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim takes its own locks, touches free memory only, and may be called at any time.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
