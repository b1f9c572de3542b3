//! Reading on behind a hole.

use std::io;

use super::holes::{Behind, Run};
use super::{Filled, Tail};
use crate::batch::Batch;
use crate::file_position::{FilePosition, WINDOW, Window};
use crate::throttle::throttled;

const CUT: &str = "the record is cut: only NULs follow, where its end was overwritten or never written";

impl Tail {
    /// Moves the buffer's whole records up to the first hole into the batch, until that is full. Answers the hole, where
    /// reading came to one.
    pub(super) fn take_up_to_hole(
        &mut self,
        buffer: &mut Vec<u8>,
        window: &mut Window,
        batch: &mut Batch,
        limit: usize,
        last: bool,
    ) -> Option<Run> {
        let mut of_record = 0;
        loop {
            let run = Run::first(buffer, of_record, self.decoder.unit());
            let end = run.map_or(buffer.len(), |run| run.start);
            let taken = self.take_records(buffer, end, window, batch, limit, last && run.is_none());
            let run = run.map(|run| Run { start: run.start - taken, ..run })?;
            if batch.size() >= limit || self.stuck.is_some() {
                return None;
            }
            if run.start == 0 || !run.is_of_record() {
                return Some(run);
            }
            of_record = run.start + run.length;
        }
    }

    /// Goes on behind a hole, or answers why not now. `over` says that nothing will be written into it.
    pub(super) fn pass_hole(
        &mut self,
        run: Run,
        buffer: &mut Vec<u8>,
        window: &mut Window,
        batch: &mut Batch,
        over: bool,
    ) -> io::Result<Option<Filled>> {
        let from = self.read.offset + run.start as u64;
        let is_final = over || !self.content.is_plain();
        let end = match self.holes.behind(&mut self.content, from, self.known_size, is_final)? {
            Behind::Data(end) => end - (end - from) % self.decoder.unit() as u64,
            Behind::Nothing if over => self.known_size,
            Behind::Nothing => {
                // What is to come stands nowhere yet.
                self.known_size = from;
                return Ok(Some(Filled::End));
            }
            Behind::Unsettled => return Ok(Some(Filled::End)),
            Behind::Unknown => return Ok(Some(Filled::More)),
        };
        if end == from {
            // It was filled meanwhile.
            buffer.clear();
            return Ok(None);
        }
        let whole = Run { length: (end - from) as usize, is_last: end == self.known_size, ..run };
        if run.start > 0 && whole.is_of_record() {
            // It goes on behind the buffer's end.
            return Ok(None);
        }
        self.give_up_cut(run.start, buffer, window, batch);
        if self.stuck.is_some() {
            return Ok(None);
        }
        let file = batch.file(&self.generation, &self.path, self.read);
        window.push(&vec![0; (end - from).min(WINDOW) as usize]);
        self.read = FilePosition { offset: end, fingerprint: window.fingerprint() };
        self.sent = self.sent.or_behind(self.read);
        batch.cover(file, self.read);
        buffer.clear();
        self.decoder.leave_record();
        self.tell_hole(from, end);
        Ok(None)
    }

    /// Takes what stands before a hole: NDJSON shows itself whether it is whole, a value of CSV may be cut.
    fn give_up_cut(
        &mut self,
        mut length: usize,
        buffer: &mut Vec<u8>,
        window: &mut Window,
        batch: &mut Batch,
    ) {
        if self.decoder.shows_ends() {
            self.take_records(buffer, length, window, batch, usize::MAX, true);
            return;
        }
        while length > 0 && self.stuck.is_none() {
            // A quote that was never closed costs its line alone.
            let line = memchr::memchr(b'\n', &buffer[..length]).map_or(length, |end| end + 1);
            self.give_up(buffer[..line].to_vec(), CUT, batch);
            window.push(&buffer[..line]);
            self.read.fingerprint = window.fingerprint();
            buffer.drain(..line);
            length -= line;
            length -= self.take_records(buffer, length, window, batch, usize::MAX, false);
        }
    }

    /// Counts a hole that is passed over, and logs it.
    pub(super) fn tell_hole(&mut self, from: u64, end: u64) {
        if !self.holes.count(from, end) {
            return;
        }
        let (path, length) = (self.path.display(), end - from);
        throttled!(
            Warn,
            "hole",
            "{path}: the {length} bytes from byte {from} on are NULs, left by a truncation or a crash; reading goes \
             on behind them"
        );
    }
}
