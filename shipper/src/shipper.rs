//! The loop that ships.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kumon_spool::{Acknowledged, FolderLock};

use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::dead_letters::DeadLetters;
use crate::inputs::Inputs;
use crate::options::Options;
use crate::sink::{Outcome, Sink, SinkError};
use crate::source::{Origin, Over, Source};
use crate::spool_files::SpoolFiles;
use crate::stats::{Halted, Stats};
use crate::watch::Watcher;

/// New and finished files are looked for so often, beside what inotify tells.
const SCAN_INTERVAL: Duration = Duration::from_secs(2);
/// Without inotify the scans are all there is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Positions are written at most so often: a stale one costs a resend, which the sink recognises.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum Message {
    Changed(Vec<PathBuf>),
    Sync(Sender<bool>),
    Stop(Duration),
}

/// Why the shipper could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ShipperError {
    #[error("{}: another shipper uses this state folder; stop it, or give this one its own path.state", .0.display())]
    InUse(PathBuf),
    #[error("{}: {source}; the folder must be readable and writable for the user that ships", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Checkpoint(String),
}

impl From<CheckpointError> for ShipperError {
    fn from(e: CheckpointError) -> ShipperError {
        ShipperError::Checkpoint(e.to_string())
    }
}

/// How the shipper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Bytes that stand in files and were not delivered; they are at the next start.
    pub undelivered: u64,
}

/// Talks to a running shipper from other threads.
#[derive(Debug, Clone)]
pub struct Handle {
    messages: Sender<Message>,
    stats: Arc<Mutex<Stats>>,
}

impl Handle {
    /// Ships what stands in the files now and makes it durable; false when that wasn't possible within `limit`.
    pub fn sync(&self, limit: Duration) -> bool {
        let (reply, answer) = channel();
        self.messages.send(Message::Sync(reply)).is_ok() && answer.recv_timeout(limit).unwrap_or(false)
    }

    /// Ends the shipper, which may take `limit` to deliver what stands in the files.
    pub fn stop(&self, limit: Duration) {
        // It has ended by itself if it doesn't listen any more.
        let _ = self.messages.send(Message::Stop(limit));
    }

    /// The shipper's ledger as of its last round.
    pub fn stats(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The shipper, ready to run in a thread of its own.
pub struct Shipper {
    options: Options,
    sink: Box<dyn Sink>,
    keeps_positions: bool,
    sources: Vec<Source>,
    spool_files: SpoolFiles,
    inputs: Inputs,
    watcher: Watcher,
    dead_letters: DeadLetters,
    messages: Receiver<Message>,
    stats: Arc<Mutex<Stats>>,
    batch: Batch,
    backoff: Backoff,
    next_scan: Instant,
    next_save: Instant,
    unsaved: bool,
    settled: bool,
    waiting_for_sync: Vec<Sender<bool>>,
    stop_at: Option<Instant>,
    _lock: FolderLock,
}

/// What became of an attempt to deliver.
enum Delivery {
    Done,
    /// The sink fell back to its durable positions.
    Rewound,
    /// It is time to stop.
    GivenUp,
}

impl Shipper {
    /// Takes the state folder and reads where delivery stands.
    ///
    /// # Errors
    /// When another shipper has the folder, or it can't be used.
    pub fn new(options: Options, sink: Box<dyn Sink>) -> Result<(Shipper, Handle), ShipperError> {
        let state = &options.state;
        let lock = FolderLock::take(state).map_err(|e| folder(state, e))?;
        let lock = lock.ok_or_else(|| ShipperError::InUse(state.clone()))?;
        fs::create_dir_all(&options.spool).map_err(|e| folder(&options.spool, e))?;

        let positions = sink.positions();
        let keeps_positions = positions.is_some();
        let checkpoint = Checkpoint::read(state)?;
        let (sender, messages) = channel();
        let stats = Arc::new(Mutex::new(Stats::default()));
        let handle = Handle { messages: sender.clone(), stats: stats.clone() };
        let now = Instant::now();
        let shipper = Shipper {
            spool_files: SpoolFiles::new(&options.spool, &options.namespace, positions.clone()),
            inputs: Inputs::new(&options, checkpoint.files, positions),
            watcher: Watcher::new(sender),
            dead_letters: DeadLetters::new(state),
            backoff: Backoff::new(options.retry_initial, options.retry_max),
            options,
            sink,
            keeps_positions,
            sources: Vec::new(),
            messages,
            stats,
            batch: Batch::default(),
            next_scan: now,
            next_save: now,
            unsaved: false,
            settled: true,
            waiting_for_sync: Vec::new(),
            stop_at: None,
            _lock: lock,
        };
        Ok((shipper, handle))
    }

    /// Ships until it is told to stop.
    pub fn run(mut self) -> Ended {
        while self.stop_at.is_none() {
            if Instant::now() >= self.next_scan {
                self.scan();
            }
            self.ship();
            let asked = mem::take(&mut self.waiting_for_sync);
            self.settle(!asked.is_empty());
            for reply in asked {
                // Who asked may have given up waiting.
                let _ = reply.send(self.settled && !self.has_more());
            }
            self.publish();
            self.wait();
        }
        self.finish()
    }

    /// The last round: what stands in the files now, as far as the time to stop allows.
    fn finish(mut self) -> Ended {
        self.scan();
        self.sources.iter_mut().for_each(|source| source.dirty = true);
        self.ship();
        self.settle(true);
        self.scan();
        self.save();
        self.publish();
        Ended { undelivered: self.sources.iter().map(Source::lag).sum() }
    }

    /// Looks for new files and lets go of finished ones.
    fn scan(&mut self) {
        let pause = if self.watcher.works() { SCAN_INTERVAL } else { POLL_INTERVAL };
        self.next_scan = Instant::now() + pause;
        for folder in self.spool_files.folders().iter().chain(&self.inputs.folders()) {
            self.watcher.add(folder);
        }
        self.let_go();

        let known: HashSet<Arc<str>> =
            self.sources.iter().map(|source| source.generation().clone()).collect();
        match self.spool_files.discover(&known) {
            Ok(found) => self.sources.extend(found),
            Err(e) => log::error!("{}: the spool can't be listed: {e}", self.options.spool.display()),
        }
        let foreign = self.inputs.discover(&mut self.sources);
        if !foreign.is_empty() {
            self.sources.extend(foreign);
            // Generations must be durable before the first send under them.
            self.save();
        }
        for source in &mut self.sources {
            source.dirty |= source.tail.size().is_ok_and(|size| size != source.tail.read);
        }
    }

    /// Delivers until there is nothing left to read.
    fn ship(&mut self) {
        while self.has_more() && self.stop_at.is_none_or(|at| Instant::now() < at) {
            self.fill();
            if self.batch.is_empty() {
                continue;
            }
            match self.deliver() {
                Delivery::Done => {}
                Delivery::Rewound => self.rewind(),
                Delivery::GivenUp => return,
            }
            self.settle(false);
        }
    }

    fn has_more(&self) -> bool {
        self.sources.iter().any(|source| source.dirty && source.tail.stuck.is_none())
    }

    /// Fills the batch from all files in turn, so that a backlog in one doesn't hold up the others.
    fn fill(&mut self) {
        self.batch.clear();
        let whole = self.options.batch_bytes;
        let share = whole / 4;
        let mut renewed = false;
        while self.batch.body.len() < whole {
            let before = self.batch.body.len();
            for source in self.sources.iter_mut().filter(|source| source.dirty && source.tail.stuck.is_none())
            {
                let generation = source.generation().clone();
                let limit = whole.min(self.batch.body.len() + share);
                if let Err(e) = source.fill(&mut self.batch, limit) {
                    log::error!("{}: can't be read: {e}", source.tail.path.display());
                    source.tail.stuck = Some(format!("can't be read: {e}"));
                }
                source.changed = Instant::now();
                renewed |= *source.generation() != generation;
            }
            if self.batch.body.len() == before {
                break;
            }
        }
        // The next files to begin with are others.
        if let Some(last) = self.sources.len().checked_sub(1) {
            self.sources.swap(0, last);
        }
        if renewed {
            self.save();
        }
    }

    /// Delivers the batch; waits and tries again for as long as it takes.
    fn deliver(&mut self) -> Delivery {
        let mut outcome = None;
        loop {
            let result = self.try_to_deliver(&mut outcome);
            let Err(error) = result else {
                self.resume();
                return Delivery::Done;
            };
            if let SinkError::Rewind(reason) = error {
                self.halt(&reason);
                let pause = self.backoff.wait();
                return if self.rest(pause) { Delivery::Rewound } else { Delivery::GivenUp };
            }
            if let SinkError::Refused(_) = error {
                self.backoff.slow_down();
            }
            self.halt(&error.to_string());
            let pause = self.backoff.wait();
            if !self.rest(pause) {
                return Delivery::GivenUp;
            }
        }
    }

    /// One try. `outcome` keeps what the sink said, so that a failure behind it doesn't send anything twice.
    fn try_to_deliver(&mut self, outcome: &mut Option<Outcome>) -> Result<(), SinkError> {
        if outcome.is_none() {
            let needed = self.keeps_positions || !self.batch.documents.is_empty();
            *outcome = Some(if needed { self.sink.send(&self.batch)? } else { Outcome::default() });
            self.settled = false;
        }
        let Some(known) = outcome else { unreachable!("set above") };
        self.write_dead_letters(known).map_err(|e| {
            let folder = self.options.state.join("dead-letters");
            SinkError::Unavailable(format!("{}: dead letters can't be written: {e}", folder.display()))
        })?;
        self.count(known);
        for (generation, end) in &self.batch.positions {
            let source = self.sources.iter_mut().find(|source| source.generation() == generation);
            if let Some(source) = source {
                source.tail.delivered = *end;
            }
        }
        Ok(())
    }

    fn write_dead_letters(&self, outcome: &Outcome) -> io::Result<()> {
        let file_of = |generation: &str| {
            let source = self.sources.iter().find(|source| **source.generation() == *generation);
            source.map_or_else(String::new, |source| source.tail.path.display().to_string())
        };
        self.dead_letters.write(&self.batch, outcome, file_of)
    }

    fn count(&self, outcome: &Outcome) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for document in &self.batch.documents {
            stats.datasets.entry(document.stream.dataset.clone()).or_default().created += 1;
        }
        for row in &self.batch.undecodable {
            stats.datasets.entry(row.stream.dataset.clone()).or_default().dead_letters += 1;
        }
        for rejected in &outcome.rejected {
            let dataset = &self.batch.documents[rejected.document].stream.dataset;
            let delivered = stats.datasets.entry(dataset.clone()).or_default();
            delivered.created -= 1;
            delivered.dead_letters += 1;
        }
        stats.duplicates += outcome.duplicates;
    }

    /// Lets the sink commit; what is durable then may be forgotten here.
    fn settle(&mut self, now: bool) {
        match self.sink.settle(now) {
            Ok(false) => {}
            Ok(true) => {
                self.settled = true;
                for source in &mut self.sources {
                    self.unsaved |= source.tail.acknowledged != source.tail.delivered;
                    source.tail.acknowledged = source.tail.delivered;
                }
            }
            Err(error) => {
                self.halt(&error.to_string());
                if let SinkError::Rewind(_) = error {
                    self.rewind();
                }
                let pause = self.backoff.wait();
                self.rest(pause);
            }
        }
        if self.unsaved && (now || Instant::now() >= self.next_save) {
            self.save();
        }
    }

    /// Goes back to what the sink holds for good.
    fn rewind(&mut self) {
        let positions = self.sink.positions().unwrap_or_default();
        for source in &mut self.sources {
            source.rewind(positions.get(source.generation()).copied().unwrap_or(0));
        }
    }

    /// Writes how far everything is delivered; then the files' locks can go.
    fn save(&mut self) {
        self.next_save = Instant::now() + SAVE_INTERVAL;
        let foreign = self.sources.iter().filter_map(Source::entry);
        let entries = foreign.chain(self.inputs.remembered().iter().cloned()).collect();
        if let Err(e) = Checkpoint::write(&self.options.state, entries) {
            log::error!("{}: the checkpoint can't be written: {e}", self.options.state.display());
            return;
        }
        let mut acknowledged = Acknowledged::default();
        for source in &self.sources {
            if let Origin::Spool { name, .. } = &source.origin {
                acknowledged.0.insert(name.to_string(), source.tail.acknowledged);
            }
        }
        if let Err(e) = acknowledged.write(&self.options.spool) {
            log::error!("{}: the acknowledgements can't be written: {e}", self.options.spool.display());
            return;
        }
        self.unsaved = false;
        self.sources.iter_mut().for_each(Source::release);
    }

    /// Deletes spool files that are closed and delivered, and closes foreign ones that are gone and delivered.
    fn let_go(&mut self) {
        let mut forgotten = Vec::new();
        let mut rests = Vec::new();
        self.sources.retain_mut(|source| match source.is_over() {
            Ok(Over::No) => true,
            Ok(Over::Rest) => {
                rests.push(source.generation().clone());
                true
            }
            Ok(Over::Yes) => {
                forgotten.push(source.generation().clone());
                false
            }
            Err(e) => {
                log::warn!("{}: {e}", source.tail.path.display());
                true
            }
        });
        if !forgotten.is_empty() {
            self.sink.forget(&forgotten);
            self.unsaved = true;
        }
        for generation in rests {
            self.ship_rest(&generation);
        }
    }

    /// Ships the end of a file that will not grow, what stands behind the last line end included.
    fn ship_rest(&mut self, generation: &Arc<str>) {
        let Some(source) = self.sources.iter_mut().find(|source| source.generation() == generation) else {
            return;
        };
        self.batch.clear();
        match source.fill_rest(&mut self.batch, self.options.batch_bytes) {
            Ok(()) if self.batch.is_empty() => {}
            Ok(()) => match self.deliver() {
                Delivery::Done | Delivery::GivenUp => {}
                Delivery::Rewound => self.rewind(),
            },
            Err(e) => log::error!("{}: can't be read: {e}", source.tail.path.display()),
        }
    }

    /// Waits for something to do.
    fn wait(&mut self) {
        let now = Instant::now();
        let until_scan = self.next_scan.saturating_duration_since(now);
        let pause = if self.settled && !self.unsaved { until_scan } else { until_scan.min(SAVE_INTERVAL) };
        if let Ok(message) = self.messages.recv_timeout(pause) {
            self.heed(message);
        }
        while let Ok(message) = self.messages.try_recv() {
            self.heed(message);
        }
    }

    /// Waits out a pause between tries; false when it is time to give up.
    fn rest(&mut self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            let end = self.stop_at.map_or(end, |stop| stop.min(end));
            let left = end.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(Message::Sync(reply)) => {
                    let _ = reply.send(false);
                }
                Ok(message) => self.heed(message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.stop_at.is_none_or(|at| Instant::now() < at)
    }

    fn heed(&mut self, message: Message) {
        match message {
            Message::Changed(paths) => paths.iter().for_each(|path| self.changed(path)),
            Message::Sync(reply) => {
                self.sources.iter_mut().for_each(|source| source.dirty = true);
                self.next_scan = Instant::now();
                self.waiting_for_sync.push(reply);
            }
            Message::Stop(limit) => self.stop_at = Some(Instant::now() + limit),
        }
    }

    fn changed(&mut self, path: &PathBuf) {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        match self.sources.iter_mut().find(|source| source.tail.path == *path) {
            Some(source) => source.dirty = true,
            // KuMon's own bookkeeping in the spool.
            None if hidden && path.starts_with(&self.options.spool) => {}
            None => self.next_scan = Instant::now(),
        }
    }

    /// Says once that nothing is shipped, and why.
    fn halt(&self, reason: &str) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let since = stats.halted.as_ref().map(|halted| halted.since);
        if stats.halted.as_ref().is_none_or(|halted| halted.reason != reason) {
            log::error!("shipping halts, rows wait in their files: {reason}");
        }
        stats.halted =
            Some(Halted { since: since.unwrap_or_else(SystemTime::now), reason: reason.to_owned() });
    }

    fn resume(&mut self) {
        self.backoff.reset();
        let halted = self.stats.lock().unwrap_or_else(PoisonError::into_inner).halted.take();
        if let Some(halted) = halted {
            let seconds = halted.since.elapsed().unwrap_or_default().as_secs();
            log::info!("shipping goes on after {seconds} s");
        }
    }

    fn publish(&self) {
        let stuck = self
            .sources
            .iter()
            .filter_map(|source| Some((source.tail.path.display().to_string(), source.tail.stuck.clone()?)));
        let (stuck, lag) = (stuck.collect(), self.sources.iter().map(Source::lag).sum());
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.stuck = stuck;
        stats.files = self.sources.len();
        stats.lag = lag;
    }
}

fn folder(path: &std::path::Path, source: io::Error) -> ShipperError {
    ShipperError::Folder { path: path.to_owned(), source }
}
