//! What the shipper is told.

use std::path::PathBuf;
use std::time::Duration;

use kumon_schema::{Common, Schema};

use crate::decode::{Encoding, Times};

/// The shipper's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// The spool folder.
    pub spool: PathBuf,
    /// The shipper's own state: checkpoint, dead letters, lock.
    pub state: PathBuf,
    /// Foreign files.
    pub inputs: Vec<Input>,
    /// Last part of the data streams' names.
    pub namespace: String,
    /// Spliced into the rows of foreign files.
    pub common: Common,
    /// A batch is sent at the latest when its body has so many bytes.
    pub batch_bytes: usize,
    /// The dead letters together have no more bytes; the oldest are dropped for newer ones.
    pub dead_letter_bytes: u64,
    /// The first wait after a failure; doubles with each further one.
    pub retry_initial: Duration,
    /// The longest wait between tries.
    pub retry_max: Duration,
}

/// Files written by somebody else.
#[derive(Debug, Clone)]
pub struct Input {
    /// Glob patterns.
    pub paths: Vec<String>,
    pub format: Format,
    /// CSV only; without one every column is a string.
    pub schema: Option<Schema>,
    /// Middle part of the data stream's name.
    pub dataset: String,
    /// The column or top-level key whose value becomes `@timestamp`; the time of reading where there is none.
    pub timestamp_field: Option<String>,
    /// How times are written.
    pub times: Times,
    pub encoding: Encoding,
    /// CSV only.
    pub dialect: Dialect,
    /// A longer record goes to the dead letters, in bytes; without one 1 MiB of CSV and 16 MiB of NDJSON.
    pub max_record: Option<usize>,
}

/// What stands between and around the fields of a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    pub delimiter: u8,
    /// Without one, quotes are text like all else.
    pub quote: Option<u8>,
}

impl Default for Dialect {
    /// That of RFC 4180.
    fn default() -> Dialect {
        Dialect { delimiter: b',', quote: Some(b'"') }
    }
}

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Ndjson,
}
