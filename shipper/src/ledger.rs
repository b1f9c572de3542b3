//! What the shipper tells of itself, kept up to date.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::batch::Batch;
use crate::sink::Outcome;
use crate::stats::{Delivered, Halted, Stats, own_words};
use crate::stream::StreamName;
use crate::throttle::throttled;

/// The running shipper's [`Stats`], shared with whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    stats: Arc<Mutex<Stats>>,
    /// Taken by the sink, but not durable yet.
    pending: Pending,
    /// What keeps rows from being shipped, first the sink, then the state folder.
    halted: [Option<Halted>; 2],
}

#[derive(Debug, Default)]
struct Pending {
    datasets: BTreeMap<String, Delivered>,
    letters: BTreeMap<String, String>,
    duplicates: u64,
    failure_store: u64,
}

/// What can bring shipping to a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Sink,
    /// The state folder can't be written: files whose identity must be remembered first have to wait.
    State,
}

impl Ledger {
    /// For those who ask from other threads.
    pub(crate) fn shared(&self) -> Arc<Mutex<Stats>> {
        self.stats.clone()
    }

    /// Changes what is told.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let before = stats.clone();
        change(&mut stats);
        stats.revision += u64::from(*stats != before);
    }

    /// Counts what the sink took; it shows once it is durable.
    pub(crate) fn took(&mut self, batch: &Batch, outcome: &Outcome) {
        let mut rest = &batch.documents[..];
        while let Some(first) = rest.first() {
            let same =
                rest.iter().take_while(|document| Arc::ptr_eq(&document.stream, &first.stream)).count();
            if !outcome.holds(&first.stream) {
                self.of(&first.stream).created += same as u64;
            }
            rest = &rest[same..];
        }
        for row in batch.undecodable.iter().filter(|row| !outcome.holds(&row.stream)) {
            self.of(&row.stream).dead_letters += 1;
            self.letter(batch, &row.stream, (row.file, row.offset), &row.reason);
        }
        for rejected in &outcome.rejected {
            let row = &batch.documents[rejected.document];
            let delivered = self.of(&row.stream);
            delivered.created -= 1;
            delivered.dead_letters += 1;
            self.letter(batch, &row.stream, (row.file, row.offset), &rejected.reason);
        }
        self.pending.duplicates += outcome.duplicates;
        self.pending.failure_store += outcome.failure_store;
    }

    /// Keeps the last one.
    fn letter(&mut self, batch: &Batch, stream: &StreamName, (file, offset): (usize, u64), reason: &str) {
        let text = format!("{} at byte {offset}: {reason}", batch.paths[file].display());
        self.pending.letters.insert(stream.dataset.clone(), text);
    }

    fn of(&mut self, stream: &StreamName) -> &mut Delivered {
        self.pending.datasets.entry(stream.dataset.clone()).or_default()
    }

    /// All that was taken is durable.
    pub(crate) fn settled(&mut self) {
        let pending = mem::take(&mut self.pending);
        self.tell(|stats| {
            for (dataset, more) in pending.datasets {
                let delivered = stats.datasets.entry(dataset).or_default();
                delivered.created += more.created;
                delivered.dead_letters += more.dead_letters;
            }
            stats.last_letters.extend(pending.letters);
            stats.duplicates += pending.duplicates;
            stats.failure_store += pending.failure_store;
        });
    }

    /// The sink gave up what was not durable; it is taken, and counted, again.
    pub(crate) fn rewound(&mut self) {
        self.pending = Pending::default();
    }

    /// Says once that rows have to wait, and why.
    pub(crate) fn halt(&mut self, cause: Cause, reason: String) {
        let halted = &mut self.halted[cause as usize];
        if halted.as_ref().is_none_or(|halted| halted.is_news(&reason)) {
            let halts = format!("{cause:?} halts: {}", own_words(&reason));
            throttled!(Error, halts, "shipping halts, rows wait in their files: {reason}");
        }
        let since = halted.as_ref().map_or_else(SystemTime::now, |halted| halted.since);
        *halted = Some(Halted { since, reason });
        self.show_halted();
    }

    pub(crate) fn resume(&mut self, cause: Cause) {
        if let Some(halted) = self.halted[cause as usize].take() {
            let seconds = halted.since.elapsed().unwrap_or_default().as_secs();
            throttled!(Info, format!("{cause:?} goes on"), "shipping goes on after {seconds} s");
            self.show_halted();
        }
    }

    pub(crate) fn is_halted(&self, cause: Cause) -> bool {
        self.halted[cause as usize].is_some()
    }

    fn show_halted(&self) {
        self.tell(|stats| stats.halted = self.halted.iter().flatten().next().cloned());
    }
}
