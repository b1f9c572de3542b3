//! Shedding: what happens at the spool's size limit.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

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

/// Deletes the oldest closed files until the spool is within `limit` bytes. Files that are being written, and those
/// of which the shipper has rows in flight, are passed over. What is gone counts whatever fails behind it; the error
/// is the first one, and doesn't keep younger files.
pub(crate) fn shed(root: &Path, limit: u64) -> (Vec<Shed>, io::Result<()>) {
    let (mut gone, mut result) = (Vec::new(), Ok(()));
    let files = match list(root) {
        Ok(files) => files,
        Err(e) => return (gone, Err(e)),
    };
    let mut total: u64 = files.iter().map(|file| file.size).sum();
    for file in files {
        if total <= limit {
            break;
        }
        match delete(root, &file) {
            Ok(Some(rows)) => {
                total -= file.size;
                gone.push(Shed { metric: file.name.metric, rows });
            }
            Ok(None) => {}
            Err(e) => result = result.and(Err(e)),
        }
    }
    (gone, result)
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
    let records = count_records(&mut open)?;
    match remove(&file.path) {
        Ok(()) => {}
        // The shipper was quicker: it has delivered all of it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
        Err(e) => return Err(failed(e)),
    }
    // The header is a record too.
    Ok(Some(if delivered == 0 { records.saturating_sub(1) } else { records }))
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

fn count_records(from: &mut impl Read) -> io::Result<u64> {
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
