//! Rows as JSON objects, which most outputs have somewhere in what they take.

use super::{Constant, Encoder, FieldName, RowId, Value};

/// Writes rows as JSON objects, and nothing around them.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonEncoder;

impl Encoder for JsonEncoder {
    fn begin(&mut self, _id: &RowId<'_>, bytes: &mut Vec<u8>) {
        bytes.push(b'{');
    }

    fn field(&mut self, name: &FieldName, value: Value<'_>, bytes: &mut Vec<u8>) {
        write_field(bytes, name, value);
    }

    fn constant(&mut self, field: &Constant, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&field.json);
    }

    fn rest(&mut self, json: &str, bytes: &mut Vec<u8>) {
        if json.starts_with('}') {
            take_comma(bytes);
        }
        bytes.extend_from_slice(json.as_bytes());
    }

    /// Each field has a comma behind it until then; a row that was passed through has its end.
    fn end(&mut self, bytes: &mut Vec<u8>) {
        if bytes.last() != Some(&b'}') {
            take_comma(bytes);
            bytes.push(b'}');
        }
    }

    fn document<'b>(&self, row: &'b [u8]) -> &'b [u8] {
        row
    }

    fn another(&self) -> Box<dyn Encoder> {
        Box::new(*self)
    }
}

fn take_comma(bytes: &mut Vec<u8>) {
    bytes.pop_if(|last| *last == b',');
}

/// Appends `"name":value,`.
pub(super) fn write_field(bytes: &mut Vec<u8>, name: &FieldName, value: Value<'_>) {
    bytes.extend_from_slice(&name.json);
    write_value(bytes, value);
    bytes.push(b',');
}

fn write_value(bytes: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => write_string(bytes, text),
        // Neither a Vec nor a number can make these fail.
        Value::Integer(whole) => _ = serde_json::to_writer(&mut *bytes, &whole),
        Value::Number(number) => _ = serde_json::to_writer(&mut *bytes, &number),
        Value::Boolean(truth) => bytes.extend_from_slice(if truth { b"true" } else { b"false" }),
        Value::Time(time) => write_string(bytes, time),
        Value::List(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_value(bytes, *item);
            }
            bytes.push(b']');
        }
    }
}

/// Appends a JSON string.
pub(crate) fn write_string(json: &mut Vec<u8>, text: &str) {
    // Neither a Vec nor a str can make this fail.
    let _ = serde_json::to_writer(json, text);
}
