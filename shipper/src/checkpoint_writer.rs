//! Writing down how far everything is delivered. A thread of its own does it: a disk that takes its time holds up only
//! the rows that may not be sent before.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use kumon_spool::Acknowledged;

use crate::checkpoint::{Checkpoint, Entry};
use crate::handle::Message;
use crate::options::Options;
use crate::sources::{Sources, SpoolReader};
use crate::worker::Worker;

/// Positions are written at most so often: a stale one costs a resend, which the sink recognises.
const INTERVAL: Duration = Duration::from_secs(1);
/// Soon after the start they are written sooner: so one that is killed over and over makes headway.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);

/// The checkpoint of the foreign files, and the spool's acknowledgements.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    /// Whether they are behind, even when what is being written is there.
    pub(crate) stale: bool,
    next: Instant,
    interval: Duration,
    /// Whether a write is under way. There is one at most: what comes meanwhile is written together.
    writing: bool,
    ended: Receiver<Written>,
    worker: Worker<Positions>,
}

/// How far everything is delivered at a time.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(crate) files: Vec<Entry>,
    pub(crate) acknowledged: Acknowledged,
}

/// What was written; else what was tried, on what, and what to do.
pub(crate) type Written = Result<Positions, String>;

impl CheckpointWriter {
    /// The end of a write shows as a message, too.
    pub(crate) fn new(
        options: &Options,
        reader: SpoolReader,
        messages: Sender<Message>,
    ) -> io::Result<CheckpointWriter> {
        let (state, spool) = (options.state.clone(), options.spool.clone());
        let (report, ended) = channel();
        let worker = Worker::start("record", messages, move |positions| {
            let written = write(&state, &spool, &reader, &positions).map(|()| positions);
            // The shipper may have ended.
            let _ = report.send(written);
            Message::Written
        })?;
        Ok(CheckpointWriter {
            stale: false,
            next: Instant::now(),
            interval: FIRST_INTERVAL,
            writing: false,
            ended,
            worker,
        })
    }

    /// When they are to be written, if they are behind.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.stale && !self.writing).then_some(self.next)
    }

    /// Begins to write them; none may be under way.
    pub(crate) fn write(&mut self, sources: &Sources) {
        (self.stale, self.writing) = (false, true);
        self.next = Instant::now() + self.interval;
        self.interval = (self.interval * 2).min(INTERVAL);
        self.worker.give(sources.positions());
    }

    /// What became of a write that was under way, if it has ended.
    pub(crate) fn written(&mut self) -> Option<Written> {
        let written = self.ended.try_recv().ok()?;
        Some(self.ends(written))
    }

    /// Waits for the one that is under way.
    pub(crate) fn wait(&mut self) -> Option<Written> {
        let died = |_| Err("the thread that writes the checkpoint died".to_owned());
        let written = self.writing.then(|| self.ended.recv().unwrap_or_else(died))?;
        Some(self.ends(written))
    }

    fn ends(&mut self, written: Written) -> Written {
        self.writing = false;
        self.stale |= written.is_err();
        written
    }
}

fn write(state: &Path, spool: &Path, reader: &SpoolReader, positions: &Positions) -> Result<(), String> {
    let failed = |what: &str, folder: &Path, e: io::Error| {
        format!("{}: {what} can't be written: {e}; free some space if the disk is full", folder.display())
    };
    Checkpoint::write(state, &positions.files).map_err(|e| failed("the checkpoint", state, e))?;
    reader
        .acknowledge(spool, state, &positions.acknowledged)
        .map_err(|(folder, e)| failed("the acknowledgements", folder, e))
}
