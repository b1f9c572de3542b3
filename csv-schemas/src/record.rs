//! Typed values to CSV records (RFC 4180).

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
    /// `group.id`, the real one.
    pub gid: Option<u64>,
    /// `kumon.cgroup.id`: the inode of the folder in cgroup v2.
    pub cgroup_id: Option<u64>,
    /// `container.id`.
    pub container_id: &'a [u8],
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

/// Appends `row` as one CSV record, its line end included.
pub fn write_row<R: Row>(out: &mut Vec<u8>, common: &Common, row: &R, subject: &SubjectFields<'_>) {
    let mut record = Record { out, first: true };
    record.field(&Time(row.timestamp()));
    record.field(common.host_name.as_bytes());
    record.field(common.host_id.as_bytes());
    record.field(common.boot_id.as_bytes());
    row.write_fields(subject, &mut record);
    record.out.push(b'\n');
}

/// One CSV record in the making.
pub struct Record<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Record<'_> {
    /// Appends one value, with a comma before it where one is due.
    pub fn field<V: Value + ?Sized>(&mut self, value: &V) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        value.write(self.out);
    }
}

/// What can stand in a column.
pub trait Value {
    /// Appends the value's CSV text, quoted where RFC 4180 asks for it.
    fn write(&self, out: &mut Vec<u8>);
}

impl Value for [u8] {
    fn write(&self, out: &mut Vec<u8>) {
        let text = escape(self);
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
}

impl Value for &[u8] {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl Value for u64 {
    /// A column's numbers are `long`s where they are read: what is larger, a difference that wrapped, is the largest.
    fn write(&self, out: &mut Vec<u8>) {
        display(out, &(*self).min(i64::MAX.unsigned_abs()));
    }
}

impl Value for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        display(out, self);
    }
}

impl Value for f64 {
    /// A number that is not finite has no JSON form and is left out.
    fn write(&self, out: &mut Vec<u8>) {
        if self.is_finite() {
            display(out, self);
        }
    }
}

impl Value for bool {
    fn write(&self, out: &mut Vec<u8>) {
        display(out, self);
    }
}

impl Value for Time {
    fn write(&self, out: &mut Vec<u8>) {
        let text = DateTime::from_timestamp_nanos(self.0).to_rfc3339_opts(SecondsFormat::Micros, true);
        out.extend_from_slice(text.as_bytes());
    }
}

impl<V: Value> Value for Option<V> {
    fn write(&self, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write(out);
        }
    }
}

fn display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::{Common, SubjectFields, write_row};
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
            write_row(&mut line, &Common::default(), &Exec::default(), &subject);
            assert_eq!(parse(&line)[6], text.as_bytes());
        }
    }

    #[test]
    fn hostile_names_survive_a_real_csv_reader_byte_by_byte() {
        for hostile in [&b"a,b\"\n=1+1"[..], b"=cmd|'/C calc'!A0", b"\r\n", b"\xff\xfe\\xff", b"\"", b" , "] {
            let mut line = Vec::new();
            let row = Exec { timestamp: 1_763_689_526_123_456_789, ..Exec::default() };
            let subject = SubjectFields { name: hostile, pid: Some(7), ..SubjectFields::default() };
            write_row(&mut line, &Common::default(), &row, &subject);
            let columns = parse(&line);
            assert_eq!(columns[0], b"2025-11-21T01:45:26.123456Z");
            assert_eq!(columns[6], b"7");
            let text = String::from_utf8(columns[9].clone()).unwrap();
            assert_eq!(crate::unescape(&text), hostile);
        }
    }
}
