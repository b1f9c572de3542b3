//! What a running agent tells other processes: status files, replaced in one step. They are about a process that runs, so
//! that a power cut may take them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use kumon_schema::printable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::collect::Override;
use crate::control::MetricState;

/// `<state>/collect/status.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CollectStatus {
    pub(crate) pid: u32,
    /// See [`Status::updated`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) updated: String,
    /// Rows written since the start, by metric.
    pub(crate) rows: BTreeMap<String, u64>,
    /// Losses since the start, by metric and reason; zeros left out.
    pub(crate) lost: BTreeMap<String, BTreeMap<String, u64>>,
    /// Who made most of the rows that found no room in a metric's budget, since its collector was started, by metric.
    #[serde(default)]
    pub(crate) rate_limited: BTreeMap<String, BTreeMap<String, u64>>,
    /// Collectors that are not at work or fail at it, named with their metrics.
    pub(crate) failed: BTreeMap<String, CollectorFault>,
    /// Metrics that are not asked for by name and that this kernel could have only at a price, with the reason.
    #[serde(default)]
    pub(crate) off: BTreeMap<String, String>,
    /// Metrics that somebody switched on or off, over the configuration.
    #[serde(default)]
    pub(crate) switched: BTreeMap<String, Override>,
    /// What fails in the spool right now: rows can't be written, or old files not shed.
    pub(crate) spool_error: Option<String>,
    /// Resident memory, bytes, and CPU time since the start, ns, of the process.
    pub(crate) memory: u64,
    pub(crate) cpu_time: u64,
}

/// What is wrong with a collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CollectorFault {
    pub(crate) state: MetricState,
    pub(crate) reason: String,
    /// When it is started again, RFC 3339; none while it is at work nevertheless.
    pub(crate) next_try: Option<String>,
}

impl fmt::Display for CollectorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next_try {
            Some(next) => write!(f, "is left out: {}; it is tried again at {next}", printable(&self.reason)),
            None => write!(f, "fails: {}", printable(&self.reason)),
        }
    }
}

/// `<state>/ship/status.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShipStatus {
    pub(crate) pid: u32,
    /// See [`Status::updated`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) updated: String,
    /// How the single `output` is; its keys stand beside those of the process.
    #[serde(flatten)]
    pub(crate) single: Option<OutputStatus>,
    /// How each of `outputs` is, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) outputs: BTreeMap<String, OutputStatus>,
    /// What is not evaluated though it should be, with the reason.
    #[serde(default)]
    pub(crate) alerts_left_out: Vec<String>,
    /// As in [`CollectStatus`], when anything else here changed last.
    pub(crate) memory: u64,
    pub(crate) cpu_time: u64,
}

/// Why an output could not be set up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OutputFault {
    pub(crate) reason: String,
    /// When it is tried again, RFC 3339.
    pub(crate) next_try: String,
}

/// How shipping to one output is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OutputStatus {
    /// `elasticsearch` with its hosts, or the embedded store's folder.
    pub(crate) output: String,
    /// Rows delivered since the start, by dataset.
    pub(crate) rows: BTreeMap<String, u64>,
    /// Rows in the dead letters since the start, by dataset.
    pub(crate) dead_letters: BTreeMap<String, u64>,
    /// Of all dead letters, those that had to go for newer ones since the start.
    #[serde(default)]
    pub(crate) dead_letters_dropped: u64,
    /// Why it could not be set up; the others ship meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<OutputFault>,
    /// Why nothing is delivered right now, and since when.
    pub(crate) halted: Option<String>,
    pub(crate) halted_since: Option<String>,
    /// Streams whose rows wait while others are delivered: since when and why.
    #[serde(default)]
    pub(crate) held: BTreeMap<String, (String, String)>,
    /// By dataset: the file, the offset and the reason of the last one.
    #[serde(default)]
    pub(crate) last_letters: BTreeMap<String, String>,
    /// Files that can't be shipped, with the reason.
    pub(crate) stuck: BTreeMap<String, String>,
    /// What is worth knowing, though it is no fault, by file or pattern of an input.
    #[serde(default)]
    pub(crate) notes: BTreeMap<String, String>,
    /// Bytes not delivered yet.
    pub(crate) lag: u64,
}

impl ShipStatus {
    /// Each output with its name, where it is one of a list.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Option<&str>, &OutputStatus)> {
        let listed = self.outputs.iter().map(|(name, output)| (Some(name.as_str()), output));
        self.single.iter().map(|output| (None, output)).chain(listed)
    }
}

impl OutputStatus {
    /// Whether all that can be shipped is.
    pub(crate) fn is_healthy(&self) -> bool {
        self.failed.is_none() && self.halted.is_none() && self.held.is_empty() && self.stuck.is_empty()
    }
}

/// What a status file tells.
pub(crate) trait Status: DeserializeOwned {
    /// When the agent last said that this is so, RFC 3339: the file's time of modification, not part of it.
    fn updated(&mut self) -> &mut String;
}

impl Status for CollectStatus {
    fn updated(&mut self) -> &mut String {
        &mut self.updated
    }
}

impl Status for ShipStatus {
    fn updated(&mut self) -> &mut String {
        &mut self.updated
    }
}

const NAME: &str = "status.json";

/// Replaces a folder's status file.
///
/// # Errors
/// When the folder can't be written.
pub(crate) fn write(folder: &Path, status: &impl Serialize) -> io::Result<()> {
    let new = folder.join(".status.json.new");
    fs::write(&new, serde_json::to_vec_pretty(status)?)?;
    fs::rename(new, folder.join(NAME))
}

/// Shows that a folder's status file still is true. That is cheaper than replacing it, for which ext4 allocates a block
/// and begins to write.
///
/// # Errors
/// When there is none, or it can't be written.
pub(super) fn confirm(folder: &Path) -> io::Result<()> {
    File::options().write(true).open(folder.join(NAME))?.set_modified(SystemTime::now())
}

/// Reads a folder's status file; `None` where there is none.
///
/// # Errors
/// When it can't be read or is damaged.
pub(crate) fn read<T: Status>(folder: &Path) -> io::Result<Option<T>> {
    let mut file = match File::open(folder.join(NAME)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mut status: T = serde_json::from_slice(&text)?;
    let updated = DateTime::<Utc>::from(file.metadata()?.modified()?);
    *status.updated() = updated.to_rfc3339_opts(SecondsFormat::Secs, true);
    Ok(Some(status))
}
