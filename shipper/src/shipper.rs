//! The loop that ships.

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use kumon_spool::FolderLock;

use crate::backoff::Backoff;
use crate::batch_sizer::BatchSizer;
use crate::checkpoint::Checkpoint;
use crate::checkpoint_writer::{CheckpointWriter, Written};
use crate::dead_letters::DeadLetters;
use crate::delivery::{Delivery, Sent};
use crate::error::ShipperError;
use crate::handle::{Handle, Message};
use crate::ledger::{Cause, Ledger};
use crate::options::Options;
use crate::scan_schedule::{self, ScanSchedule};
use crate::sink::{Sink, SinkError};
use crate::sources::{Sources, SpoolReader, Watcher, bad_pattern};
use crate::sync_requests::{Ends, SyncRequests};
use crate::throttle;

/// A sink that gathers rows is asked so often whether it is time to commit them.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// How the shipper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Bytes that stand in files and were not delivered; they are at the next start.
    pub undelivered: u64,
}

/// The shipper, ready to run in a thread of its own.
pub struct Shipper {
    sources: Sources,
    delivery: Delivery,
    checkpoint_writer: CheckpointWriter,
    ledger: Ledger,
    watcher: Watcher,
    messages: Receiver<Message>,
    /// Kept so that waiting for messages always is waiting, whoever else is gone.
    _sender: Sender<Message>,
    scans: ScanSchedule,
    /// Whether all that the sink has taken is durable.
    settled: bool,
    sync_requests: SyncRequests,
    stop_at: Option<Instant>,
    _lock: FolderLock,
}

impl Shipper {
    /// Takes the state folder and reads where delivery stands.
    ///
    /// # Errors
    /// When another shipper has the folder, or it can't be used.
    pub fn new(options: Options, sink: Box<dyn Sink>) -> Result<(Shipper, Handle), ShipperError> {
        Shipper::beside_others(options, sink, SpoolReader::alone())
    }

    /// The same for one of several shippers that read the same spool in this process, each with a state folder of its own.
    ///
    /// # Errors
    /// As [`Shipper::new`].
    pub fn beside_others(
        options: Options,
        sink: Box<dyn Sink>,
        reader: SpoolReader,
    ) -> Result<(Shipper, Handle), ShipperError> {
        if let Some((pattern, source)) = bad_pattern(&options.inputs) {
            return Err(ShipperError::Pattern { pattern: pattern.to_owned(), source });
        }
        let state = &options.state;
        let lock = FolderLock::take(state).map_err(|e| ShipperError::folder(state, e))?;
        let lock = lock.ok_or_else(|| ShipperError::InUse(state.clone()))?;
        fs::create_dir_all(&options.spool).map_err(|e| ShipperError::folder(&options.spool, e))?;

        let checkpoint = Checkpoint::read(state)?;
        let acknowledged =
            reader.begin(&options.spool, state).map_err(|e| ShipperError::folder(&options.spool, e))?;
        let dead_letters = DeadLetters::open(state, options.dead_letter_bytes)
            .map_err(|e| ShipperError::folder(state, e))?;
        let backoff = Backoff::new(options.retry_initial, options.retry_max);
        let batch_sizer = BatchSizer::new(options.batch_bytes);
        let (sender, messages) = channel();
        let ledger = Ledger::default();
        let handle =
            Handle { messages: sender.clone(), stats: ledger.shared(), encoder: sink.encoder().into() };
        let sources = Sources::new(
            &options,
            checkpoint,
            (reader.clone(), acknowledged),
            sink.positions(),
            sender.clone(),
        );
        let mut checkpoint_writer =
            CheckpointWriter::new(&options, reader, sender.clone()).map_err(ShipperError::Thread)?;
        // Since when they have none is to be kept.
        checkpoint_writer.stale = sources.inputs.files_without_input().is_some();
        let shipper = Shipper {
            sources,
            delivery: Delivery::new(sink, dead_letters, backoff, batch_sizer, sender.clone())
                .map_err(ShipperError::Thread)?,
            checkpoint_writer,
            ledger,
            watcher: Watcher::new(&options.spool, sender.clone()),
            messages,
            _sender: sender,
            scans: ScanSchedule::new(),
            settled: true,
            sync_requests: SyncRequests::default(),
            stop_at: None,
            _lock: lock,
        };
        Ok((shipper, handle))
    }

    /// How long a foreign file whose name is gone is waited for before it counts as ended; a minute unless set.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Shipper {
        self.sources.inputs.linger = linger;
        self
    }

    /// Ships until it is told to stop.
    pub fn run(mut self) -> Ended {
        loop {
            if self.scans.is_due() {
                self.scan();
            }
            self.ship();
            self.settle(self.is_reached());
            self.answer();
            if self.checkpoint_writer.due().is_some_and(|due| Instant::now() >= due) {
                self.checkpoint_writer.write(&self.sources);
            }
            self.publish();
            self.wait();
            if let Some(stop_at) = self.stop_at {
                return self.finish(stop_at);
            }
        }
    }

    /// The last round: what stands in the files now, as far as the time to stop allows.
    fn finish(mut self, mut stop_at: Instant) -> Ended {
        self.sources.inputs.stopping = true;
        self.scan();
        while Instant::now() < stop_at {
            let pause = if self.has_work() || self.delivery.is_busy() || !self.settled {
                self.ship();
                self.settle(!self.has_work());
                if self.delivery.is_busy() { Some(stop_at) } else { self.delivery.waits_until() }
            } else if let Some(retry_at) = self.retry_at() {
                // The sink, or one of its streams, takes nothing: that may be over in time.
                Some(retry_at)
            } else if self.sources.have_more_files() {
                // Each look lets go of some and finds room for others, unless a writer still has the open ones.
                self.scan();
                (!self.has_work()).then(|| Instant::now() + scan_schedule::MIN_INTERVAL)
            } else {
                break;
            };
            self.listen(pause.map(|until| until.min(stop_at)));
            stop_at = stop_at.min(self.stop_at.unwrap_or(stop_at));
        }
        // A request can't be taken back: what it delivers is to be known.
        while self.delivery.is_busy() {
            self.listen(Some(Instant::now() + SETTLE_INTERVAL));
        }
        self.settle(false);
        if !self.sources.spool.reader().is_alone() {
            // Only what is written down is left to others.
            self.save();
        }
        self.let_go();
        self.save();
        self.publish();
        Ended { undelivered: self.sources.lag() }
    }

    /// Looks for new files and lets go of finished ones.
    fn scan(&mut self) {
        throttle::tell_left_out();
        self.scans.begin(self.watcher.works());
        // First: a file whose name is gone may have got another one.
        let folders = self.sources.discover();
        self.let_go();
        if !self.has_work() && !self.delivery.is_busy() {
            self.delivery.shrink();
        }
        if self.watcher.watch(&folders) {
            self.scans.hasten();
        }
    }

    fn let_go(&mut self) {
        let before = self.sources.count();
        let gone = self.sources.let_go();
        self.checkpoint_writer.stale |= !gone.is_empty() || self.sources.count() != before;
        self.delivery.forget(&gone);
    }

    /// Sends what there is, and while that is under way gathers what comes after it.
    fn ship(&mut self) {
        if !self.delivery.is_busy() && self.delivery.waits_until().is_none() {
            if self.delivery.current().is_none() {
                self.gather();
            }
            self.delivery.start();
        }
        if self.delivery.is_busy() && self.delivery.current().is_some_and(|batch| batch.is_foreign) {
            self.scans.end_quiet();
        }
        if self.delivery.is_busy() && self.delivery.next.is_empty() {
            self.gather();
        }
    }

    /// Fills the next batch as far as there is something for it.
    fn gather(&mut self) {
        let rewritten = self.sources.fill(&mut self.delivery.next, self.delivery.batch_sizer.bytes());
        self.delivery.forget(&rewritten);
        if self.sources.inputs.need_recording() && !self.save() {
            self.delivery.next.clear();
            self.sources.unread(self.delivery.current());
        }
    }

    /// The sink has taken the current batch, or not.
    fn sent(&mut self, sent: Sent) {
        match self.delivery.finish(sent) {
            Ok(None) => {}
            Ok(Some((batch, outcome))) => {
                self.ledger.took(&batch, &outcome);
                self.sources.taken(&batch, &outcome);
                if !outcome.held.is_empty() {
                    // It may hold rows behind those that come again.
                    self.delivery.next.clear();
                }
                self.delivery.recycle(batch);
                self.settled = false;
                self.settle(self.is_reached());
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Lets the sink commit, at once when `now` asks for it; what is durable then may be forgotten here.
    fn settle(&mut self, now: bool) {
        if self.settled || self.delivery.is_busy() || self.delivery.waits_until().is_some() {
            return;
        }
        // After a failure only what is durable shows that it is over.
        let settled = self.delivery.sink().settle(now || self.ledger.is_halted(Cause::Sink));
        match settled {
            Ok(false) => {}
            Ok(true) => {
                self.settled = true;
                self.ledger.settled();
                self.checkpoint_writer.stale |= self.sources.acknowledge();
                self.delivery.resume();
                self.ledger.resume(Cause::Sink);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &SinkError) {
        self.ledger.halt(Cause::Sink, error.to_string());
        self.delivery.pause(error);
        if let SinkError::Rewind(_) = error {
            self.delivery.drop_batches();
            // The failure may have come after all had become durable.
            match self.sources.rewind(&self.delivery.positions()) {
                true => self.ledger.settled(),
                false => self.ledger.rewound(),
            }
            self.checkpoint_writer.stale = true;
        }
    }

    /// Writes how far everything is delivered, and waits for it; says whether it is written.
    fn save(&mut self) -> bool {
        let under_way = self.checkpoint_writer.wait();
        self.written(under_way);
        self.checkpoint_writer.write(&self.sources);
        let written = self.checkpoint_writer.wait();
        self.written(written);
        !self.sources.inputs.hold
    }

    /// While nothing can be written, files that must be remembered before they are shipped wait; the others go on, so
    /// that a disk that the spool filled can get empty again.
    fn written(&mut self, written: Option<Written>) {
        let Some(written) = written else { return };
        self.sources.inputs.hold = written.is_err();
        match written {
            Ok(positions) => {
                self.sources.positions_written(&positions);
                self.ledger.resume(Cause::State);
            }
            Err(reason) => self.ledger.halt(Cause::State, reason),
        }
    }

    /// Whether somebody waits for nothing more than that what was taken becomes durable: for then it is all there, or
    /// makes room for files that wait to be opened.
    fn is_reached(&self) -> bool {
        let makes_room = || !self.has_work() && self.sources.have_more_files();
        !self.sync_requests.is_empty()
            && (self.sync_requests.is_any_reached(|ends| self.sources.have_reached(ends)) || makes_room())
    }

    /// Where all files end now, once they are known.
    fn ends(&mut self) -> Option<Ends> {
        if !self.sources.inputs.is_unpacking() {
            self.scan();
        }
        (!self.sources.inputs.is_unpacking()).then(|| self.sources.ends())
    }

    fn answer(&mut self) {
        if self.sync_requests.lack_ends()
            && let Some(ends) = self.ends()
        {
            self.sync_requests.set_ends(&ends);
        }
        let halted = self.ledger.is_halted(Cause::Sink)
            || self.ledger.is_halted(Cause::State)
            || !self.sources.paused.is_empty();
        let is_done = |ends: &Ends| self.settled && self.sources.have_reached(ends);
        self.sync_requests.answer(is_done, halted);
    }

    /// Whether something can be done right now.
    fn has_work(&self) -> bool {
        if self.delivery.is_busy() {
            return self.delivery.next.is_empty() && self.sources.has_more();
        }
        let waits = self.delivery.waits_until().is_some();
        !waits
            && (self.delivery.current().is_some()
                || !self.delivery.next.is_empty()
                || self.sources.has_more())
    }

    /// When something that failed is to be tried again.
    fn retry_at(&self) -> Option<Instant> {
        self.delivery.waits_until().into_iter().chain(self.sources.paused.due()).min()
    }

    /// Heeds what it was told; waits for it when there is nothing to do.
    fn wait(&mut self) {
        if self.has_work() {
            return self.listen(None);
        }
        if self.delivery.waits_until().is_none() && self.sources.have_more_files() {
            self.scans.hasten();
        }
        let settle_at = (!self.settled).then(|| Instant::now() + SETTLE_INTERVAL);
        let due = [self.retry_at(), settle_at, self.checkpoint_writer.due(), self.sources.due()];
        self.listen(Some(due.into_iter().flatten().fold(self.scans.next(), Instant::min)));
    }

    /// Heeds all that it was told until now, and where there is nothing yet, what comes until then.
    fn listen(&mut self, until: Option<Instant>) {
        let wait = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if let Ok(message) = self.messages.recv_timeout(wait) {
            self.handle_message(message);
        }
        while let Ok(message) = self.messages.try_recv() {
            self.handle_message(message);
        }
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Noticed => {
                let noticed = self.watcher.noticed();
                self.sources.inputs.named(noticed.named);
                if self.sources.changed(&noticed.changed) || noticed.names {
                    self.scans.hasten();
                }
            }
            Message::Unpacked => self.scans.hasten(),
            Message::Sent(sent) => self.sent(sent),
            Message::Written => {
                let written = self.checkpoint_writer.written();
                self.written(written);
            }
            // The agent notices that this thread ends.
            Message::Died => panic!("the thread that sends, or writes the checkpoint, died"),
            Message::Sync(reply) => {
                let ends = self.ends();
                self.sync_requests.push(ends, reply);
            }
            Message::Deliver(batch, reply) => self.delivery.deliver_aside(batch, reply),
            Message::Delivered(error) => {
                self.delivery.delivered_aside();
                if let Some(error) = error {
                    self.failed(&error);
                }
            }
            Message::Forget(generations) => self.delivery.forget(&generations),
            Message::Stop(limit) => self.stop_at = Some(Instant::now() + limit),
        }
    }

    fn publish(&self) {
        let (mut stuck, files, lag) = (self.sources.troubles(), self.sources.count(), self.sources.lag());
        stuck.extend(self.watcher.trouble().map(|(folder, why)| (folder.display().to_string(), why.clone())));
        let notes = self.sources.notes();
        self.ledger.tell(|stats| {
            (stats.stuck, stats.files, stats.lag) = (stuck, files, lag);
            stats.held = self.sources.paused.halted();
            stats.notes = notes;
            stats.dead_letters_dropped = self.delivery.dead_letters.dropped;
        });
    }
}
