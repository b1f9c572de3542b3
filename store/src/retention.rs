//! Forgetting old days.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{Days, NaiveDate};
use kumon_spool::NewFile;

use crate::StoreOptions;
use crate::days::{self, Day, size};
use crate::error::StoreError;
use crate::thin::thin;

/// Starts the name of a day's folder that is being removed.
const GONE: &str = ".gone-";
/// The file that has the first day which was not dropped.
const DROPPED: &str = "dropped-before";
/// The file that has the first day which has more than its rows by 10 minutes.
const THINNED: &str = "thinned-before";

/// How long a date that doesn't follow the last one must last before days are dropped because of it.
const PROBATION: Duration = Duration::from_secs(3600);

/// Drops whole days that are too old, then the oldest ones while there are too many bytes; of days in between only the rows by 10
/// minutes are left. Never `current`: it holds the files' positions. `today` has been the date for `lasted`.
pub(crate) fn apply(
    root: &Path,
    options: &StoreOptions,
    today: NaiveDate,
    lasted: Duration,
    current: &Path,
) -> Result<(), StoreError> {
    let mut days = days::list(root)?;
    let is_certain = lasted >= PROBATION || follows_the_last(&days, today, current);
    days.retain(|day| day.path != current);
    let oldest = |keep: u32| match today.checked_sub_days(Days::new(keep.into())) {
        Some(oldest) if is_certain => oldest,
        _ => NaiveDate::MIN,
    };
    let (whole, coarse) =
        (oldest(options.keep_days), oldest(options.keep_days.max(options.keep_coarse_days)));
    for day in days.iter().filter(|day| day.date < whole) {
        let is_thin = || recorded(root, THINNED).is_some_and(|before| day.date < before);
        if day.date < coarse || (!is_thin() && thin(day)? == 0) {
            drop_day(root, day)?;
        } else if !is_thin() {
            log::info!("keeping of {} the rows by 10 minutes: retention", day.path.display());
            remember(root, THINNED, after(day))?;
        }
    }
    days.retain(|day| day.path.exists());
    let sizes: Vec<u64> = days.iter().map(Day::size).collect();
    let mut total = sizes.iter().sum::<u64>() + size(current);
    for (day, size) in days.iter().zip(sizes) {
        if total > options.keep_bytes {
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

fn after(day: &Day) -> NaiveDate {
    day.date.succ_opt().unwrap_or(NaiveDate::MAX)
}

fn drop_day(root: &Path, day: &Day) -> Result<(), StoreError> {
    log::info!("dropping {} ({} bytes): retention", day.path.display(), day.size());
    remember(root, DROPPED, after(day))?;
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

/// The first day of which rows may still be kept, if days were ever dropped; `is_coarse` asks for rows by 10 minutes.
pub(crate) fn dropped_before(root: &Path, is_coarse: bool) -> Option<NaiveDate> {
    let thinned = (!is_coarse).then(|| recorded(root, THINNED)).flatten();
    recorded(root, DROPPED).max(thinned)
}

fn recorded(root: &Path, name: &str) -> Option<NaiveDate> {
    fs::read_to_string(root.join(name)).ok()?.trim().parse().ok()
}

/// Records the date, unless a later one is.
fn remember(root: &Path, name: &str, before: NaiveDate) -> Result<(), StoreError> {
    if recorded(root, name).is_some_and(|known| known >= before) {
        return Ok(());
    }
    let path = root.join(name);
    let write = || -> io::Result<()> {
        let mut file = NewFile::create(&path, 0o640)?;
        writeln!(file, "{before}")?;
        file.finish()
    };
    write().map_err(StoreError::io("write", &path))
}
