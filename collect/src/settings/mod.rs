//! What the settings of collectors have in common; each collector's own stand with it.

mod section;

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

pub use section::{Section, SectionVisitor};

/// Length of a summary's intervals unless configured.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// How many keys of an interval get rows of their own unless configured.
pub const TOP: usize = 200;

/// Reads the time that a summary's row sums up; for `#[serde(deserialize_with = …)]`. The kernel is read every 200 ms
/// or so, so that rows of less than a second would not be what was asked for.
///
/// # Errors
/// When it is no duration, or less than a second.
pub fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let interval = duration(deserializer)?;
    if interval < Duration::from_secs(1) {
        return Err(de::Error::custom("the interval must be at least 1s"));
    }
    Ok(interval)
}

/// The most keys that a map may have room for: more than any node needs, and no request for all of its memory.
const MAX_ENTRIES: u32 = 1 << 20;

/// Reads how many keys a map, or what is like one, has room for; for `#[serde(deserialize_with = …)]`.
///
/// # Errors
/// When it is no number from 1 to 1048576.
pub fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let entries = u32::deserialize(deserializer)?;
    if !(1..=MAX_ENTRIES).contains(&entries) {
        return Err(de::Error::custom(format!("{entries} is out of bounds: 1 to {MAX_ENTRIES}")));
    }
    Ok(entries)
}

/// Reads `10s`, `500ms`, `1m`; for `#[serde(deserialize_with = …)]`.
///
/// # Errors
/// When it is no duration.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|e| de::Error::custom(format!("'{text}' is no duration such as 10s or 500ms: {e}")))
}
