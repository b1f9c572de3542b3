//! Rows as the store takes them: the document's text, and behind it what it is found by.
//!
//! A row's bytes are its text as one JSON object, its values as the kind of row has them, and a tail that says where
//! what is. They never leave the process.

use std::sync::Arc;

use kumon_shipper::{Constant, Encoder, FieldName, JsonEncoder, RowId, StreamName, Value};

use crate::layout::{Layout, TIMESTAMP};
use crate::values::{self, Typed};

/// Bytes of a tail: when it happened, the text's length, the kind.
const TAIL: usize = 8 + 4 + 1;

/// What a row's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Values by index fields.
    Known,
    /// Values by names, of a foreign row.
    Foreign,
    /// Those of its text: it was passed through as it is.
    Passed,
    /// None, but the reason why it can never be taken.
    Refused,
}

/// Writes rows as the store takes them.
#[derive(Debug)]
pub struct StoreEncoder {
    layout: Arc<Layout>,
    json: JsonEncoder,
    /// The stream of the last row, and whether its rows are of a metric.
    stream: Option<(Arc<StreamName>, bool)>,
    /// Where the row begins.
    start: usize,
    kind: Kind,
    timestamp: Option<i64>,
    values: Vec<u8>,
}

/// A row's bytes, taken apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Encoded<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind,
    /// When it happened, in ns since the Unix epoch.
    pub(crate) timestamp: i64,
    pub(crate) values: &'a [u8],
}

impl Default for StoreEncoder {
    fn default() -> StoreEncoder {
        StoreEncoder::new(Layout::current().into())
    }
}

impl StoreEncoder {
    pub(crate) fn new(layout: Arc<Layout>) -> StoreEncoder {
        StoreEncoder {
            layout,
            json: JsonEncoder,
            stream: None,
            start: 0,
            kind: Kind::Known,
            timestamp: None,
            values: Vec::new(),
        }
    }

    fn is_metric(&mut self, stream: &Arc<StreamName>) -> bool {
        match &self.stream {
            Some((known, is_metric)) if Arc::ptr_eq(known, stream) => *is_metric,
            _ => {
                let is_metric = is_builtin(&stream.dataset);
                self.stream = Some((stream.clone(), is_metric));
                is_metric
            }
        }
    }

    fn add(&mut self, name: &str, value: Value<'_>) {
        if self.kind == Kind::Refused {
            return;
        }
        if name == TIMESTAMP {
            self.timestamp = values::nanoseconds(value);
            if self.timestamp.is_none() {
                return self.refuse(&format!("{TIMESTAMP}: {} is not a time", values::shown(value)));
            }
        }
        if self.kind == Kind::Foreign {
            if name != TIMESTAMP {
                values::write_named(&mut self.values, name, value);
            }
            return;
        }
        // A column that an older schema had stays in the row, but there is nothing to search it by.
        let Some(column) = self.layout.columns.get(name) else { return };
        let write = |field, value: Typed<'_>| values::write(&mut self.values, field, value);
        if let Err(reason) = values::each(column, value, write) {
            self.refuse(&format!("{name}: {reason}"));
        }
    }

    fn refuse(&mut self, reason: &str) {
        self.kind = Kind::Refused;
        self.values.clear();
        self.values.extend_from_slice(reason.as_bytes());
    }
}

/// Whether the dataset is one of KuMon's own metrics.
pub(crate) fn is_builtin(dataset: &str) -> bool {
    dataset.strip_prefix("kumon.").is_some_and(|metric| kumon_schema::builtin(metric).is_some())
}

impl Encoder for StoreEncoder {
    fn begin(&mut self, id: &RowId<'_>, bytes: &mut Vec<u8>) {
        self.kind = if self.is_metric(id.stream) { Kind::Known } else { Kind::Foreign };
        (self.start, self.timestamp) = (bytes.len(), None);
        self.values.clear();
        self.json.begin(id, bytes);
    }

    fn field(&mut self, name: &FieldName, value: Value<'_>, bytes: &mut Vec<u8>) {
        self.json.field(name, value, bytes);
        self.add(name.as_str(), value);
    }

    fn constant(&mut self, field: &Constant, bytes: &mut Vec<u8>) {
        self.json.constant(field, bytes);
        self.add(field.name.as_str(), Value::Text(&field.text));
    }

    fn rest(&mut self, json: &str, bytes: &mut Vec<u8>) {
        self.json.rest(json, bytes);
        self.kind = Kind::Passed;
        self.values.clear();
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        self.json.end(bytes);
        if self.timestamp.is_none() && matches!(self.kind, Kind::Known | Kind::Foreign) {
            self.refuse("the row has no @timestamp");
        }
        // No row is as long as 4 GiB.
        let length = (bytes.len() - self.start) as u32;
        bytes.extend_from_slice(&self.values);
        bytes.extend_from_slice(&self.timestamp.unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(self.kind as u8);
    }

    fn document<'b>(&self, row: &'b [u8]) -> &'b [u8] {
        &row[..text_length(row)]
    }

    fn another(&self) -> Box<dyn Encoder> {
        Box::new(StoreEncoder::new(self.layout.clone()))
    }
}

impl<'a> Encoded<'a> {
    /// # Errors
    /// When the text is not UTF-8, which a row that is passed through may turn out to be.
    pub(crate) fn of(row: &'a [u8]) -> Result<Encoded<'a>, String> {
        let (text, rest) = row.split_at(text_length(row));
        let (values, tail) = rest.split_at(rest.len() - TAIL);
        let kinds = [Kind::Known, Kind::Foreign, Kind::Passed, Kind::Refused];
        Ok(Encoded {
            text: std::str::from_utf8(text).map_err(|e| format!("the row is not UTF-8: {e}"))?,
            kind: kinds[usize::from(tail[TAIL - 1])],
            timestamp: tail.first_chunk().map_or(0, |time| i64::from_le_bytes(*time)),
            values,
        })
    }
}

fn text_length(row: &[u8]) -> usize {
    let length = row[..row.len() - 1].last_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    length as usize
}

#[cfg(test)]
mod tests;
