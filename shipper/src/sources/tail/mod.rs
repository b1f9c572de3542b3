//! One file that is being read, from where delivery stands to its end.

mod fill;
mod holes;
mod pass_holes;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io, mem};

use self::holes::{Holes, beginning};
use crate::content::Content;
use crate::decode::Decoder;
use crate::file_position::{FilePosition, Window};
use crate::stream::StreamName;

pub(crate) use self::fill::Filled;

/// How much is read from a file at once, in bytes.
const CHUNK: usize = 128 << 10;

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
}
