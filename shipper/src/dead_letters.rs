//! Rows that no sink will ever take, kept with the reason.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use serde::Serialize;

use crate::batch::Batch;
use crate::sink::Outcome;

/// Appends to `<state>/dead-letters/<day>.ndjson`.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    folder: PathBuf,
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
    file: String,
    offset: u64,
    /// The document, or the record as it stands in the file where it is no document.
    document: Cow<'a, str>,
}

impl DeadLetters {
    pub(crate) fn new(state: &Path) -> DeadLetters {
        DeadLetters { folder: state.join("dead-letters") }
    }

    /// Writes what of the batch is no document and what the sink refused, durably: the rows' files may be deleted
    /// afterwards. `file_of` gives the path of a generation.
    pub(crate) fn write(
        &self,
        batch: &Batch,
        outcome: &Outcome,
        file_of: impl Fn(&str) -> String,
    ) -> io::Result<()> {
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let file = |index: usize| file_of(&batch.positions[index].0);
        let undecodable = batch.undecodable.iter().map(|row| DeadLetter {
            timestamp: &timestamp,
            stream: row.stream.to_string(),
            reason: &row.reason,
            file: file(row.file),
            offset: row.offset,
            document: kumon_schema::escape_invalid(&row.record),
        });
        let rejected = outcome.rejected.iter().map(|rejected| {
            let document = &batch.documents[rejected.document];
            DeadLetter {
                timestamp: &timestamp,
                stream: document.stream.to_string(),
                reason: &rejected.reason,
                file: file(document.file),
                offset: document.offset,
                document: kumon_schema::escape_invalid(&batch.body[document.json.clone()]),
            }
        });
        let letters: Vec<_> = undecodable.chain(rejected).collect();
        let Some(first) = letters.first() else { return Ok(()) };
        log::warn!(
            "{} rows to the dead letters in {}; the first, {} at byte {}: {}",
            letters.len(),
            self.folder.display(),
            first.file,
            first.offset,
            first.reason
        );
        self.append(&letters)
    }

    fn append(&self, letters: &[DeadLetter<'_>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut lines, letter)?;
            lines.push(b'\n');
        }
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{}.ndjson", Utc::now().format("%Y-%m-%d")));
        let mut file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let before = file.metadata()?.len();
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // They are written again, so half of them must not stay; if this fails too, one line is cut.
            let _ = file.set_len(before);
        }
        written
    }
}
