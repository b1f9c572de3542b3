//! Typed values to the records of files: CSV (RFC 4180) or NDJSON.

use std::mem;

use chrono::{DateTime, SecondsFormat};

use crate::escape;

/// A row of one metric. Implemented by the types in [`crate::rows`].
pub trait Row {
    /// The metric's name, which is also its schema's.
    const METRIC: &'static str;

    /// When it happened, in nanoseconds since the Unix epoch.
    fn timestamp(&self) -> i64;

    /// Appends the columns after the common ones, in the schema's order.
    fn write_fields(&self, subject: &SubjectFields<'_>, record: &mut Record<'_>);
}

/// Whom a row is about: the columns that all metrics fill in the same way, each where a metric has it. What is empty
/// stays empty in the row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectFields<'a> {
    /// `process.entity_id`.
    pub entity_id: &'a [u8],
    /// `process.pid`, as the initial pid namespace has it.
    pub pid: Option<u64>,
    /// `process.name`: the kernel's `comm`.
    pub name: &'a [u8],
    /// `user.id`, the real one.
    pub uid: Option<u64>,
    /// `user.name`.
    pub user_name: &'a [u8],
    /// `group.id`, the real one.
    pub gid: Option<u64>,
    /// `kumon.cgroup.id`: the inode of the folder in cgroup v2.
    pub cgroup_id: Option<u64>,
    /// `container.id`.
    pub container_id: &'a [u8],
    /// `container.name`.
    pub container_name: &'a [u8],
    /// `container.image.name`.
    pub container_image: &'a [u8],
    /// `container.runtime`.
    pub container_runtime: &'a [u8],
    /// `systemd.unit`.
    pub unit: &'a [u8],
    /// `kubernetes.namespace`.
    pub kubernetes_namespace: &'a [u8],
    /// `kubernetes.pod.name`.
    pub pod_name: &'a [u8],
    /// `kubernetes.pod.uid`.
    pub pod_uid: &'a [u8],
    /// `kubernetes.container.name`.
    pub kubernetes_container: &'a [u8],
}

/// The values every row of this node and boot carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// The node's host name.
    pub host_name: String,
    /// /etc/machine-id.
    pub host_id: String,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
}

/// A point in time, in nanoseconds since the Unix epoch; written as RFC 3339 in UTC with microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

/// How rows stand in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// RFC 4180, by the columns' names, which the first line has.
    #[default]
    Csv,
    /// A JSON object a line, by the documents' field names, without the fields that are empty.
    Ndjson,
}

/// Appends `row` as one record of a file, its line end included.
pub fn write_row<R: Row>(
    out: &mut Vec<u8>,
    format: Format,
    common: &Common,
    row: &R,
    subject: &SubjectFields<'_>,
) {
    let mut record = Record { out, format, first: true };
    record.field(Column::new("\"@timestamp\":"), &Time(row.timestamp()));
    record.field(Column::new("\"host.name\":"), common.host_name.as_bytes());
    record.field(Column::new("\"host.id\":"), common.host_id.as_bytes());
    record.field(Column::new("\"host.boot.id\":"), common.boot_id.as_bytes());
    row.write_fields(subject, &mut record);
    record.end();
}

/// A column, as far as records need to know it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// The document's field as JSON has it: `"process.pid":`.
    key: &'static str,
    /// Whether documents have its number as a text, such as `user.id`.
    is_text: bool,
}

impl Column {
    /// The column with that key.
    pub const fn new(key: &'static str) -> Column {
        Column { key, is_text: false }
    }

    /// The same, for numbers that are texts in documents.
    pub const fn text(key: &'static str) -> Column {
        Column { key, is_text: true }
    }
}

/// One record in the making.
pub struct Record<'a> {
    out: &'a mut Vec<u8>,
    format: Format,
    first: bool,
}

impl Record<'_> {
    /// Appends one value, with what parts it from the one before it.
    pub fn field<V: Value + ?Sized>(&mut self, column: Column, value: &V) {
        match self.format {
            Format::Csv => {
                if !mem::take(&mut self.first) {
                    self.out.push(b',');
                }
                value.write_csv(self.out);
            }
            Format::Ndjson if value.is_absent() => {}
            Format::Ndjson => {
                self.out.push(if mem::take(&mut self.first) { b'{' } else { b',' });
                self.out.extend_from_slice(column.key.as_bytes());
                if column.is_text {
                    self.out.push(b'"');
                }
                value.write_json(self.out);
                if column.is_text {
                    self.out.push(b'"');
                }
            }
        }
    }

    fn end(self) {
        if self.format == Format::Ndjson {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }
}

/// What can stand in a column.
pub trait Value {
    /// Whether there is none: an empty column in CSV, no field in JSON.
    fn is_absent(&self) -> bool {
        false
    }

    /// Appends the value's CSV text, quoted where RFC 4180 asks for it.
    fn write_csv(&self, out: &mut Vec<u8>);

    /// Appends the value's text as it is.
    fn write_text(&self, out: &mut Vec<u8>) {
        self.write_csv(out);
    }

    /// Appends the value as JSON: as in CSV where that is a number or truth value.
    fn write_json(&self, out: &mut Vec<u8>) {
        self.write_csv(out);
    }
}

impl Value for [u8] {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        quote(out, &escape(self));
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(escape(self).as_bytes());
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        // A text has a JSON form, and a Vec takes it.
        let _ = serde_json::to_writer(out, &*escape(self));
    }
}

impl Value for &[u8] {
    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        (**self).write_csv(out);
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        (**self).write_text(out);
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        (**self).write_json(out);
    }
}

impl Value for u64 {
    /// A column's numbers are `long`s where they are read: what is larger, a difference that wrapped, is the largest.
    fn write_csv(&self, out: &mut Vec<u8>) {
        display(out, &(*self).min(i64::MAX.unsigned_abs()));
    }
}

impl Value for i64 {
    fn write_csv(&self, out: &mut Vec<u8>) {
        display(out, self);
    }
}

impl Value for f64 {
    /// A number that is not finite has no JSON form and is left out.
    fn is_absent(&self) -> bool {
        !self.is_finite()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        if !self.is_absent() {
            display(out, self);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        // As the shipper writes what it read of CSV: 1.0, not 1.
        let _ = serde_json::to_writer(out, self);
    }
}

impl Value for bool {
    fn write_csv(&self, out: &mut Vec<u8>) {
        display(out, self);
    }
}

impl Value for Time {
    fn write_csv(&self, out: &mut Vec<u8>) {
        let text = DateTime::from_timestamp_nanos(self.0).to_rfc3339_opts(SecondsFormat::Micros, true);
        out.extend_from_slice(text.as_bytes());
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_csv(out);
        out.push(b'"');
    }
}

impl<V: Value> Value for Option<V> {
    fn is_absent(&self) -> bool {
        self.as_ref().is_none_or(Value::is_absent)
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write_csv(out);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

/// Several values in one column: parted by a delimiter in CSV, an array in JSON.
#[derive(Debug, Clone, Copy)]
pub struct List<'a, V> {
    items: &'a [V],
    delimiter: u8,
}

impl<'a, V> List<'a, V> {
    /// `delimiter` is the column's in its schema.
    pub const fn new(items: &'a [V], delimiter: u8) -> List<'a, V> {
        List { items, delimiter }
    }
}

impl<V: Value> Value for List<'_, V> {
    fn is_absent(&self) -> bool {
        self.items.is_empty()
    }

    fn write_csv(&self, out: &mut Vec<u8>) {
        let (mut text, mut item) = (Vec::new(), Vec::new());
        for (index, value) in self.items.iter().enumerate() {
            if index > 0 {
                text.push(self.delimiter);
            }
            value.write_text(&mut item);
            // A delimiter within an item is escaped, so that it parts nothing.
            for byte in item.drain(..) {
                match byte == self.delimiter {
                    true => display(&mut text, &format_args!("\\x{byte:02x}")),
                    false => text.push(byte),
                }
            }
        }
        quote(out, &String::from_utf8_lossy(&text));
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, value) in self.items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            value.write_json(out);
        }
        out.push(b']');
    }
}

/// Appends a text, quoted where RFC 4180 asks for it.
fn quote(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

fn display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::{Column, Common, Format, List, Record, SubjectFields, Time, write_row};
    use crate::rows::Exec;

    fn parse(line: &[u8]) -> Vec<Vec<u8>> {
        let (mut reader, mut out, mut ends) = (csv_core::Reader::new(), [0; 4096], [0; 64]);
        let (result, read, _, columns) = reader.read_record(line, &mut out, &mut ends);
        assert_eq!((result, read), (csv_core::ReadRecordResult::Record, line.len()));
        let starts = std::iter::once(0).chain(ends);
        starts.zip(ends).take(columns).map(|(start, end)| out[start..end].to_vec()).collect()
    }

    #[test]
    fn numbers_that_no_long_holds_are_the_largest_one() {
        for (number, text) in [
            (0, "0"),
            (i64::MAX as u64, "9223372036854775807"),
            (1 << 63, "9223372036854775807"),
            (u64::MAX, "9223372036854775807"),
        ] {
            let mut line = Vec::new();
            let subject = SubjectFields { pid: Some(number), ..SubjectFields::default() };
            write_row(&mut line, Format::Csv, &Common::default(), &Exec::default(), &subject);
            assert_eq!(parse(&line)[6], text.as_bytes());
        }
    }

    #[test]
    fn hostile_names_survive_a_real_csv_reader_byte_by_byte() {
        for hostile in [&b"a,b\"\n=1+1"[..], b"=cmd|'/C calc'!A0", b"\r\n", b"\xff\xfe\\xff", b"\"", b" , "] {
            let mut line = Vec::new();
            let row = Exec { timestamp: 1_763_689_526_123_456_789, ..Exec::default() };
            let subject = SubjectFields { name: hostile, pid: Some(7), ..SubjectFields::default() };
            write_row(&mut line, Format::Csv, &Common::default(), &row, &subject);
            let columns = parse(&line);
            assert_eq!(columns[0], b"2025-11-21T01:45:26.123456Z");
            assert_eq!(columns[6], b"7");
            let text = String::from_utf8(columns[9].clone()).unwrap();
            assert_eq!(crate::unescape(&text), hostile);
        }
    }

    /// The fields as a record of a file has them.
    fn record(format: Format, fill: impl FnOnce(&mut Record<'_>)) -> String {
        let mut out = Vec::new();
        let mut record = Record { out: &mut out, format, first: true };
        fill(&mut record);
        record.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_is_the_document() {
        let mut line = Vec::new();
        let row =
            Exec { timestamp: 1_763_689_526_123_456_789, command_line: b"a \"b\"\n\xff", ..Exec::default() };
        let subject = SubjectFields { name: b"sh", uid: Some(7), ..SubjectFields::default() };
        let common = Common { host_name: "node-1".into(), ..Common::default() };
        write_row(&mut line, Format::Ndjson, &common, &row, &subject);
        assert_eq!(line.pop(), Some(b'\n'));
        let row: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "@timestamp": "2025-11-21T01:45:26.123456Z", "host.name": "node-1", "process.name": "sh",
            // The documents' field is a keyword.
            "user.id": "7", "process.command_line": "a \"b\"\n\\xff",
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&row[field], value, "{row}");
        }
        assert_eq!(row.get("process.pid"), None, "{row}");
    }

    #[test]
    fn numbers_that_have_no_json_form_are_left_out() {
        let numbers = |record: &mut Record<'_>| {
            record.field(Column::new("\"a\":"), &f64::NAN);
            record.field(Column::new("\"b\":"), &Some(1.0));
            record.field(Column::new("\"c\":"), &None::<f64>);
            record.field(Column::text("\"d\":"), &u64::MAX);
            record.field(Column::new("\"e\":"), &Time(0));
        };
        assert_eq!(
            record(Format::Ndjson, numbers),
            "{\"b\":1.0,\"d\":\"9223372036854775807\",\"e\":\"1970-01-01T00:00:00.000000Z\"}\n"
        );
        assert_eq!(record(Format::Csv, numbers), ",1,,9223372036854775807,1970-01-01T00:00:00.000000Z\n");
    }

    #[test]
    fn lists_are_arrays_and_texts_that_come_apart_again() {
        let lists = |record: &mut Record<'_>| {
            record.field(Column::new("\"a\":"), &List::new(&[&b"x"[..], b"y;z\"", b"\xff"], b';'));
            record.field(Column::new("\"b\":"), &List::new(&[1u64, 2], b';'));
            record.field(Column::new("\"c\":"), &List::<u64>::new(&[], b';'));
            record.field(Column::new("\"d\":"), &List::new(&[1.5, 2.0], b','));
        };
        assert_eq!(
            record(Format::Ndjson, lists),
            "{\"a\":[\"x\",\"y;z\\\"\",\"\\\\xff\"],\"b\":[1,2],\"d\":[1.5,2.0]}\n"
        );
        assert_eq!(record(Format::Csv, lists), "\"x;y\\x3bz\"\";\\xff\",1;2,,\"1.5,2\"\n");
    }
}
