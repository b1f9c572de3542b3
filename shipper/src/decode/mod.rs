//! The records of a file to rows.

mod beginning;
mod csv;
mod documents;
mod names;
mod ndjson;
mod time;
mod transcode;

use std::io;
use std::sync::LazyLock;

use chrono::Utc;
use kumon_schema::{Common, Schema};

pub(crate) use csv::CsvDecoder;
use csv::ReadAt;
pub(crate) use documents::DocumentDecoder;
pub(crate) use ndjson::NdjsonDecoder;
pub use time::{Times, TimesError};
pub use transcode::{Encoding, UnknownEncoding};

use crate::encoder::{Constant, FieldName, Row, Value};

/// How some tools say UTF-8; where files were joined it may stand before any row.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a file's bytes into records and gives each away as a row.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// Boxed: it is ten times the size of the other.
    Csv(Box<CsvDecoder>),
    Ndjson(NdjsonDecoder),
    /// KuMon's own NDJSON.
    Documents(DocumentDecoder),
    /// One of these, for a file in another encoding than UTF-8.
    Transcoder(Box<transcode::Transcoder>),
}

/// What stands at the beginning of the bytes given.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// A row of so many bytes; it was given away.
    Row(usize),
    /// So many bytes that are no row: the header, or an empty line.
    Nothing(usize),
    /// A row of so many bytes that can't be decoded; behind [`Decoder::skip_long`] more than were given.
    Bad(usize, String),
    /// A row that is too long: [`Decoder::skip_long`] tells what becomes of it.
    TooLong,
    /// No whole record yet.
    Incomplete,
}

/// The file as a whole can't be decoded; it stays where it is.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(pub(crate) String);

impl Decoder {
    /// Decodes the record at the beginning of `bytes`, which stand at `offset` of the file, to `row`. With `last` the
    /// end of `bytes` is the end of the file and ends the record.
    pub(crate) fn step(
        &mut self,
        bytes: &[u8],
        offset: u64,
        last: bool,
        row: &mut Row<'_>,
    ) -> Result<Step, Unreadable> {
        match self {
            Decoder::Csv(csv) => csv.step(bytes, offset, last, row),
            Decoder::Ndjson(ndjson) => Ok(ndjson.step(bytes, offset, last, row)),
            Decoder::Documents(documents) => Ok(documents.step(bytes, last, row)),
            Decoder::Transcoder(transcoder) => transcoder.step(bytes, offset, last, row),
        }
    }

    /// Whether the first bytes of a file, which may be all that is there so far, tell that it can be decoded; `false` where
    /// more of it has to be there. With `last` there is no more.
    pub(crate) fn begins(&self, bytes: &[u8], last: bool) -> Result<bool, Unreadable> {
        match self {
            Decoder::Csv(_) => beginning::check_encoding(bytes).map(|()| true),
            Decoder::Documents(_) => Ok(true),
            Decoder::Ndjson(_) => {
                beginning::check_encoding(bytes).and_then(|()| beginning::is_ndjson(bytes, last))
            }
            Decoder::Transcoder(transcoder) => transcoder.begins(bytes, last),
        }
    }

    /// What becomes of a row that is [`Step::TooLong`]: bad, or not yet whole. Its end is looked for in the file, so
    /// that it needs not stand in memory. With `last` the file's end ends it.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn skip_long(&mut self, bytes: &[u8], last: bool, read_at: ReadAt<'_>) -> io::Result<Step> {
        match self {
            Decoder::Csv(csv) => csv.skip_long(bytes, last, read_at),
            // They give a long row up themselves.
            Decoder::Ndjson(_) | Decoder::Documents(_) | Decoder::Transcoder(_) => Ok(Step::Incomplete),
        }
    }

    /// For a CSV file that had this header when other content stood in it.
    pub(crate) fn know_header(&mut self, header: Vec<String>) {
        match self {
            Decoder::Csv(csv) => csv.know_header(header),
            Decoder::Ndjson(_) | Decoder::Documents(_) => {}
            Decoder::Transcoder(transcoder) => transcoder.inner.know_header(header),
        }
    }

    /// The header of a foreign CSV file, or of the content that it had before; empty for all others.
    pub(crate) fn header(&self) -> &[String] {
        match self {
            Decoder::Csv(csv) => csv.header(),
            Decoder::Ndjson(_) | Decoder::Documents(_) => &[],
            Decoder::Transcoder(transcoder) => transcoder.inner.header(),
        }
    }

    /// For a file that is read from its start again.
    pub(crate) fn reset(&mut self) {
        match self {
            Decoder::Csv(csv) => csv.reset(),
            Decoder::Ndjson(ndjson) => ndjson.resume(false),
            Decoder::Documents(_) => {}
            Decoder::Transcoder(transcoder) => transcoder.inner.reset(),
        }
    }

    /// For a file of which some bytes are already delivered: what the decoder must know of them. `head` are the
    /// first of them, `last` is the last one. Says whether that was enough of them.
    pub(crate) fn resume(&mut self, head: &[u8], last: u8) -> Result<bool, Unreadable> {
        match self {
            Decoder::Csv(csv) => csv.resume(head),
            Decoder::Ndjson(ndjson) => {
                // A hole ends a line, too.
                ndjson.resume(!matches!(last, b'\n' | 0));
                Ok(true)
            }
            Decoder::Documents(_) => Ok(true),
            Decoder::Transcoder(transcoder) => transcoder.resume(head, last),
        }
    }

    /// For what stands behind a hole in the file: it begins a record.
    pub(crate) fn leave_record(&mut self) {
        match self {
            Decoder::Csv(_) | Decoder::Documents(_) => {}
            Decoder::Ndjson(ndjson) => ndjson.resume(false),
            Decoder::Transcoder(transcoder) => transcoder.inner.leave_record(),
        }
    }

    /// Whether a record shows by itself that it is whole, without its line end.
    pub(crate) fn shows_ends(&self) -> bool {
        match self {
            Decoder::Csv(_) => false,
            Decoder::Ndjson(_) | Decoder::Documents(_) => true,
            Decoder::Transcoder(transcoder) => transcoder.inner.shows_ends(),
        }
    }

    /// How many bytes a character has at least.
    pub(crate) fn unit(&self) -> usize {
        match self {
            Decoder::Transcoder(transcoder) => transcoder.unit(),
            _ => 1,
        }
    }

    /// A record for people to read.
    pub(crate) fn text(&self, record: &[u8]) -> Vec<u8> {
        match self {
            Decoder::Transcoder(transcoder) => transcoder.text(record),
            _ => record.to_vec(),
        }
    }
}

/// What is added to the rows of foreign files: where they come from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    host: Vec<Constant>,
    path: Constant,
    offset: FieldName,
}

impl Origin {
    pub(crate) fn new(common: &Common, path: &str) -> Origin {
        let host = [("host.name", &common.host_name), ("host.id", &common.host_id)];
        let host = host.into_iter().filter(|(_, text)| !text.is_empty());
        Origin {
            host: host.map(|(name, text)| Constant::new(name, text)).collect(),
            path: Constant::new("log.file.path", path),
            offset: FieldName::new("log.offset"),
        }
    }

    fn write_host(&self, row: &mut Row<'_>) {
        self.host.iter().for_each(|field| row.constant(field));
    }

    fn write_log(&self, row: &mut Row<'_>, offset: u64) {
        row.constant(&self.path);
        // No file is larger than that.
        row.field(&self.offset, Value::Integer(offset.cast_signed()));
    }
}

static TIMESTAMP: LazyLock<FieldName> = LazyLock::new(|| FieldName::new(names::TIMESTAMP));

/// `@timestamp` of now, for rows that have no time of their own.
fn write_time_of_reading(row: &mut Row<'_>) {
    row.field(&TIMESTAMP, Value::Time(&time::render(Utc::now())));
}

/// A schema whose fields have names that Elasticsearch takes, and that leave room for those that KuMon adds.
pub fn with_field_names(mut schema: Schema) -> Schema {
    let documents: Vec<&str> = schema.fields.iter().map(|field| &*field.ecs).collect();
    let names = names::of_columns(&documents);
    schema.fields.iter_mut().zip(names).for_each(|(field, name)| field.ecs = name);
    schema
}
