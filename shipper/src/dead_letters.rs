//! Rows that no sink will ever take, kept with the reason.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::sink::Outcome;

/// At the start so much of the newest files is looked through for letters that a crash kept from being acknowledged,
/// in bytes.
const LOOK_BACK: u64 = 64 << 20;

/// Appends to `<state>/dead-letters/<day>.ndjson`.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    folder: PathBuf,
    /// By generation the last offset of which there is a letter: a row that is sent again, and refused again, has
    /// one already.
    written: HashMap<Arc<str>, u64>,
}

/// One line of a dead-letter file.
#[derive(Debug, Serialize)]
struct DeadLetter<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: &'a str,
    /// The data stream it was meant for.
    stream: String,
    reason: &'a str,
    /// The file it comes from, and where in it, in bytes.
    file: Cow<'a, str>,
    offset: u64,
    /// What the document's id begins with.
    generation: &'a str,
    /// The document, or the record as it stands in the file where it is no document.
    document: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Written<'a> {
    offset: u64,
    #[serde(borrow)]
    generation: &'a str,
}

impl DeadLetters {
    /// # Errors
    /// When the letters of earlier runs can't be read.
    pub(crate) fn open(state: &Path) -> io::Result<DeadLetters> {
        let folder = state.join("dead-letters");
        let mut letters = DeadLetters { folder, written: HashMap::new() };
        let mut files = match fs::read_dir(&letters.folder) {
            Ok(files) => files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<_>>>()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        files.sort();
        // Two, because midnight may lie between a letter and the crash.
        for path in files.iter().rev().take(2).rev() {
            letters.look_through(path)?;
        }
        Ok(letters)
    }

    fn look_through(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LOOK_BACK)))?;
        let (mut lines, mut line) = (BufReader::new(file), Vec::new());
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Ok(Written { offset, generation }) = serde_json::from_slice(&line) {
                self.written.insert(generation.into(), offset);
            }
            line.clear();
        }
        Ok(())
    }

    /// Writes what of the batch is no document and what the sink refused, durably: the rows' files may be deleted
    /// afterwards.
    pub(crate) fn write(&mut self, batch: &Batch, outcome: &Outcome) -> io::Result<()> {
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let letter = |stream: String, reason, file: usize, offset, document| {
            let (generation, path) = (&batch.positions[file].0, batch.paths[file].to_string_lossy());
            let letter = DeadLetter {
                timestamp: &timestamp,
                stream,
                reason,
                file: path,
                offset,
                generation,
                document,
            };
            (file, letter)
        };
        let undecodable = batch.undecodable.iter().map(|row| {
            let document = kumon_schema::escape_invalid(&row.record);
            letter(row.stream.to_string(), row.reason.as_str(), row.file, row.offset, document)
        });
        let rejected = outcome.rejected.iter().map(|rejected| {
            let row = &batch.documents[rejected.document];
            let document = kumon_schema::escape_invalid(&batch.body[row.json.clone()]);
            letter(row.stream.to_string(), rejected.reason.as_str(), row.file, row.offset, document)
        });
        let mut letters: Vec<_> = undecodable
            .chain(rejected)
            .filter(|(_, letter)| {
                self.written.get(letter.generation).is_none_or(|last| *last < letter.offset)
            })
            .collect();
        // In the files' order: what a crash leaves of them is then all up to some offset.
        letters.sort_by_key(|(file, letter)| (*file, letter.offset));
        let Some((_, first)) = letters.first() else { return Ok(()) };
        log::warn!(
            "{} rows to the dead letters in {}; the first, {} at byte {}: {}",
            letters.len(),
            self.folder.display(),
            first.file,
            first.offset,
            first.reason
        );
        self.append(letters.iter().map(|(_, letter)| letter))?;
        let offsets = letters.iter().map(|(file, letter)| (batch.positions[*file].0.clone(), letter.offset));
        self.written.extend(offsets.collect::<Vec<_>>());
        Ok(())
    }

    fn append<'a>(&self, letters: impl Iterator<Item = &'a DeadLetter<'a>>) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{}.ndjson", Utc::now().format("%Y-%m-%d")));
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)?;
        let before = file.metadata()?.len();
        let mut lines = Vec::new();
        if !ends_with_line(&file, before)? {
            lines.push(b'\n');
        }
        for letter in letters {
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
        }
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // They are written again, so half of them must not stay; if this fails too, one line is cut.
            let _ = file.set_len(before);
        }
        written
    }

    /// For files that are gone.
    pub(crate) fn forget(&mut self, generations: &[Arc<str>]) {
        for generation in generations {
            self.written.remove(generation);
        }
    }
}

/// Not so after a crash within a line.
fn ends_with_line(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if size > 0 {
        std::os::unix::fs::FileExt::read_exact_at(file, &mut last, size - 1)?;
    }
    Ok(last == [b'\n'])
}
