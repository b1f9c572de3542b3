//! How decoded rows become what an output takes: each output has an encoder of its own.
//!
//! A decoder gives each row away field by field, or as the JSON text that it stands in. The encoder appends it to a
//! batch's bytes in whatever form its output wants; only that output looks at them.

mod json;

use std::fmt;
use std::sync::Arc;

pub use json::JsonEncoder;
pub(crate) use json::write_string;

use crate::stream::StreamName;

/// Appends rows to a batch's bytes, in the form that an output takes.
///
/// Calls come in this order: [`begin`](Encoder::begin), fields, [`rest`](Encoder::rest) if the row is passed through,
/// [`end`](Encoder::end). A row that turns out to be none is not ended: its bytes are cut off again.
pub trait Encoder: fmt::Debug + Send + Sync {
    /// Begins a row.
    fn begin(&mut self, id: &RowId<'_>, bytes: &mut Vec<u8>);

    /// Appends a field. No row has two of one name.
    fn field(&mut self, name: &FieldName, value: Value<'_>, bytes: &mut Vec<u8>);

    /// Appends a field whose value is the same in many rows.
    fn constant(&mut self, field: &Constant, bytes: &mut Vec<u8>);

    /// Appends the rest of a row that is passed through: the text of a JSON object behind its `{`, in one piece or
    /// several.
    fn rest(&mut self, json: &str, bytes: &mut Vec<u8>);

    /// Ends the row.
    fn end(&mut self, bytes: &mut Vec<u8>);

    /// The document of a row as one JSON object, for people and for dead letters.
    fn document<'b>(&self, row: &'b [u8]) -> &'b [u8];

    /// Another one for the same output.
    fn another(&self) -> Box<dyn Encoder>;
}

/// A row as it is given away, as JSON: for tests of decoders.
#[cfg(test)]
pub(crate) fn as_json<T>(give: impl FnOnce(&mut Row<'_>) -> T) -> (T, Vec<u8>) {
    let stream = StreamName { kind: kumon_schema::Kind::Event, dataset: "a".into(), namespace: "b".into() };
    let id = RowId { stream: &Arc::new(stream), generation: &"g".into(), offset: 0 };
    let mut json = Vec::new();
    let given = give(&mut Row::begin(&mut JsonEncoder, &id, &mut json));
    (given, json)
}

/// What tells a row apart from all others, wherever it goes.
#[derive(Debug, Clone, Copy)]
pub struct RowId<'a> {
    /// The stream it belongs to.
    pub stream: &'a Arc<StreamName>,
    /// The generation of the file it comes from.
    pub generation: &'a Arc<str>,
    /// Where it begins in that, in bytes.
    pub offset: u64,
}

impl fmt::Display for RowId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&document_id(self.generation, self.offset))
    }
}

/// The id of the document that the row at an offset of a file becomes.
pub(crate) fn document_id(generation: &str, offset: u64) -> String {
    format!("{generation}-{offset:x}")
}

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    /// Never an infinite one, nor none.
    Number(f64),
    Boolean(bool),
    /// RFC 3339.
    Time(&'a str),
    /// None of them a list.
    List(&'a [Value<'a>]),
}

/// The full name of a document's field, `process.pid`.
#[derive(Debug, Clone)]
pub struct FieldName {
    name: String,
    /// `"process.pid":`
    json: Vec<u8>,
}

impl FieldName {
    /// The field of that name.
    pub fn new(name: &str) -> FieldName {
        let mut json = Vec::new();
        write_string(&mut json, name);
        json.push(b':');
        FieldName { name: name.to_owned(), json }
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// A field with a text that many rows have in common.
#[derive(Debug, Clone)]
pub struct Constant {
    pub name: FieldName,
    pub text: String,
    /// `"host.name":"node-1",`
    json: Vec<u8>,
}

impl Constant {
    /// The field `name` with that text.
    pub fn new(name: &str, text: &str) -> Constant {
        let name = FieldName::new(name);
        let mut json = Vec::new();
        json::write_field(&mut json, &name, Value::Text(text));
        Constant { name, text: text.to_owned(), json }
    }
}

/// A row that a decoder is about to give away.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    encoder: &'a mut dyn Encoder,
    bytes: &'a mut Vec<u8>,
}

impl<'a> Row<'a> {
    pub(crate) fn begin(encoder: &'a mut dyn Encoder, id: &RowId<'_>, bytes: &'a mut Vec<u8>) -> Row<'a> {
        encoder.begin(id, bytes);
        Row { encoder, bytes }
    }

    pub(crate) fn field(&mut self, name: &FieldName, value: Value<'_>) {
        self.encoder.field(name, value, self.bytes);
    }

    pub(crate) fn constant(&mut self, field: &Constant) {
        self.encoder.constant(field, self.bytes);
    }

    pub(crate) fn rest(&mut self, json: &str) {
        self.encoder.rest(json, self.bytes);
    }

    pub(crate) fn end(&mut self) {
        self.encoder.end(self.bytes);
    }
}
