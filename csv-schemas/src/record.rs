//! Typed values to the records of files: CSV (RFC 4180) or NDJSON.

use std::mem;

use crate::value::{Time, Value};

/// A row of one metric. Implemented by the types in [`crate::rows`].
pub trait Row {
    /// The metric's name, which is also its schema's.
    const METRIC: &'static str;

    /// When it happened, in nanoseconds since the Unix epoch.
    fn timestamp(&self) -> i64;

    /// Appends the columns after the common ones, in the schema's order.
    fn write_fields(&self, subject: &SubjectFields<'_>, record: &mut impl Columns);
}

/// What takes the columns of a row, in the schema's order.
pub trait Columns {
    /// Takes one value.
    fn field<V: Value + ?Sized>(&mut self, column: Column, value: &V);
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
    write_record(out, format, common, row.timestamp(), |record| row.write_fields(subject, record));
}

/// Appends a record of that time, whose columns after the common ones `fill` writes.
pub fn write_record(
    out: &mut Vec<u8>,
    format: Format,
    common: &Common,
    timestamp: i64,
    fill: impl FnOnce(&mut Record<'_>),
) {
    let mut record = Record { out, format, first: true };
    record.field(Column::new("\"@timestamp\":"), &Time(timestamp));
    record.field(Column::new("\"host.name\":"), common.host_name.as_bytes());
    record.field(Column::new("\"host.id\":"), common.host_id.as_bytes());
    record.field(Column::new("\"host.boot.id\":"), common.boot_id.as_bytes());
    fill(&mut record);
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

impl Columns for Record<'_> {
    /// Appends one value, with what parts it from the one before it.
    fn field<V: Value + ?Sized>(&mut self, column: Column, value: &V) {
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
}

impl Record<'_> {
    fn end(self) {
        if self.format == Format::Ndjson {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Columns, Common, Format, Record, SubjectFields, write_row};
    use crate::rows::Exec;
    use crate::value::{List, Time};

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
