//! Rows as the body of a `_bulk` request: `{"create":{"_index":…,"_id":…}}` and the document, each on a line of its own.

use std::io::Write;
use std::sync::Arc;

use crate::encoder::{Constant, Encoder, FieldName, JsonEncoder, RowId, Value, write_string};
use crate::stream::StreamName;

/// Writes the lines of `_bulk`.
#[derive(Debug, Default)]
pub struct BulkEncoder {
    json: JsonEncoder,
    /// How the action lines begin of rows of the file that the last row was of.
    beginning: Option<Beginning>,
}

#[derive(Debug)]
struct Beginning {
    stream: Arc<StreamName>,
    generation: Arc<str>,
    /// `{"create":{"_index":"…","_id":"<generation>-`
    line: Vec<u8>,
}

impl Beginning {
    fn of(stream: &Arc<StreamName>, generation: &Arc<str>) -> Beginning {
        let mut line = Vec::from(br#"{"create":{"_index":"#);
        write_string(&mut line, &stream.to_string());
        line.extend_from_slice(br#","_id":"#);
        write_string(&mut line, generation);
        // The id goes on.
        line.pop();
        line.push(b'-');
        Beginning { stream: stream.clone(), generation: generation.clone(), line }
    }

    fn is_of(&self, id: &RowId<'_>) -> bool {
        Arc::ptr_eq(&self.stream, id.stream) && Arc::ptr_eq(&self.generation, id.generation)
    }
}

impl Encoder for BulkEncoder {
    fn begin(&mut self, id: &RowId<'_>, bytes: &mut Vec<u8>) {
        let beginning = match &mut self.beginning {
            Some(known) if known.is_of(id) => known,
            other => other.insert(Beginning::of(id.stream, id.generation)),
        };
        bytes.extend_from_slice(&beginning.line);
        // A Vec takes all that is written.
        let _ = writeln!(bytes, "{:x}\"}}}}", id.offset);
        self.json.begin(id, bytes);
    }

    fn field(&mut self, name: &FieldName, value: Value<'_>, bytes: &mut Vec<u8>) {
        self.json.field(name, value, bytes);
    }

    fn constant(&mut self, field: &Constant, bytes: &mut Vec<u8>) {
        self.json.constant(field, bytes);
    }

    fn rest(&mut self, json: &str, bytes: &mut Vec<u8>) {
        self.json.rest(json, bytes);
    }

    fn end(&mut self, bytes: &mut Vec<u8>) {
        self.json.end(bytes);
        bytes.push(b'\n');
    }

    fn document<'b>(&self, row: &'b [u8]) -> &'b [u8] {
        let behind_action = memchr::memchr(b'\n', row).map_or(0, |end| end + 1);
        row[behind_action..].strip_suffix(b"\n").unwrap_or_default()
    }

    fn another(&self) -> Box<dyn Encoder> {
        Box::new(BulkEncoder::default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kumon_schema::Kind;

    use super::BulkEncoder;
    use crate::encoder::{Constant, Encoder, FieldName, RowId, Value};
    use crate::stream::StreamName;

    fn stream(dataset: &str) -> Arc<StreamName> {
        StreamName { kind: Kind::Event, dataset: dataset.into(), namespace: "default".into() }.into()
    }

    #[test]
    fn rows_become_an_action_and_a_document_whatever_is_in_them() {
        let (mut encoder, mut bytes) = (BulkEncoder::default(), Vec::new());
        let (first, second) = (stream("kumon.exec"), stream("a\"b"));
        let (one, other): (Arc<str>, Arc<str>) = ("1a".into(), "2\"\n".into());
        encoder.begin(&RowId { stream: &first, generation: &one, offset: 255 }, &mut bytes);
        encoder.constant(&Constant::new("host.name", "node\"1"), &mut bytes);
        for (name, value) in [
            ("a\"b\n.c", Value::Text("\u{0}\"\\\n\u{2028}ä")),
            ("least", Value::Integer(i64::MIN)),
            ("half", Value::Number(0.5)),
            ("whole", Value::Number(1e21)),
            ("yes", Value::Boolean(true)),
            ("@timestamp", Value::Time("2026-11-21T10:00:00Z")),
        ] {
            encoder.field(&FieldName::new(name), value, &mut bytes);
        }
        encoder.end(&mut bytes);
        let document = concat!(
            r#"{"host.name":"node\"1","a\"b\n.c":"\u0000\"\\\n"#,
            "\u{2028}ä",
            r#"","least":-9223372036854775808,"half":0.5,"whole":1e+21,"yes":true,"#,
            r#""@timestamp":"2026-11-21T10:00:00Z"}"#
        );
        let action = r#"{"create":{"_index":"logs-kumon.exec-default","_id":"1a-ff"}}"#;
        assert_eq!(String::from_utf8_lossy(&bytes), format!("{action}\n{document}\n"));
        assert_eq!(encoder.document(&bytes), document.as_bytes());

        bytes.clear();
        encoder.begin(&RowId { stream: &second, generation: &other, offset: 0 }, &mut bytes);
        encoder.constant(&Constant::new("host.name", "n"), &mut bytes);
        encoder.rest(r#""deep":{"a":[1.50]}}"#, &mut bytes);
        encoder.end(&mut bytes);
        // The next row of the same file, with nothing of its own.
        encoder.begin(&RowId { stream: &second, generation: &other, offset: 16 }, &mut bytes);
        encoder.constant(&Constant::new("host.name", "n"), &mut bytes);
        encoder.rest("}", &mut bytes);
        encoder.end(&mut bytes);
        let lines = [
            r#"{"create":{"_index":"logs-a\"b-default","_id":"2\"\n-0"}}"#,
            r#"{"host.name":"n","deep":{"a":[1.50]}}"#,
            r#"{"create":{"_index":"logs-a\"b-default","_id":"2\"\n-10"}}"#,
            r#"{"host.name":"n"}"#,
            "",
        ];
        assert_eq!(String::from_utf8_lossy(&bytes), lines.join("\n"));
    }
}
