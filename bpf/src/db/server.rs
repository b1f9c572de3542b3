//! A server that runs: what is attached to it, and when attaching is tried again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libbpf_rs::Link;

use super::NAME;
use super::probes::{self, Obstacle};
use super::servers::{FileId, exe, file_id};
use super::skeleton::DbProgs;

/// How long after the first failure attaching is tried again. After each further one it is twice as long …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … and at most this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// An executable that runs.
pub(super) struct Server {
    path: PathBuf,
    /// Those that run it, at least when it was last looked.
    pub(super) processes: BTreeSet<u32>,
    /// Dropping them detaches. There are none while it is not followed.
    links: Vec<Link>,
    /// When attaching is to be tried; none when it is attached, or never can be.
    next: Option<Instant>,
    /// How often attaching failed.
    failures: u32,
}

impl Server {
    /// One that is to be attached at once.
    pub(super) fn new(path: PathBuf, now: Instant) -> Server {
        Server { path, processes: BTreeSet::new(), links: Vec::new(), next: Some(now), failures: 0 }
    }

    /// Whether one of the processes that were seen is still there.
    pub(super) fn runs(&self, file: FileId) -> bool {
        self.processes.iter().any(|process| file_id(*process) == Some(file))
    }

    /// Whether it is time to attach.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| now >= next)
    }

    /// Tries to attach, through another process each time.
    pub(super) fn follow(&mut self, file: FileId, now: Instant, programs: &DbProgs<'_>) {
        let count = self.processes.len();
        let processes = self.processes.iter().cycle().skip(self.failures as usize % count.max(1)).take(count);
        // Where one ended meanwhile, as those do that set up a server's files, others may run. Where all did, the next
        // poll looks anew.
        let tried = processes.copied().find_map(|process| match probes::attach(&exe(process), programs) {
            Err(_) if file_id(process) != Some(file) => None,
            result => Some((process, result)),
        });
        let Some((process, result)) = tried else { return };
        let path = self.path.display();
        match result {
            Ok(links) => {
                let after = match self.failures {
                    0 => String::new(),
                    failures => format!(", after {failures} failed attempts"),
                };
                log::info!("{NAME}: follows the statements of {path} (process {process}){after}");
                self.links = links;
                self.next = None;
            }
            Err(Obstacle::Lasting(why)) => {
                log::warn!("{NAME}: statements of {path} (process {process}) are not seen: {why}");
                self.next = None;
            }
            Err(Obstacle::Passing(why)) => {
                if self.failures == 0 {
                    log::warn!(
                        "{NAME}: statements of {path} (process {process}) are not seen: {why}; it is tried again, at \
                         least once a minute, and told when it succeeds"
                    );
                }
                self.next = Some(now + pause(self.failures));
                self.failures += 1;
            }
        }
    }

    /// Says that it is followed no more.
    pub(super) fn say_gone(&self) {
        if !self.links.is_empty() {
            log::info!("{NAME}: the last process of {} is gone", self.path.display());
        }
    }
}

/// How long it waits after a failure that so many preceded.
fn pause(failures: u32) -> Duration {
    // So often doubled, it is beyond the limit.
    const ENOUGH: u32 = 6;
    (FIRST_RETRY * (1 << failures.min(ENOUGH))).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::pause;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses = [0, 1, 2, 3, 4, 5, 6, 7, 1_000_000].map(|failures| pause(failures).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
