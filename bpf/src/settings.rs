//! The `collectors` part of the configuration, one entry per metric. Each metric's own settings stand in its
//! collector's folder.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

use crate::block::{BiolatencySettings, BitesizeSettings};
use crate::db::DbslowerSettings;
use crate::file::{FileHooks, FilegoneSettings, FilelifeSettings};
use crate::filter::Filter;
use crate::process::{ExecSettings, ExitSettings};
use crate::sched::{CputimeSettings, RunqlatSettings, RunqslowerSettings};
use crate::tcp::TcplifeSettings;

/// Length of a summary's intervals unless configured.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// How many keys of an interval get rows of their own unless configured.
pub(crate) const TOP: usize = 200;

/// Settings of every metric; each key is optional.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// KuMon's own processes are left out unless this is false.
    pub exclude_self: bool,
    /// Size of the ring buffer of each BPF object that tells single events, bytes of kernel memory; rounded up to a
    /// power of two of at least a page.
    #[serde(deserialize_with = "ring_buffer_bytes")]
    pub ring_buffer_bytes: u32,
    /// Threads that sched follows before Linux 6.2, about 140 bytes of kernel memory each; those of cputime beyond them are
    /// counted as lost.
    #[serde(deserialize_with = "entries")]
    pub max_waiting_threads: u32,
    /// Takes the ways that older kernels need (docs/kernels.md), so that tests go them on newer ones too; no key of the
    /// configuration.
    #[serde(skip)]
    pub as_on_old_kernels: bool,
    /// By which hooks filelife and filegone are attached.
    pub file_hooks: FileHooks,
    pub exec: ExecSettings,
    pub exit: ExitSettings,
    pub runqlat: RunqlatSettings,
    pub runqslower: RunqslowerSettings,
    pub cputime: CputimeSettings,
    pub biolatency: BiolatencySettings,
    pub bitesize: BitesizeSettings,
    pub tcplife: TcplifeSettings,
    pub dbslower: DbslowerSettings,
    pub filelife: FilelifeSettings,
    pub filegone: FilegoneSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            exclude_self: true,
            ring_buffer_bytes: 2 << 20,
            max_waiting_threads: 32_768,
            as_on_old_kernels: false,
            file_hooks: FileHooks::default(),
            exec: ExecSettings::default(),
            exit: ExitSettings::default(),
            runqlat: RunqlatSettings::default(),
            runqslower: RunqslowerSettings::default(),
            cputime: CputimeSettings::default(),
            biolatency: BiolatencySettings::default(),
            bitesize: BitesizeSettings::default(),
            tcplife: TcplifeSettings::default(),
            dbslower: DbslowerSettings::default(),
            filelife: FilelifeSettings::default(),
            filegone: FilegoneSettings::default(),
        }
    }
}

impl Settings {
    /// The filter of each metric.
    pub(crate) fn filters(&self) -> [(&'static str, &Filter); 11] {
        [
            ("exec", &self.exec.filter),
            ("exit", &self.exit.filter),
            ("runqlat", &self.runqlat.filter),
            ("runqslower", &self.runqslower.filter),
            ("cputime", &self.cputime.filter),
            ("biolatency", &self.biolatency.filter),
            ("bitesize", &self.bitesize.filter),
            ("tcplife", &self.tcplife.filter),
            ("dbslower", &self.dbslower.filter),
            ("filelife", &self.filelife.filter),
            ("filegone", &self.filegone.filter),
        ]
    }
}

/// Reads the time that a summary's row sums up; for `#[serde(deserialize_with = …)]`. The kernel is read every 200 ms
/// or so, so that rows of less than a second would not be what was asked for.
pub(crate) fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let interval = duration(deserializer)?;
    if interval < Duration::from_secs(1) {
        return Err(de::Error::custom("the interval must be at least 1s"));
    }
    Ok(interval)
}

/// More than a poll's worth of events on the largest machines.
pub(crate) const MAX_RING_BUFFER_BYTES: u32 = 256 << 20;

/// Reads `2MiB`, `4194304`.
fn ring_buffer_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    const LEAST: u32 = 4 << 10;
    // Its own message names no example.
    let size = ByteSize::deserialize(deserializer).ok().and_then(|size| u32::try_from(size.as_u64()).ok());
    size.filter(|size| (LEAST..=MAX_RING_BUFFER_BYTES).contains(size)).ok_or_else(|| {
        de::Error::custom("the size of a ring buffer is expected, such as 2MiB: 4KiB to 256MiB")
    })
}

/// The most keys that a map may have room for: more than any node needs, and no request for all of its memory.
const MAX_ENTRIES: u32 = 1 << 20;

/// Reads how many keys a map, or what is like one, has room for; for `#[serde(deserialize_with = …)]`.
pub(crate) fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let entries = u32::deserialize(deserializer)?;
    if !(1..=MAX_ENTRIES).contains(&entries) {
        return Err(de::Error::custom(format!("{entries} is out of bounds: 1 to {MAX_ENTRIES}")));
    }
    Ok(entries)
}

/// Reads `10s`, `500ms`, `1m`; for `#[serde(deserialize_with = …)]`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|e| de::Error::custom(format!("'{text}' is no duration such as 10s or 500ms: {e}")))
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn parse(text: &str) -> Result<Settings, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn sizes_that_no_node_could_use_are_refused() {
        for text in [
            r#"{"ring_buffer_bytes": 0}"#,
            r#"{"ring_buffer_bytes": 4000000000}"#,
            r#"{"ring_buffer_bytes": "1TiB"}"#,
            r#"{"ring_buffer_bytes": "much"}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("such as 2MiB: 4KiB to 256MiB"), "{text}");
        }
        for text in [
            r#"{"tcplife": {"max_sessions": 0}}"#,
            r#"{"tcplife": {"max_listeners": 0}}"#,
            r#"{"filelife": {"max_files": 0}}"#,
            r#"{"filelife": {"max_files": 2000000}}"#,
            r#"{"biolatency": {"max_keys": 0}}"#,
        ] {
            assert!(parse(text).unwrap_err().contains("is out of bounds: 1 to 1048576"), "{text}");
        }
        assert!(parse(r#"{"filelife": {"max_age": "0s"}}"#).unwrap_err().contains("more than 0"));
        for size in [r#""4MiB""#, "4194304"] {
            assert_eq!(
                parse(&format!(r#"{{"ring_buffer_bytes": {size}}}"#)).unwrap().ring_buffer_bytes,
                4 << 20
            );
        }
    }
}
