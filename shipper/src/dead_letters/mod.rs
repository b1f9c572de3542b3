//! Rows that no sink will ever take, kept with the reason.

mod folder;
mod letter;
mod replay;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use kumon_schema::printable;
use serde::Deserialize;

use crate::batch::Batch;
use crate::sink::Outcome;
use crate::throttle::throttled;

pub use folder::DeadLetterFolder;
pub use letter::{DeadLetter, LetterFilter, LetterKind};
pub use replay::{Deliver, RefusedAgain, Replayed, Waiting, replay};

pub(crate) use replay::is_replayed;

use folder::LetterFile;

/// The oldest letters are dropped a file at a time, and all files together have so many.
const FILES: u64 = 16;

/// Writes the letters of a running shipper.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    folder: DeadLetterFolder,
    /// All letters together have no more bytes, but for the newest.
    max_bytes: u64,
    /// By generation the last offset of which there is a letter: a row that is sent again, and refused again, has
    /// one already.
    written: HashMap<Arc<str>, u64>,
    /// Letters that had to go for newer ones.
    pub(crate) dropped: u64,
}

#[derive(Deserialize)]
struct Written<'a> {
    offset: u64,
    #[serde(borrow)]
    generation: Cow<'a, str>,
}

impl DeadLetters {
    /// # Errors
    /// When the letters of earlier runs can't be read.
    pub(crate) fn open(state: &Path, max_bytes: u64) -> io::Result<DeadLetters> {
        let folder = DeadLetterFolder::of(state);
        let mut letters = DeadLetters { folder, max_bytes, written: HashMap::new(), dropped: 0 };
        // The newest two hold what a crash may have kept from being acknowledged: two, because midnight may lie
        // between a letter and the crash.
        for path in letters.folder.files()?.iter().rev().take(2).rev() {
            let Some(mut file) = LetterFile::open(path)? else { continue };
            while let Some(line) = file.next_line()? {
                if let Ok(Written { offset, generation }) = serde_json::from_slice(line) {
                    letters.written.insert(generation.as_ref().into(), offset);
                }
            }
        }
        Ok(letters)
    }

    /// Writes what of the batch is no document and what the sink refused, durably: the rows' files may be deleted
    /// afterwards. Streams that are held come again.
    pub(crate) fn write(&mut self, batch: &Batch, outcome: &Outcome) -> io::Result<()> {
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let letter = |stream: String, reason, file: usize, offset, kind, document| {
            let letter = DeadLetter {
                timestamp: Cow::Borrowed(&timestamp),
                stream: stream.into(),
                reason: Cow::Borrowed(reason),
                file: batch.paths[file].to_string_lossy(),
                offset,
                generation: Cow::Borrowed(&*batch.positions[file].0),
                kind,
                document,
            };
            (file, letter)
        };
        let undecodable = batch.undecodable.iter().filter(|row| !outcome.holds(&row.stream)).map(|row| {
            let document = kumon_schema::escape_invalid(&row.record);
            letter(
                row.stream.to_string(),
                row.reason.as_str(),
                row.file,
                row.offset,
                LetterKind::Record,
                document,
            )
        });
        let rejected = outcome.rejected.iter().map(|rejected| {
            let row = &batch.documents[rejected.document];
            let document = kumon_schema::escape_invalid(batch.json(row));
            let reason = rejected.reason.as_str();
            letter(row.stream.to_string(), reason, row.file, row.offset, LetterKind::Document, document)
        });
        let mut letters: Vec<_> = undecodable
            .chain(rejected)
            .filter(|(_, letter)| {
                self.written.get(&*letter.generation).is_none_or(|last| *last < letter.offset)
            })
            .collect();
        // In the files' order: what a crash leaves of them is then all up to some offset.
        letters.sort_by_key(|(file, letter)| (*file, letter.offset));
        let Some((_, first)) = letters.first() else { return Ok(()) };
        throttled!(
            Warn,
            format!("dead letters of {}", first.stream),
            "{} rows to the dead letters in {}; the first, {} at byte {}: {}",
            letters.len(),
            self.folder.path().display(),
            printable(&first.file),
            first.offset,
            printable(&first.reason)
        );
        let mut lines = Vec::new();
        for (_, letter) in &letters {
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
        }
        self.dropped += self.folder.append(&lines, self.max_bytes / FILES, self.max_bytes)?;
        let offsets = letters.iter().map(|(file, letter)| (batch.positions[*file].0.clone(), letter.offset));
        self.written.extend(offsets.collect::<Vec<_>>());
        Ok(())
    }

    /// For files that are gone.
    pub(crate) fn forget(&mut self, generations: &[Arc<str>]) {
        for generation in generations {
            self.written.remove(generation);
        }
    }
}
