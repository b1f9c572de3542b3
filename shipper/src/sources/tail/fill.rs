//! Moving a file's rows into batches.

use std::{io, mem};

use super::{CHUNK, Tail};
use crate::batch::{Batch, Undecodable};
use crate::content::Kind;
use crate::decode::{Step, Unreadable};
use crate::file_position::{FilePosition, Window};
use crate::throttle::throttled;

/// So much is read of a file at once, before it is another one's turn, even if no row comes of it. In bytes.
const TURN: u64 = 2 << 20;

/// How far filling a batch came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The batch is full.
    More,
    /// The file's end, or what is not yet a whole record.
    End,
    /// The file holds other content than what was read of it.
    Rewritten,
}

impl Tail {
    /// Appends rows to the batch until it holds `limit` bytes or the file's end is reached. With `last` a record
    /// without line end counts as a record.
    pub(crate) fn fill(&mut self, batch: &mut Batch, limit: usize, last: bool) -> io::Result<Filled> {
        if self.rewritable && self.read.offset == 0 {
            match self.content.kind()? {
                Kind::Plain => {}
                Kind::Open if last => {}
                Kind::Open => return Ok(Filled::End),
                Kind::Gzip | Kind::Other(_) => return Ok(Filled::Rewritten),
            }
        }
        let mut buffer = Vec::new();
        let mut window = self.known_window()?;
        let start = self.read.offset;
        while self.stuck.is_none() {
            let at_end = self.read_chunk(&mut buffer)? == 0;
            // Asked behind each read: what was read then comes from the content that it goes on from.
            if self.rewritable && self.content.is_plain() {
                match self.read.window(&mut self.content)? {
                    Some(same) if self.evidence_stands()? => window = same,
                    _ => return Ok(Filled::Rewritten),
                }
            }
            batch.make_room(limit);
            match self.begins(&buffer, last && at_end) {
                Some(true) => {}
                Some(false) if !at_end => continue,
                _ => break,
            }
            let hole = self.take_up_to_hole(&mut buffer, &mut window, batch, limit, last && at_end);
            let filled = match hole {
                _ if batch.size() >= limit || self.read.offset - start >= TURN => Some(Filled::More),
                _ if mem::take(&mut self.is_long) => self.pass_long(&mut buffer, &mut window, batch, last),
                Some(hole) => self.pass_hole(hole, &mut buffer, &mut window, batch, last)?,
                None => at_end.then_some(Filled::End),
            };
            if let Some(filled) = filled {
                self.window = Some(window);
                return Ok(filled);
            }
        }
        self.window = Some(window);
        Ok(Filled::End)
    }

    /// Whether the file's beginning, if reading stands there, tells what it holds; `None` where that can't be decoded.
    fn begins(&mut self, buffer: &[u8], last: bool) -> Option<bool> {
        if self.read.offset > 0 {
            return Some(true);
        }
        self.decoder.begins(buffer, last).map_err(|unreadable| self.get_stuck(&unreadable)).ok()
    }

    fn get_stuck(&mut self, unreadable: &Unreadable) {
        let path = self.path.display();
        throttled!(
            Error,
            format!("stuck: {unreadable}"),
            "{path}: {unreadable}; the file is kept and not shipped"
        );
        self.stuck = Some(unreadable.to_string());
    }

    /// Plain files are asked anew with each read, and spool files need none.
    fn known_window(&mut self) -> io::Result<Window> {
        match self.window.take() {
            None if !self.content.is_plain() => Ok(self.read.window(&mut self.content)?.unwrap_or_default()),
            known => Ok(known.unwrap_or_default()),
        }
    }

    fn read_chunk(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let have = buffer.len();
        let from = self.read.offset + have as u64;
        self.known_size = self.size()?;
        let there = self.known_size.saturating_sub(from);
        buffer.resize(have + CHUNK.min(there as usize), 0);
        let read = self.content.read_at(&mut buffer[have..], from)?;
        buffer.truncate(have + read);
        Ok(read)
    }

    /// Moves whole records of the buffer's first `end` bytes into the batch, until it is full; answers their length.
    pub(super) fn take_records(
        &mut self,
        buffer: &mut Vec<u8>,
        end: usize,
        window: &mut Window,
        batch: &mut Batch,
        limit: usize,
        last: bool,
    ) -> usize {
        let files = batch.positions.len();
        let file = batch.file(&self.generation, &self.path, self.read);
        let mut at = 0;
        while batch.size() < limit {
            let Some(used) = self.take_record(&buffer[at..end], batch, file, last) else { break };
            at += used;
            self.read.offset += used as u64;
        }
        if at == 0 && file == files {
            // It has nothing in this batch.
            batch.drop_last_file();
            return 0;
        }
        window.push(&buffer[..at]);
        self.read.fingerprint = window.fingerprint();
        self.sent = self.sent.or_behind(self.read);
        batch.cover(file, self.read);
        buffer.drain(..at);
        at
    }

    /// Gives up the record at the beginning of the buffer, which is too long to stand in memory, and goes on behind it;
    /// or answers that its end isn't there yet.
    fn pass_long(
        &mut self,
        buffer: &mut Vec<u8>,
        window: &mut Window,
        batch: &mut Batch,
        last: bool,
    ) -> Option<Filled> {
        let (content, offset) = (&mut self.content, self.read.offset);
        let skipped = self.decoder.skip_long(buffer, last, &mut |buffer, at| content.read_at(buffer, at));
        // Asked before anything is done: a file that can't be read now is tried again.
        let Ok(Step::Bad(used, reason)) = skipped else { return Some(Filled::End) };
        let Ok(Some(mark)) = FilePosition::of(content, offset + used as u64) else {
            return Some(Filled::End);
        };
        let Ok(Some(behind)) = mark.window(content) else { return Some(Filled::End) };
        let file = batch.file(&self.generation, &self.path, self.read);
        let (stream, record) = (self.stream.clone(), buffer[..used.min(buffer.len())].to_vec());
        batch.push_undecodable(Undecodable { stream, file, offset, record, reason });
        (self.read, *window) = (mark, behind);
        self.sent = self.sent.or_behind(self.read);
        batch.cover(file, self.read);
        buffer.clear();
        None
    }

    /// Appends the first record; the bytes it took, or `None` when there is no whole one or the file is stuck.
    fn take_record(&mut self, bytes: &[u8], batch: &mut Batch, file: usize, last: bool) -> Option<usize> {
        let (offset, decoder) = (self.read.offset, &mut self.decoder);
        let step = batch.add_row(&self.stream, file, offset, |row| {
            let step = decoder.step(bytes, offset, last, row);
            let is_row = matches!(step, Ok(Step::Row(_)));
            (step, is_row)
        });
        match step {
            Ok(Step::Row(used) | Step::Nothing(used)) => Some(used),
            Ok(Step::TooLong) => {
                self.is_long = true;
                None
            }
            Ok(Step::Bad(used, reason)) => {
                let (stream, record) = (self.stream.clone(), self.decoder.text(&bytes[..used]));
                batch.push_undecodable(Undecodable { stream, file, offset, record, reason });
                Some(used)
            }
            Ok(Step::Incomplete) => None,
            Err(unreadable) => {
                self.get_stuck(&unreadable);
                None
            }
        }
    }

    /// The rest of a file that its writer closed, or died on, within a record: it is no row and never will be.
    pub(crate) fn give_up_rest(&mut self, batch: &mut Batch) -> io::Result<()> {
        let (size, start) = (self.size()?, self.read.offset);
        let mut record = Vec::new();
        let is_whole = loop {
            let have = record.len();
            let rest = size.saturating_sub(start + have as u64);
            record.resize(have + CHUNK.min(rest as usize), 0);
            self.content.read_exact_at(&mut record[have..], start + have as u64)?;
            // A power cut leaves NULs.
            if let Some(hole) = memchr::memchr(0, &record[have..]) {
                record.truncate(have + hole);
                break false;
            }
            if record.len() == have {
                break true;
            }
        };
        if !record.is_empty() {
            self.give_up(record, "the record is cut: its writer ended in the middle of it", batch);
        }
        if !is_whole {
            self.tell_hole(self.read.offset, size);
            let file = batch.file(&self.generation, &self.path, self.read);
            self.read.offset = size;
            batch.cover(file, self.read);
        }
        Ok(())
    }

    /// Takes a record that is no row.
    pub(super) fn give_up(&mut self, record: Vec<u8>, reason: &str, batch: &mut Batch) {
        let file = batch.file(&self.generation, &self.path, self.read);
        let (stream, offset, reason) = (self.stream.clone(), self.read.offset, reason.to_owned());
        self.read.offset += record.len() as u64;
        batch.push_undecodable(Undecodable { stream, file, offset, record, reason });
        batch.cover(file, self.read);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::Arc;

    use kumon_schema::{Common, Kind};

    use super::{Filled, Tail};
    use crate::batch::{Batch, Document};
    use crate::content::Content;
    use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin, Times};
    use crate::elasticsearch::BulkEncoder;
    use crate::file_position::FilePosition;
    use crate::stream::StreamName;

    fn ndjson() -> Decoder {
        Decoder::Ndjson(NdjsonDecoder::new(Origin::new(&Common::default(), "/a"), None, Times::default()))
    }

    fn empty() -> Batch {
        Batch::new(Box::new(BulkEncoder::default()))
    }

    fn tail(path: &std::path::Path, acknowledged: u64, decoder: Decoder) -> Tail {
        let stream = StreamName { kind: Kind::Event, dataset: "a".into(), namespace: "default".into() };
        let mut file = Content::from(File::open(path).unwrap());
        let mark = FilePosition::of(&mut file, acknowledged).unwrap().unwrap();
        Tail::new(path.into(), file, "g".into(), Arc::new(stream), decoder, mark, true)
    }

    #[test]
    fn a_partial_line_waits_and_ids_depend_on_the_offset_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        write!(file, "{{\"n\":1}}\n{{\"n\":").unwrap();
        let (mut tail_a, mut batch) = (tail(&path, 0, ndjson()), empty());
        assert_eq!(tail_a.fill(&mut batch, 1 << 20, false).unwrap(), Filled::End);
        assert_eq!((batch.documents.len(), &batch.positions[..]), (1, &[("g".into(), 8)][..]));
        writeln!(file, "2}}").unwrap();
        tail_a.fill(&mut batch, 1 << 20, false).unwrap();
        assert_eq!(batch.documents.len(), 2);
        let action = &batch.body[batch.documents[1].encoded.clone()];
        assert!(action.starts_with(br#"{"create":{"_index":"logs-a-default","_id":"g-8"}}"#));

        // A restart in between makes the same action line.
        let mut again = empty();
        tail(&path, 8, ndjson()).fill(&mut again, 1 << 20, false).unwrap();
        assert!(again.body.starts_with(&action[..50]));
    }

    #[test]
    fn a_tail_that_goes_back_after_a_truncation_goes_on_in_the_copy_with_its_header() {
        for (committed, rows) in [(true, &["2", "3"][..]), (false, &["1", "2", "3"])] {
            let folder = tempfile::tempdir().unwrap();
            let (path, copy) = (folder.path().join("a"), folder.path().join("a.1"));
            std::fs::write(&path, "n\n1\n2\n").unwrap();
            let decoder =
                CsvDecoder::foreign(None, Origin::new(&Common::default(), "/a"), None, Times::default());
            let mut tail = tail(&path, 0, Decoder::Csv(decoder.into()));
            tail.fill(&mut empty(), 1, false).unwrap();
            if committed {
                (tail.acknowledged, tail.delivered) = (tail.read, tail.read);
            }
            tail.fill(&mut empty(), 1 << 20, false).unwrap();
            OpenOptions::new().append(true).open(&path).unwrap().write_all(b"3\n").unwrap();
            std::fs::copy(&path, &copy).unwrap();
            File::create(&path).unwrap();

            tail.rewind(tail.acknowledged.offset);
            let mut batch = empty();
            assert_eq!(tail.fill(&mut batch, 1 << 20, false).unwrap(), Filled::Rewritten);
            tail.move_to(copy.clone(), Content::from(File::open(&copy).unwrap())).unwrap();
            tail.fill(&mut batch, 1 << 20, false).unwrap();
            let row = |document: &Document| -> serde_json::Value {
                serde_json::from_slice(batch.json(document)).unwrap()
            };
            let numbers: Vec<_> = batch.documents.iter().map(|document| row(document)["n"].clone()).collect();
            assert_eq!(numbers, rows);
        }
    }

    #[test]
    fn a_full_batch_ends_behind_a_row_and_the_next_goes_on_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let lines: String = (0..10_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        std::fs::write(&path, &lines).unwrap();
        let (mut tail, mut rows) = (tail(&path, 0, ndjson()), 0);
        loop {
            let mut batch = empty();
            let filled = tail.fill(&mut batch, 50_000, false).unwrap();
            assert!(batch.body.len() < 51_000);
            rows += batch.documents.len();
            if filled == Filled::End {
                break;
            }
        }
        assert_eq!((rows, tail.read.offset), (10_000, lines.len() as u64));
    }
}
