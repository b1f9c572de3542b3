//! Shedding: what happens at the spool's size limit.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use kumon_schema::Format;

use crate::file::{open_with, remove};
use crate::lock::lock_for_shedding;
use crate::{Acknowledged, SpoolFile, is_being_written, list};

/// One file that was deleted to make room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shed {
    pub(crate) metric: String,
    /// Rows of it that nobody had acknowledged.
    pub(crate) rows: u64,
}

/// What shedding came to.
pub(crate) struct Shedding {
    pub(crate) gone: Vec<Shed>,
    /// Bytes that the spool has now.
    pub(crate) left: u64,
    /// The first failure.
    pub(crate) result: io::Result<()>,
}

/// Tells when the spool's size is to be looked at, which is a listing of its folders: as long as what was written since
/// has room, only now and then, for the little that another process may have written.
#[derive(Debug, Default)]
pub(crate) struct SizeWatch {
    looked_at: Option<Instant>,
    /// Bytes that can still be written below the limit.
    room: u64,
}

impl SizeWatch {
    const FULL_INTERVAL: Duration = Duration::from_secs(2);
    const ROOMY_INTERVAL: Duration = Duration::from_secs(30);

    /// So many bytes were written.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.room = self.room.saturating_sub(bytes);
    }

    /// Whether it is time to look.
    pub(crate) fn is_due(&self) -> bool {
        let interval = if self.room == 0 { Self::FULL_INTERVAL } else { Self::ROOMY_INTERVAL };
        self.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= interval)
    }

    /// There is room for so many bytes now.
    pub(crate) fn looked_at(&mut self, room: u64) {
        *self = SizeWatch { looked_at: Some(Instant::now()), room };
    }
}

/// Deletes the oldest closed files until the spool is within `limit` bytes. Files that are being written, and those
/// of which the shipper has rows in flight, are passed over. What is gone counts whatever fails behind it; a failure
/// doesn't keep younger files.
pub(crate) fn shed(root: &Path, limit: u64) -> Shedding {
    let files = match list(root) {
        Ok(files) => files,
        // As if it were full: it is looked at again soon.
        Err(e) => return Shedding { gone: Vec::new(), left: limit, result: Err(e) },
    };
    let left = files.iter().map(|file| file.size).sum();
    let mut shedding = Shedding { gone: Vec::new(), left, result: Ok(()) };
    for file in files {
        if shedding.left <= limit {
            break;
        }
        match delete(root, &file) {
            Ok(Some(rows)) => {
                shedding.left -= file.size;
                shedding.gone.push(Shed { metric: file.name.metric, rows });
            }
            Ok(None) => {}
            Err(e) => shedding.result = shedding.result.and(Err(e)),
        }
    }
    shedding
}

/// Deletes a closed file that nobody reads; says how many rows it held that were not delivered.
fn delete(root: &Path, file: &SpoolFile) -> io::Result<Option<u64>> {
    let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", file.path.display()));
    // Written to by nobody, but the kernel gives the lock for shedding only to who could.
    let mut open = match open_with(OpenOptions::new().read(true).write(true), &file.path) {
        Ok(open) => open,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
        Err(e) => return Err(failed(e)),
    };
    if is_being_written(&open)? || !lock_for_shedding(&open)? {
        return Ok(None);
    }
    // Read behind the lock: the shipper writes down what it delivered before it lets go of a file.
    let delivered = acknowledged(root).0.get(&file.name.to_string()).copied().unwrap_or(0);
    open.seek(SeekFrom::Start(delivered))?;
    let records = match file.name.format {
        Format::Csv => count_csv_records(&mut open)?,
        Format::Ndjson => count_lines(&mut open)?,
    };
    match remove(&file.path) {
        Ok(()) => {}
        // The shipper was quicker: it has delivered all of it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
        Err(e) => return Err(failed(e)),
    }
    let has_header = file.name.format == Format::Csv && delivered == 0;
    Ok(Some(records.saturating_sub(u64::from(has_header))))
}

/// Without the acknowledgements every row of a file counts as lost: too many rather than too few.
fn acknowledged(root: &Path) -> Acknowledged {
    Acknowledged::read(root).unwrap_or_else(|e| {
        log::warn!(
            "{}: the shipper's acknowledgements can't be read ({e}); shed rows count in full",
            root.display()
        );
        Acknowledged::default()
    })
}

fn count_lines(from: &mut impl Read) -> io::Result<u64> {
    let (mut bytes, mut lines) = (vec![0; 1 << 16], 0);
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(lines),
            read => lines += bytes[..read].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

fn count_csv_records(from: &mut impl Read) -> io::Result<u64> {
    let mut reader = csv_core::Reader::new();
    let (mut bytes, mut fields, mut ends) = (vec![0; 1 << 16], vec![0; 1 << 16], vec![0; 256]);
    let mut records = 0;
    loop {
        let read = from.read(&mut bytes)?;
        let mut rest = &bytes[..read];
        loop {
            let (result, used, _, _) = reader.read_record(rest, &mut fields, &mut ends);
            rest = &rest[used..];
            match result {
                csv_core::ReadRecordResult::Record => records += 1,
                csv_core::ReadRecordResult::End => return Ok(records),
                csv_core::ReadRecordResult::InputEmpty if read > 0 => break,
                // Only the count is wanted: a full buffer of fields is simply used again.
                _ => {}
            }
        }
    }
}
