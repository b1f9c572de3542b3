//! Taking a CSV file's bytes apart into records, each byte once, however little is read at a time.

use std::io;
use std::ops::Range;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::options::Dialect;

/// So far it is looked ahead for the end of a quoted field that holds line ends, in bytes.
const LOOK_AHEAD: usize = 16 << 20;
const CHUNK: usize = 128 << 10;

/// Reads at an offset of the file; nothing at its end.
pub(in crate::decode) type ReadAt<'a> = &'a mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>;

/// Splits records, and keeps the fields of the last one.
#[derive(Debug)]
pub(super) struct Splitter {
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// How far a record that is not whole yet was read.
    partial: Option<Partial>,
}

#[derive(Debug, Clone, Copy)]
struct Partial {
    /// Where the record begins.
    offset: u64,
    used: usize,
    written: usize,
    count: usize,
    /// Where its first line ends, once it was looked ahead.
    line: Option<Option<usize>>,
}

/// How a record that is too long to be kept ends.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// So many bytes with the line end, and so many fields. The first of its lines ends behind so many.
    At { used: usize, count: usize, line: Option<usize> },
    /// It doesn't, and more lines are in it than this one, which ends there: a stray quote, most likely.
    None { line: usize },
    /// Not yet.
    Unknown,
}

impl Splitter {
    pub(super) fn new(dialect: Dialect) -> Splitter {
        let quote = dialect.quote;
        let mut reader = ReaderBuilder::new();
        reader.delimiter(dialect.delimiter).quoting(quote.is_some()).quote(quote.unwrap_or(b'"'));
        Splitter { reader: reader.build(), fields: vec![0; 1024], ends: vec![0; 64], partial: None }
    }

    /// For other content, or for what was read already.
    pub(super) fn reset(&mut self) {
        self.partial = None;
    }

    /// Whether the record at this offset is known to be too long.
    pub(super) fn looks_ahead(&self, offset: u64) -> bool {
        self.partial.is_some_and(|partial| partial.offset == offset && partial.line.is_some())
    }

    /// Takes the first record of `bytes` apart, which stand at `offset`: bytes used and number of fields; `None`
    /// where it isn't whole. With `last` the end of `bytes` ends the record.
    pub(super) fn split(&mut self, bytes: &[u8], offset: u64, last: bool) -> Option<(usize, usize)> {
        let known = |partial: &Partial| {
            partial.offset == offset && partial.used <= bytes.len() && partial.line.is_none()
        };
        let mut at = self.partial.take().filter(known).unwrap_or_else(|| {
            self.reader.reset();
            Partial { offset, used: 0, written: 0, count: 0, line: None }
        });
        loop {
            if at.used == bytes.len() && !last {
                // Empty input would tell csv-core that the file is over.
                self.partial = Some(at);
                return None;
            }
            let (result, read, out, ends) = self.reader.read_record(
                &bytes[at.used..],
                &mut self.fields[at.written..],
                &mut self.ends[at.count..],
            );
            at.used += read;
            at.written += out;
            at.count += ends;
            match result {
                ReadRecordResult::Record => return Some((at.used, at.count)),
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::End => return None,
            }
        }
    }

    /// Looks for the end of the record of which [`split`](Self::split) has seen `bytes`, without keeping it. With
    /// `last` the file's end ends the record.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn look_ahead(&mut self, bytes: &[u8], last: bool, read_at: ReadAt<'_>) -> io::Result<End> {
        let Some(mut at) = self.partial else { return Ok(End::Unknown) };
        let mut line = at.line.unwrap_or_else(|| memchr::memchr(b'\n', bytes).map(|end| end + 1));
        let mut chunk = vec![0; CHUNK];
        let (mut discarded, mut discarded_ends) = ([0; 4096], [0; 256]);
        let end = loop {
            if let Some(line) = line.filter(|line| at.used - line > LOOK_AHEAD) {
                break End::None { line };
            }
            let read = read_at(&mut chunk, at.offset + at.used as u64)?;
            let mut input = &chunk[..read];
            if input.is_empty() {
                break match line {
                    Some(line) => End::None { line },
                    None if last => End::At { used: at.used, count: at.count, line },
                    None => End::Unknown,
                };
            }
            let mut over = false;
            while !over && !input.is_empty() {
                let (result, used, _, ends) =
                    self.reader.read_record(input, &mut discarded, &mut discarded_ends);
                if line.is_none() {
                    line = memchr::memchr(b'\n', &input[..used]).map(|end| at.used + end + 1);
                }
                at.used += used;
                at.count += ends;
                input = &input[used..];
                over = matches!(result, ReadRecordResult::Record);
            }
            if over {
                break End::At { used: at.used, count: at.count, line };
            }
        };
        at.line = Some(line);
        self.partial = (end == End::Unknown).then_some(at);
        Ok(end)
    }

    pub(super) fn field(&self, index: usize) -> &[u8] {
        &self.fields[self.range(index)]
    }

    /// Where a field of the last record stands in [`text`](Self::text).
    pub(super) fn range(&self, index: usize) -> Range<usize> {
        index.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[index]
    }

    /// The last record's first fields, without what stood between them.
    pub(super) fn text(&self, count: usize) -> &[u8] {
        &self.fields[..self.ends(count).last().copied().unwrap_or(0)]
    }

    /// Where in it each ends.
    pub(super) fn ends(&self, count: usize) -> &[usize] {
        &self.ends[..count]
    }
}
