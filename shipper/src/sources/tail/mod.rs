//! One file that is being read, from where delivery stands to its end.

mod holes;
mod pass_holes;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io, mem};

use crate::batch::{Batch, Undecodable};
use crate::content::{Content, Kind};
use crate::decode::{Decoder, Step, Unreadable};
use crate::file_position::{FilePosition, Window};
use crate::sources::tail::holes::{Holes, beginning};
use crate::stream::StreamName;
use crate::throttle::throttled;

/// How much is read from a file at once, in bytes.
const CHUNK: usize = 128 << 10;

/// So much is read of a file at once, before it is another one's turn, even if no row comes of it. In bytes.
const TURN: u64 = 2 << 20;

/// A file, how far it is read and how far it is delivered for good.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
    /// Part of every document's id; no other content ever has the same one.
    pub(crate) generation: Arc<str>,
    /// Up to where rows were put into batches.
    pub(crate) read: FilePosition,
    /// Up to where rows of this generation may have been sent: behind `read` where they are read again.
    pub(crate) sent: FilePosition,
    /// All that stood in the file when it was last looked at.
    pub(crate) seen: FilePosition,
    /// Up to where the sink has taken rows.
    pub(crate) delivered: FilePosition,
    /// Up to where rows are delivered and durable.
    pub(crate) acknowledged: FilePosition,
    /// How much the file held when that was last asked, in bytes.
    pub(crate) known_size: u64,
    /// Why it can't be read on, where it can't.
    pub(crate) stuck: Option<String>,
    pub(crate) holes: Holes,
    /// Whether other content may come to stand in the file than was read from it.
    rewritable: bool,
    /// Whether the record at `read` is too long to stand in memory.
    is_long: bool,
    /// What stands before `read`, where it is known: a compressed file is not read again for it.
    window: Option<Window>,
    pub(crate) stream: Arc<StreamName>,
    decoder: Decoder,
}

/// How far the content of one generation came.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) generation: Arc<str>,
    acknowledged: FilePosition,
    delivered: FilePosition,
    pub(crate) sent: FilePosition,
}

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
    /// A tail that goes on at `acknowledged`.
    pub(crate) fn new(
        path: PathBuf,
        content: Content,
        generation: Arc<str>,
        stream: Arc<StreamName>,
        decoder: Decoder,
        acknowledged: FilePosition,
        rewritable: bool,
    ) -> Tail {
        let (read, sent, delivered, stuck) = (acknowledged, acknowledged, acknowledged, None);
        let mut tail = Tail {
            path,
            content,
            generation,
            read,
            sent,
            seen: FilePosition::START,
            delivered,
            acknowledged,
            known_size: acknowledged.offset,
            stuck,
            holes: Holes::default(),
            rewritable,
            is_long: false,
            window: None,
            stream,
            decoder,
        };
        tail.unread();
        tail
    }

    /// Goes back to what the sink has taken.
    pub(crate) fn unread(&mut self) {
        self.go_on_at(self.delivered);
    }

    /// Reads on at a mark that lies before what was read.
    pub(crate) fn go_on_at(&mut self, mark: FilePosition) {
        (self.read, self.window) = (mark, None);
        self.holes.forget();
        self.decoder.reset();
        (self.stuck, self.is_long) = (None, false);
        if self.read.offset > 0 {
            self.stuck = self.resume();
        }
    }

    /// Tells the decoder what stands before `read`, as much of it as it needs. Answers why it can't go on.
    fn resume(&mut self) -> Option<String> {
        let (mut wanted, mut from) = (CHUNK as u64, 0);
        loop {
            // Content that is gone or cut shows at the next fill, before anything is decoded.
            let (head, last) = self.delivered_bytes(from, wanted).ok()?;
            if from == 0 && head.first() == Some(&0) {
                from = beginning(&mut self.content, self.decoder.unit(), self.read.offset).ok()?;
                if from > 0 {
                    continue;
                }
            }
            match self.decoder.resume(&head, last) {
                Ok(true) => return None,
                Ok(false) if wanted < self.read.offset - from => wanted *= 2,
                Ok(false) => return Some("its header is gone".to_owned()),
                Err(why) => return Some(why.to_string()),
            }
        }
    }

    /// The first of the bytes between there and `read`, and the last one.
    fn delivered_bytes(&mut self, from: u64, wanted: u64) -> io::Result<(Vec<u8>, u8)> {
        let (mut head, mut last) = (vec![0; wanted.min(self.read.offset - from) as usize], [0]);
        self.content.read_exact_at(&mut head, from)?;
        self.content.read_exact_at(&mut last, self.read.offset - 1)?;
        Ok((head, last[0]))
    }

    /// For a CSV file that had this header when other content stood in it.
    pub(crate) fn know_header(&mut self, header: Vec<String>) {
        self.decoder.know_header(header);
        self.unread();
    }

    /// The header of a foreign CSV file, or of the content that it had before.
    pub(crate) fn header(&self) -> &[String] {
        self.decoder.header()
    }

    /// Goes back to what the sink says it has for good.
    pub(crate) fn rewind(&mut self, acknowledged: u64) {
        let mut marks = [self.acknowledged, self.delivered].into_iter();
        let mark = marks.find(|mark| mark.offset == acknowledged);
        let mark = mark.or_else(|| FilePosition::of(&mut self.content, acknowledged).ok().flatten());
        // Where that can't be read now, the sink recognises what it has.
        let mark = mark.unwrap_or(FilePosition::START);
        (self.acknowledged, self.delivered) = (mark, mark);
        self.unread();
    }

    /// How much the file holds now, in bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        self.content.size()
    }

    /// For a file that changed on the disk.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.content.look_again()?;
        self.known_size = self.size()?;
        Ok(())
    }

    /// Whether its name is gone: deleted, or given to another file.
    pub(crate) fn is_gone(&self) -> io::Result<bool> {
        let open = self.content.file().metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) != (open.dev(), open.ino())),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// For content that has nothing to do with what was read before: a truncated or rewritten file. Answers where it
    /// stood before.
    pub(crate) fn start_anew(&mut self, generation: Arc<str>) -> Position {
        let start = FilePosition::START;
        self.go_back_to(Position { generation, acknowledged: start, delivered: start, sent: start })
    }

    /// Goes on where it stood before it started anew.
    pub(crate) fn go_back_to(&mut self, position: Position) -> Position {
        let former = Position {
            generation: mem::replace(&mut self.generation, position.generation),
            acknowledged: mem::replace(&mut self.acknowledged, position.acknowledged),
            delivered: mem::replace(&mut self.delivered, position.delivered),
            sent: mem::replace(&mut self.sent, position.sent),
        };
        self.seen = FilePosition::START;
        self.unread();
        former
    }

    /// Whether the file holds other content than what was read of it, or seen of it while nothing was read.
    pub(crate) fn is_rewritten(&mut self) -> io::Result<bool> {
        Ok(self.rewritable && !(self.read.stands_in(&mut self.content)? && self.evidence_stands()?))
    }

    /// What a copy of the file, as it was before it was rewritten, must hold.
    pub(crate) fn evidence(&self) -> FilePosition {
        if self.sent.offset > 0 { self.sent } else { self.seen }
    }

    /// Takes note of all that stands in the file. Where it ends in NULs, that is still to come.
    pub(crate) fn note_seen(&mut self) -> io::Result<()> {
        let (size, mut last) = (self.size()?, [0]);
        self.content.read_at(&mut last, size.saturating_sub(1))?;
        let seen = if last == [0] { None } else { FilePosition::of(&mut self.content, size)? };
        self.seen = seen.unwrap_or(FilePosition::START);
        Ok(())
    }

    fn evidence_stands(&mut self) -> io::Result<bool> {
        let evidence = self.evidence();
        Ok(evidence == self.read || evidence.stands_in(&mut self.content)?)
    }

    /// Goes on in another file that holds what was read of this one; a copy may have missed the last of it.
    pub(crate) fn move_to(&mut self, path: PathBuf, mut content: Content) -> io::Result<()> {
        let size = content.size()?;
        let mut within = |mark: FilePosition| match mark.offset <= size {
            true => Ok(mark),
            false => FilePosition::of(&mut content, size).map(|mark| mark.unwrap_or(FilePosition::START)),
        };
        let marks = (within(self.acknowledged)?, within(self.delivered)?, within(self.sent)?);
        let read = within(self.read)?;
        (self.acknowledged, self.delivered, self.sent) = marks;
        (self.path, self.content, self.seen) = (path, content, FilePosition::START);
        // With the decoder, which may have lost what it knew of the file when that was cut.
        self.go_on_at(read);
        Ok(())
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
    fn give_up(&mut self, record: Vec<u8>, reason: &str, batch: &mut Batch) {
        let file = batch.file(&self.generation, &self.path, self.read);
        let (stream, offset, reason) = (self.stream.clone(), self.read.offset, reason.to_owned());
        self.read.offset += record.len() as u64;
        batch.push_undecodable(Undecodable { stream, file, offset, record, reason });
        batch.cover(file, self.read);
    }

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
    fn take_records(
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
