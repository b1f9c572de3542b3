//! Forgetting old days.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{Days, NaiveDate};
use kumon_spool::NewFile;

use crate::StoreOptions;
use crate::days::{self, Day};
use crate::error::StoreError;

/// Starts the name of a day's folder that is being removed.
const GONE: &str = ".gone-";

/// How long a date that doesn't follow the last one must last before days are dropped because of it.
const PROBATION: Duration = Duration::from_secs(3600);

/// Drops whole days that are too old, then the oldest ones while there are too many bytes. Never `current`: it
/// holds the files' positions. `today` has been the date for `lasted`.
pub(crate) fn apply(
    root: &Path,
    options: &StoreOptions,
    today: NaiveDate,
    lasted: Duration,
    current: &Path,
) -> Result<(), StoreError> {
    let days = days::list(root)?;
    let sizes: Vec<u64> = days.iter().map(Day::size).collect();
    let mut total: u64 = sizes.iter().sum();
    let oldest_kept = if lasted >= PROBATION || follows_the_last(&days, today, current) {
        today.checked_sub_days(Days::new(options.keep_days.into())).unwrap_or(NaiveDate::MIN)
    } else {
        NaiveDate::MIN
    };
    for (day, size) in days.iter().zip(sizes) {
        let expired = day.date < oldest_kept || total > options.keep_bytes;
        if expired && day.path != current {
            log::info!("dropping {} ({size} bytes): retention", day.path.display());
            drop_day(root, day)?;
            total -= size;
        }
    }
    Ok(())
}

/// Whether there are rows of yesterday. Where there are none, the machine was off, or its clock is wrong: after a
/// start without a working clock, until the time service has set it, `today` may be any date, and must not cost days.
fn follows_the_last(days: &[Day], today: NaiveDate, current: &Path) -> bool {
    days.iter().any(|day| day.path != current && Some(day.date) == today.pred_opt())
}

fn drop_day(root: &Path, day: &Day) -> Result<(), StoreError> {
    let after = day.date.succ_opt().unwrap_or(NaiveDate::MAX);
    if dropped_before(root).is_none_or(|known| known < after) {
        remember(root, after)?;
    }
    let name = day.path.file_name().unwrap_or_default().to_string_lossy();
    let gone = root.join(format!("{GONE}{name}"));
    // Renamed first, so that nobody meets half a day.
    fs::rename(&day.path, &gone).map_err(StoreError::io("remove", &day.path))?;
    fs::remove_dir_all(&gone).map_err(StoreError::io("remove", &gone))
}

/// Removes what a kill left half removed.
pub(crate) fn finish_removals(root: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(root).map_err(StoreError::io("list", root))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(GONE) {
            fs::remove_dir_all(entry.path()).map_err(StoreError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// The first day that may still be kept, if days were ever dropped.
pub(crate) fn dropped_before(root: &Path) -> Option<NaiveDate> {
    fs::read_to_string(record(root)).ok()?.trim().parse().ok()
}

fn remember(root: &Path, before: NaiveDate) -> Result<(), StoreError> {
    let path = record(root);
    let write = || -> io::Result<()> {
        let mut file = NewFile::create(&path, 0o640)?;
        writeln!(file, "{before}")?;
        file.finish()
    };
    write().map_err(StoreError::io("write", &path))
}

fn record(root: &Path) -> PathBuf {
    root.join("dropped-before")
}
