//! CSV (RFC 4180) to documents, in one pass and driven by the schema.

use std::borrow::Cow;
use std::ops::Range;

use csv_core::{ReadRecordResult, Reader};
use kumon_schema::{Field, FieldType, Schema};

use super::{
    BYTE_ORDER_MARK, Origin, Step, Times, Unreadable, text_schema, time, write_string, write_time_of_reading,
};

/// A longer record is taken for a quote that was never closed.
const MAX_RECORD: usize = 1 << 20;

/// Decodes the files of one schema.
#[derive(Debug)]
pub(crate) struct CsvDecoder {
    /// Hundreds of spool files may be open: they share those that are built in.
    schema: Option<Cow<'static, Schema>>,
    /// Set for foreign files only.
    foreign: Option<Foreign>,
    /// Known once the header was read, in the file's order.
    columns: Vec<Column>,
    /// What a file says of its host and log itself is left alone: a second value would make it an array.
    has_host: bool,
    has_log: bool,
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

/// What only foreign files need.
#[derive(Debug)]
struct Foreign {
    origin: Origin,
    /// The column whose value becomes `@timestamp`.
    timestamp_field: Option<String>,
    /// How that one is written, and how the others that hold times are.
    times: Times,
    other_times: Times,
}

#[derive(Debug)]
struct Column {
    /// `"process.pid":`
    key: Vec<u8>,
    value: Value,
    is_timestamp: bool,
    /// For messages.
    name: String,
}

/// How a column's text becomes a JSON value.
#[derive(Debug, Clone, Copy)]
enum Value {
    Text,
    Integer,
    /// An integer that Elasticsearch keeps as a keyword, such as `user.id`.
    IntegerAsText,
    Number,
    Boolean,
    /// Written by KuMon, hence RFC 3339 already.
    OwnTime,
    /// What becomes `@timestamp` because the input or a schema says so.
    Timestamp,
    /// A column that is called `@timestamp`: what can't be read is the sink's to judge.
    NamedTimestamp,
    OtherTime,
}

impl CsvDecoder {
    /// For KuMon's own files.
    pub(crate) fn own(schema: Cow<'static, Schema>) -> CsvDecoder {
        CsvDecoder::new(Some(schema), None)
    }

    /// For a foreign file; without a schema every column is a string. `time` is the column that becomes `@timestamp`.
    pub(crate) fn foreign(
        schema: Option<Schema>,
        origin: Origin,
        time: Option<String>,
        times: Times,
    ) -> CsvDecoder {
        let other_times = times.without_format();
        let foreign = Foreign { origin, timestamp_field: time, times, other_times };
        CsvDecoder::new(schema.map(Cow::Owned), Some(foreign))
    }

    fn new(schema: Option<Cow<'static, Schema>>, foreign: Option<Foreign>) -> CsvDecoder {
        CsvDecoder {
            schema,
            foreign,
            columns: Vec::new(),
            has_host: false,
            has_log: false,
            reader: Reader::new(),
            fields: vec![0; 1024],
            ends: vec![0; 64],
        }
    }

    pub(super) fn reset(&mut self) {
        self.columns.clear();
    }

    pub(super) fn resume(&mut self, head: &[u8]) -> Result<(), Unreadable> {
        let mut head = head;
        while let Some(rest) = head.strip_prefix(BYTE_ORDER_MARK).or_else(|| {
            let blank = head.iter().take_while(|byte| is_line_end(byte)).count();
            (blank > 0).then(|| &head[blank..])
        }) {
            head = rest;
        }
        if head.is_empty() {
            return Ok(());
        }
        match self.split(head, false) {
            Some((_, count)) => self.read_header(count),
            None => Err(Unreadable("its header is gone".into())),
        }
    }

    pub(super) fn step(
        &mut self,
        bytes: &[u8],
        offset: u64,
        last: bool,
        json: &mut Vec<u8>,
    ) -> Result<Step, Unreadable> {
        // Apart from the row behind them: where that begins, and so its id, must not depend on how much was read at
        // once.
        match bytes.iter().take_while(|byte| is_line_end(byte)).count() {
            0 if bytes.is_empty() => return Ok(Step::Incomplete),
            0 => {}
            blank => return Ok(Step::Nothing(blank)),
        }
        // Apart as well; and before the row is taken apart: behind it a quote opens a field.
        if bytes.starts_with(BYTE_ORDER_MARK) {
            return Ok(Step::Nothing(BYTE_ORDER_MARK.len()));
        }
        let Some((used, count)) = self.split(bytes, last) else {
            return Ok(match bytes.len() < MAX_RECORD {
                true => Step::Incomplete,
                false => Step::Bad(first_line(bytes), format!("no end of the row within {MAX_RECORD} bytes")),
            });
        };
        if self.columns.is_empty() {
            self.read_header(count)?;
            return Ok(Step::Nothing(used));
        }
        Ok(match self.write_document(count, offset, json) {
            Ok(()) => Step::Row(used),
            // What has the wrong number of columns may be a stray quote that swallowed the lines behind it.
            Err(reason) if count != self.columns.len() => Step::Bad(first_line(&bytes[..used]), reason),
            Err(reason) => Step::Bad(used, reason),
        })
    }

    /// Takes the first record apart: bytes used and number of fields.
    fn split(&mut self, bytes: &[u8], last: bool) -> Option<(usize, usize)> {
        self.reader.reset();
        let (mut used, mut written, mut count) = (0, 0, 0);
        loop {
            let (result, read, out, ends) =
                self.reader.read_record(&bytes[used..], &mut self.fields[written..], &mut self.ends[count..]);
            used += read;
            written += out;
            count += ends;
            match result {
                ReadRecordResult::Record => return Some((used, count)),
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                // Empty input, given once more, tells csv-core that the file is over.
                ReadRecordResult::InputEmpty if last => {}
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return None,
            }
        }
    }

    fn field(&self, index: usize) -> &[u8] {
        &self.fields[self.range(index)]
    }

    /// Where a field of the first record stands in `fields`.
    fn range(&self, index: usize) -> Range<usize> {
        index.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[index]
    }

    fn read_header(&mut self, count: usize) -> Result<(), Unreadable> {
        let mut names = Vec::with_capacity(count);
        for index in 0..count {
            let name = self.field(index);
            let name = std::str::from_utf8(name).map_err(|_| Unreadable("its header is not UTF-8".into()))?;
            names.push(name.to_owned());
        }
        let schema = match &self.schema {
            Some(schema) => schema.as_ref(),
            None => &text_schema(&names)?,
        };
        let timestamp_field = self.foreign.as_ref().and_then(|foreign| foreign.timestamp_field.as_deref());
        if let Some(missing) = timestamp_field.filter(|field| !names.iter().any(|name| name == field)) {
            return Err(Unreadable(format!(
                "its header has no column '{missing}', the input's timestamp_field"
            )));
        }
        let mut columns = Vec::with_capacity(count);
        for name in names {
            let Some(field) = schema.fields.iter().find(|field| field.name == name) else {
                let known: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
                let known = known.join(", ");
                return Err(Unreadable(format!(
                    "its column '{name}' is not in the schema, which has: {known}"
                )));
            };
            columns.push(Column::new(field, self.foreign.is_some(), timestamp_field));
        }
        let says =
            |prefix: &str| columns.iter().any(|column: &Column| column.key.starts_with(prefix.as_bytes()));
        (self.has_host, self.has_log) = (says("\"host."), says("\"log."));
        self.columns = columns;
        Ok(())
    }

    fn write_document(&self, count: usize, offset: u64, json: &mut Vec<u8>) -> Result<(), String> {
        if count != self.columns.len() {
            return Err(format!("the row has {count} columns, the header {}", self.columns.len()));
        }
        json.push(b'{');
        if let Some(foreign) = &self.foreign
            && !self.has_host
        {
            foreign.origin.write_host(json);
        }
        // Checked for the whole row at once, which is much cheaper than field by field.
        let end = self.ends[..count].last().copied().unwrap_or(0);
        let row = std::str::from_utf8(&self.fields[..end]).ok();
        let mut has_time = false;
        for (index, column) in self.columns.iter().enumerate() {
            let range = self.range(index);
            if range.is_empty() {
                continue;
            }
            let bytes = &self.fields[range.clone()];
            // A part of a valid row that doesn't begin and end between characters is not valid itself.
            let text = row.and_then(|row| row.get(range)).or_else(|| std::str::from_utf8(bytes).ok());
            if column.value.is_foreign_time() && text.is_some_and(time::is_absent) {
                continue;
            }
            has_time |= column.is_timestamp;
            json.extend_from_slice(&column.key);
            let foreign = self.foreign.as_ref();
            column
                .value
                .write(text.ok_or(bytes), foreign, json)
                .map_err(|why| format!("column '{}': {why}", column.name))?;
            json.push(b',');
        }
        if !has_time {
            write_time_of_reading(json);
            json.push(b',');
        }
        match &self.foreign {
            Some(foreign) if !self.has_log => foreign.origin.write_log(json, offset),
            _ => {
                json.pop();
            }
        }
        json.push(b'}');
        Ok(())
    }
}

impl Column {
    fn new(field: &Field, foreign: bool, timestamp_field: Option<&str>) -> Column {
        let named_timestamp = timestamp_field == Some(&field.name);
        let name = if named_timestamp { "@timestamp" } else { &field.ecs };
        let is_keyword = field.elasticsearch["type"] == "keyword";
        let value = match field.r#type {
            _ if named_timestamp => Value::Timestamp,
            FieldType::String if foreign && name == "@timestamp" => Value::NamedTimestamp,
            FieldType::String => Value::Text,
            FieldType::Integer if is_keyword => Value::IntegerAsText,
            FieldType::Integer => Value::Integer,
            FieldType::Number => Value::Number,
            FieldType::Boolean => Value::Boolean,
            FieldType::Datetime if foreign => Value::OtherTime,
            FieldType::Datetime => Value::OwnTime,
        };
        let mut key = Vec::new();
        write_string(&mut key, name);
        key.push(b':');
        Column { key, value, is_timestamp: name == "@timestamp", name: field.name.clone() }
    }
}

impl Value {
    fn is_foreign_time(self) -> bool {
        matches!(self, Value::Timestamp | Value::NamedTimestamp | Value::OtherTime)
    }

    /// How it is written, where it is a time in a file of somebody else.
    fn times(self, foreign: Option<&Foreign>) -> Option<&Times> {
        let foreign = foreign.filter(|_| self.is_foreign_time())?;
        // The input's format is that of the column it names, or else of the one that has the name already.
        let is_formatted = match self {
            Value::Timestamp => true,
            Value::NamedTimestamp => foreign.timestamp_field.is_none(),
            _ => false,
        };
        Some(if is_formatted { &foreign.times } else { &foreign.other_times })
    }

    /// Appends a field's text, or its bytes where they are not UTF-8.
    fn write(
        self,
        text: Result<&str, &[u8]>,
        foreign: Option<&Foreign>,
        json: &mut Vec<u8>,
    ) -> Result<(), String> {
        if let (Some(times), Ok(text)) = (self.times(foreign), text) {
            match times.read(text) {
                Some(time) => write_string(json, &time::render(time)),
                None if matches!(self, Value::NamedTimestamp) => write_string(json, text),
                None => return Err(format!("'{text}' is no time, such as 2026-11-21T01:45:26Z")),
            }
            return Ok(());
        }
        if let Value::Text = self {
            write_string(json, &text.map_or_else(kumon_schema::escape, Cow::Borrowed));
            return Ok(());
        }
        let text = text.map_err(|_| "its value is not UTF-8".to_owned())?;
        let wrong = |what: &str| format!("'{text}' is no {what}");
        match self {
            Value::Integer | Value::IntegerAsText => {
                let number: i64 = text.parse().map_err(|_| wrong("whole number of 64 bits"))?;
                if let Value::Integer = self {
                    // Not as it stands there: JSON knows neither +7 nor 007. A Vec takes all that is written.
                    let _ = serde_json::to_writer(json, &number);
                } else {
                    write_string(json, text);
                }
            }
            Value::Number => {
                let number: f64 = text.parse().map_err(|_| wrong("number"))?;
                if !number.is_finite() {
                    return Err(wrong("finite number"));
                }
                // A Vec takes all that is written.
                let _ = serde_json::to_writer(json, &number);
            }
            Value::Boolean => match text {
                "true" | "True" | "TRUE" | "1" => json.extend_from_slice(b"true"),
                "false" | "False" | "FALSE" | "0" => json.extend_from_slice(b"false"),
                _ => return Err(wrong("boolean (true or false)")),
            },
            _ => write_string(json, text),
        }
        Ok(())
    }
}

/// The length of the first line that isn't blank, up to its line end: behind it, reading goes on.
fn first_line(bytes: &[u8]) -> usize {
    let start = bytes.iter().take_while(|byte| is_line_end(byte)).count();
    bytes[start..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |end| start + end + 1)
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use kumon_schema::rows::Exec;
    use kumon_schema::{Common, Schema, builtin, write_row};

    use super::{CsvDecoder, Step};
    use crate::decode::{Origin, Times, Unreadable};

    fn decode(
        decoder: &mut CsvDecoder,
        mut bytes: &[u8],
    ) -> Result<Vec<Result<serde_json::Value, String>>, Unreadable> {
        let (mut rows, mut offset) = (Vec::new(), 0);
        loop {
            let mut json = Vec::new();
            let used = match decoder.step(bytes, offset, false, &mut json)? {
                Step::Row(used) => {
                    rows.push(Ok(serde_json::from_slice(&json).unwrap()));
                    used
                }
                Step::Nothing(used) => used,
                Step::Bad(used, reason) => {
                    rows.push(Err(reason));
                    used
                }
                Step::Incomplete => return Ok(rows),
            };
            bytes = &bytes[used..];
            offset += used as u64;
        }
    }

    fn foreign(schema: Option<&str>, timestamp_field: Option<&str>) -> CsvDecoder {
        let common = Common { host_name: "node-1".into(), ..Common::default() };
        let schema = schema.map(|text| Schema::parse(text).unwrap());
        CsvDecoder::foreign(
            schema,
            Origin::new(&common, "/srv/a.csv"),
            timestamp_field.map(Into::into),
            Times::default(),
        )
    }

    #[test]
    fn own_rows_become_flat_ecs_documents() {
        let schema = builtin("exec").unwrap();
        let mut bytes = schema.header().into_bytes();
        let common = Common { host_name: "node-1".into(), ..Common::default() };
        let row = Exec { pid: 7, uid: 1000, name: b"a,b\"\n=1+1", command_line: b"\xff", ..Exec::default() };
        write_row(&mut bytes, &common, &row);
        let rows = decode(&mut CsvDecoder::own(std::borrow::Cow::Borrowed(schema)), &bytes).unwrap();
        let [Ok(document)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(document["@timestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(document["host.name"], "node-1");
        assert_eq!(document["process.pid"], 7);
        assert_eq!(document["user.id"], "1000");
        assert_eq!(document["process.name"], "a,b\"\n=1+1");
        assert_eq!(document["process.command_line"], "\\xff");
        assert_eq!(document.get("container.id"), None);
    }

    #[test]
    fn foreign_rows_are_typed_by_their_schema_and_bad_ones_say_why() {
        let schema = r#"{"fields":[{"name":"t","type":"datetime"},{"name":"n","type":"integer","ecs":"event.duration"},
            {"name":"ok","type":"boolean"},{"name":"x","type":"number"}]}"#;
        let bytes = b"\xef\xbb\xbft,n,ok,x\r\n2026-11-21 01:00:00,5,TRUE,1.50\r\n\r\nsoon,5,true,1\r\n,x,true,1\r\n,1\r\n,,,inf\r\n";
        let rows = decode(&mut foreign(Some(schema), Some("t")), bytes).unwrap();
        let good = rows[0].as_ref().unwrap();
        assert_eq!(good["@timestamp"], "2026-11-21T01:00:00Z");
        assert_eq!(
            (&good["event.duration"], &good["ok"], &good["x"]),
            (&5.into(), &true.into(), &1.5.into())
        );
        assert_eq!((&good["host.name"], &good["log.file.path"]), (&"node-1".into(), &"/srv/a.csv".into()));
        let reasons: Vec<_> = rows[1..].iter().map(|row| row.as_ref().unwrap_err().as_str()).collect();
        assert_eq!(
            reasons,
            [
                "column 't': 'soon' is no time, such as 2026-11-21T01:45:26Z",
                "column 'n': 'x' is no whole number of 64 bits",
                "the row has 2 columns, the header 4",
                "column 'x': 'inf' is no finite number",
            ]
        );
    }

    #[test]
    fn a_byte_order_mark_is_taken_off_wherever_files_were_joined() {
        let bytes = b"\n\xef\xbb\xbf\"a,b\",n\n1,2\n\xef\xbb\xbf\"3\",4\n\xef\xbb\xbf\r\n5,6\n";
        let rows = decode(&mut foreign(None, None), bytes).unwrap();
        let values: Vec<_> =
            rows.iter().flatten().map(|row| (row["a,b"].clone(), row["n"].clone())).collect();
        assert_eq!(values, [("1", "2"), ("3", "4"), ("5", "6")].map(|(a, n)| (a.into(), n.into())));
        // And where reading goes on.
        for read in [1, 4, 12, 16] {
            let mut decoder = foreign(None, None);
            decoder.resume(&bytes[..read]).unwrap();
            let rest = decode(&mut decoder, &bytes[read..]).unwrap();
            assert_eq!(rest.len(), if read > 12 { 2 } else { 3 }, "{read}");
        }
    }

    #[test]
    fn times_are_read_alike_in_all_columns_that_hold_some() {
        let schema = r#"{"fields":[{"name":"t","type":"datetime"},{"name":"u","type":"datetime"},{"name":"v","type":"string"}]}"#;
        let times = || Times::new(Some("Europe/Berlin"), Some("%d.%m.%Y")).unwrap();
        let decoder = |schema: Option<&str>, field: Option<&str>| {
            let schema = schema.map(|text| Schema::parse(text).unwrap());
            let origin = Origin::new(&Common::default(), "/a");
            CsvDecoder::foreign(schema, origin, field.map(Into::into), times())
        };
        let bytes = b"t,u,v\n21.11.2026,2026-11-21 01:45:26,null\n,null,21.11.2026\n,x,\nx,,\n";
        let rows = decode(&mut decoder(Some(schema), Some("t")), bytes).unwrap();
        let row = rows[0].as_ref().unwrap();
        assert_eq!(
            (&row["@timestamp"], &row["u"]),
            (&"2026-11-20T23:00:00Z".into(), &"2026-11-21T00:45:26Z".into())
        );
        assert_eq!(row["v"], "null");
        let row = rows[1].as_ref().unwrap();
        assert!(row["@timestamp"].as_str() > Some("2026-11-22") && row.get("u").is_none(), "{row}");
        let why = |row: usize| rows[row].as_ref().unwrap_err().as_str();
        assert_eq!(why(2), "column 'u': 'x' is no time, such as 2026-11-21T01:45:26Z");
        assert_eq!(why(3), "column 't': 'x' is no time, such as 2026-11-21T01:45:26Z");

        // A column of that name, without being named.
        let bytes = b"@timestamp,n\n21.11.2026,1\nsoon,2\nNULL,3\n";
        let rows = decode(&mut decoder(None, None), bytes).unwrap();
        let time = |row: usize| rows[row].as_ref().unwrap()["@timestamp"].as_str().unwrap();
        assert_eq!((time(0), time(1)), ("2026-11-20T23:00:00Z", "soon"));
        assert!(time(2) > "2026-11-22");
    }

    #[test]
    fn what_a_file_says_of_its_host_and_log_is_left_alone() {
        let rows = decode(&mut foreign(None, None), b"host.name,log.level,n\nother,warn,1\n").unwrap();
        let row = rows[0].as_ref().unwrap();
        assert_eq!((&row["host.name"], &row["log.level"]), (&"other".into(), &"warn".into()));
        assert_eq!(row.get("log.offset"), None);
    }

    #[test]
    fn a_quote_that_never_closes_costs_its_line_alone() {
        let mut decoder = foreign(None, None);
        let bytes = [b"a,b\n1,\"x\n".as_slice(), &b"2,y\n".repeat(super::MAX_RECORD / 4)].concat();
        let rows = decode(&mut decoder, &bytes).unwrap();
        assert_eq!(rows.iter().filter(|row| row.is_err()).count(), 1);
        assert_eq!(rows.len(), 1 + super::MAX_RECORD / 4);
    }

    #[test]
    fn a_header_that_does_not_fit_the_schema_is_named() {
        let schema = r#"{"fields":[{"name":"a","type":"string"}]}"#;
        let error = decode(&mut foreign(Some(schema), None), b"a,b\n").unwrap_err().to_string();
        assert_eq!(error, "its column 'b' is not in the schema, which has: a");
        let error = decode(&mut foreign(None, Some("time")), b"a,b\n").unwrap_err().to_string();
        assert_eq!(error, "its header has no column 'time', the input's timestamp_field");
    }

    #[test]
    fn every_cut_of_the_bytes_gives_the_same_rows() {
        let whole = b"a,b\n1,\"x\ny\"\n2,\"\"\"\"\n3,z\n";
        let expected = decode(&mut foreign(None, None), whole).unwrap();
        assert_eq!(expected.len(), 3);
        for cut in 0..whole.len() {
            let mut decoder = foreign(None, None);
            let (mut json, mut at, mut rows) = (Vec::new(), 0, 0);
            for end in [cut, whole.len()] {
                while let Step::Row(used) | Step::Nothing(used) =
                    decoder.step(&whole[at..end], at as u64, false, &mut json).unwrap()
                {
                    rows += usize::from(!json.is_empty());
                    json.clear();
                    at += used;
                }
            }
            assert_eq!((rows, at), (3, whole.len()), "cut at {cut}");
        }
    }
}
