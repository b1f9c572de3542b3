//! CSV (RFC 4180) to documents, in one pass and driven by the schema.

mod header;
mod split;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use kumon_schema::{Field, FieldType, Schema};

use super::names::{self, is_within};
use super::{BYTE_ORDER_MARK, Origin, Step, Times, Unreadable, time, write_string, write_time_of_reading};
use crate::options::Dialect;
use header::{First, Repeated, first_of_new};
pub(super) use split::ReadAt;
use split::{End, Splitter};

/// A longer record is a dead letter, in bytes.
const MAX_RECORD: usize = 1 << 20;
/// A longer header is none.
const MAX_HEADER: usize = 16 << 20;

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
    splitter: Splitter,
    max_record: usize,
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
    /// The names in the header, or in that of the content before: a writer that keeps its file open writes no other
    /// one when a rotator has copied and truncated it.
    header: Vec<String>,
    repeated: Repeated,
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
        let (header, repeated, other_times) = (Vec::new(), Repeated::default(), times.without_format());
        let foreign = Foreign { origin, timestamp_field: time, times, other_times, header, repeated };
        CsvDecoder::new(schema.map(Cow::Owned), Some(foreign))
    }

    fn new(schema: Option<Cow<'static, Schema>>, foreign: Option<Foreign>) -> CsvDecoder {
        CsvDecoder {
            schema,
            foreign,
            columns: Vec::new(),
            has_host: false,
            has_log: false,
            splitter: Splitter::new(Dialect::default()),
            max_record: MAX_RECORD,
        }
    }

    /// Other characters than RFC 4180's, and another limit than 1 MiB a record.
    pub(crate) fn with(mut self, dialect: Dialect, max_record: Option<usize>) -> CsvDecoder {
        self.splitter = Splitter::new(dialect);
        self.max_record = max_record.unwrap_or(MAX_RECORD);
        self
    }

    /// For a foreign file that had this header when other content stood in it.
    pub(super) fn know_header(&mut self, header: Vec<String>) {
        if let Some(foreign) = &mut self.foreign {
            foreign.header = header;
        }
    }

    /// The header of a foreign file, for the time when its content is replaced; empty while it isn't known.
    pub(super) fn header(&self) -> &[String] {
        self.foreign.as_ref().map_or(&[], |foreign| &foreign.header)
    }

    pub(super) fn reset(&mut self) {
        self.columns.clear();
        self.splitter.reset();
    }

    /// For a record whose bytes come anew, and other than before.
    pub(super) fn reread(&mut self) {
        self.splitter.reset();
    }

    /// Whether what has to be known is in the first bytes of the file, `head`.
    pub(super) fn resume(&mut self, head: &[u8]) -> Result<bool, Unreadable> {
        let mut rest = head;
        while let Some(behind) = rest.strip_prefix(BYTE_ORDER_MARK).or_else(|| {
            let blank = rest.iter().take_while(|byte| is_line_end(byte)).count();
            (blank > 0).then(|| &rest[blank..])
        }) {
            rest = behind;
        }
        if rest.is_empty() {
            return Ok(true);
        }
        self.splitter.reset();
        match self.splitter.split(rest, 0, false) {
            Some((_, count)) => self.read_first(count).map(|_| true),
            None => Ok(false),
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
        if self.splitter.looks_ahead(offset) {
            let is_beginning = bytes.len() < self.max_record;
            return Ok(if is_beginning { Step::Incomplete } else { Step::TooLong });
        }
        let Some((used, count)) = self.splitter.split(bytes, offset, last) else {
            return match self.columns.is_empty() {
                true if bytes.len() < MAX_HEADER => Ok(Step::Incomplete),
                true => Err(Unreadable(format!("its header has no end within {} MiB", MAX_HEADER >> 20))),
                false if bytes.len() < self.max_record => Ok(Step::Incomplete),
                false => Ok(Step::TooLong),
            };
        };
        if self.columns.is_empty() && self.read_first(count)? == First::Header {
            return Ok(Step::Nothing(used));
        }
        if self.is_header_again(count) {
            return Ok(Step::Nothing(used));
        }
        if used > self.max_record {
            return Ok(self.too_long(used, count, memchr::memchr(b'\n', bytes).map(|end| end + 1)));
        }
        Ok(match self.write_document(count, offset, json) {
            Ok(()) => Step::Row(used),
            // What has the wrong number of columns may be a stray quote that swallowed the lines behind it.
            Err(reason) if count != self.columns.len() => Step::Bad(first_line(&bytes[..used]), reason),
            Err(reason) => Step::Bad(used, reason),
        })
    }

    /// What becomes of the record at the beginning of `bytes` that is too long; its end is looked for in the file.
    pub(super) fn skip_long(&mut self, bytes: &[u8], last: bool, read_at: ReadAt<'_>) -> io::Result<Step> {
        Ok(match self.splitter.look_ahead(bytes, last, read_at)? {
            End::At { used, count, line } => self.too_long(used, count, line),
            End::None { line } => {
                Step::Bad(line, format!("no end of the row within {} bytes", self.max_record))
            }
            End::Unknown => Step::Incomplete,
        })
    }

    /// For a record that ends too far behind its beginning; `line` is where its first line ends.
    fn too_long(&self, used: usize, count: usize, line: Option<usize>) -> Step {
        match line {
            // A stray quote has swallowed the lines behind it, until the next one.
            Some(line) if count != self.columns.len() && line < used => {
                Step::Bad(line, format!("the row has {count} columns, the header {}", self.columns.len()))
            }
            _ => Step::Bad(used, format!("the row is longer than {} bytes", self.max_record)),
        }
    }

    fn is_header_again(&self, count: usize) -> bool {
        let Some(foreign) = &self.foreign else { return false };
        foreign.repeated.is(self.splitter.text(count), self.splitter.ends(count))
    }

    /// Reads the columns' names from the file's first record, or from the header that it had before.
    fn read_first(&mut self, count: usize) -> Result<First, Unreadable> {
        let record: Result<Vec<&str>, _> =
            (0..count).map(|index| std::str::from_utf8(self.splitter.field(index))).collect();
        let former = self.header();
        if !former.is_empty() {
            let first = record
                .as_ref()
                .map_or(First::Row, |record| first_of_new(record, former, self.schema.as_deref()));
            if first == First::Row {
                let names = former.to_vec();
                self.read_names(names)?;
                return Ok(First::Row);
            }
        }
        let record = record.map_err(|_| Unreadable("its header is not UTF-8".into()))?;
        let names = record.into_iter().map(str::to_owned).collect();
        self.read_names(names)?;
        Ok(First::Header)
    }

    fn read_names(&mut self, names: Vec<String>) -> Result<(), Unreadable> {
        let fields = self.fields(&names)?;
        let timestamp_field = self.foreign.as_ref().and_then(|foreign| foreign.timestamp_field.as_deref());
        let time = timestamp_field.map(|field| (field, names.iter().position(|name| name == field)));
        if let Some((missing, None)) = time {
            return Err(Unreadable(format!(
                "its header has no column '{missing}', the input's timestamp_field"
            )));
        }
        let time = time.and_then(|(_, index)| index);
        let documents: Vec<&str> = fields.iter().map(|field| &*field.ecs).collect();
        let says = |object| documents.iter().any(|name| is_within(name, object));
        let (has_host, has_log) = (says("host"), says("log"));
        let is_foreign = self.foreign.is_some();
        let documents = match is_foreign {
            true => names::of_columns(&documents),
            false => documents.into_iter().map(str::to_owned).collect(),
        };
        let columns = fields.iter().zip(&documents).enumerate();
        let columns =
            columns.map(|(index, (field, name))| Column::new(field, name, is_foreign, time == Some(index)));
        let columns = columns.collect();
        (self.columns, self.has_host, self.has_log) = (columns, has_host, has_log);
        if let Some(foreign) = &mut self.foreign {
            (foreign.repeated, foreign.header) = (Repeated::new(&names), names);
        }
        Ok(())
    }

    /// The fields of the columns that a header names.
    fn fields(&self, names: &[String]) -> Result<Vec<Cow<'_, Field>>, Unreadable> {
        let Some(schema) = self.schema.as_deref() else {
            return Ok(names.iter().map(|name| Cow::Owned(Field::text(name))).collect());
        };
        let known: HashMap<&str, &Field> =
            schema.fields.iter().map(|field| (field.name.as_str(), field)).collect();
        let field = |name: &String| {
            known.get(name.as_str()).map(|field| Cow::Borrowed(*field)).ok_or_else(|| {
                let known: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
                let known = known.join(", ");
                Unreadable(format!("its column '{name}' is not in the schema, which has: {known}"))
            })
        };
        names.iter().map(field).collect()
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
        let text = self.splitter.text(count);
        let row = std::str::from_utf8(text).ok();
        let mut has_time = false;
        for (index, column) in self.columns.iter().enumerate() {
            let range = self.splitter.range(index);
            if range.is_empty() {
                continue;
            }
            let bytes = &text[range.clone()];
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
    /// `name` is that of the document's field.
    fn new(field: &Field, name: &str, foreign: bool, named_timestamp: bool) -> Column {
        let name = if named_timestamp { "@timestamp" } else { name };
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
    use crate::options::Dialect;

    /// As [`decode_in_chunks`], of 64 KiB.
    fn decode(
        decoder: &mut CsvDecoder,
        file: &[u8],
    ) -> Result<Vec<Result<serde_json::Value, String>>, Unreadable> {
        decode_in_chunks(decoder, file, 64 << 10)
    }

    /// As a file is read: so many bytes more whenever there is no whole record.
    fn decode_in_chunks(
        decoder: &mut CsvDecoder,
        file: &[u8],
        chunk: usize,
    ) -> Result<Vec<Result<serde_json::Value, String>>, Unreadable> {
        let (mut rows, mut at, mut end) = (Vec::new(), 0, 0);
        loop {
            let (mut json, bytes) = (Vec::new(), &file[at..end]);
            let mut step = decoder.step(bytes, at as u64, false, &mut json)?;
            if step == Step::TooLong {
                let mut read_at = |buffer: &mut [u8], offset: u64| {
                    let rest = &file[offset as usize..];
                    let length = rest.len().min(buffer.len()).min(chunk);
                    buffer[..length].copy_from_slice(&rest[..length]);
                    Ok(length)
                };
                step = decoder.skip_long(bytes, false, &mut read_at).unwrap();
            }
            at += match step {
                Step::Row(used) => {
                    rows.push(Ok(serde_json::from_slice(&json).unwrap()));
                    used
                }
                Step::Nothing(used) => used,
                Step::Bad(used, reason) => {
                    rows.push(Err(reason));
                    used
                }
                Step::Incomplete | Step::TooLong if end == file.len() => return Ok(rows),
                Step::Incomplete | Step::TooLong => {
                    end = (end + chunk).min(file.len());
                    continue;
                }
            };
            end = end.max(at);
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
    fn a_record_over_the_limit_is_one_bad_one_and_reading_goes_on_behind_its_true_end() {
        let filler = |length: usize| "x".repeat(length);
        let lines = |length: usize| "x,1\n".repeat(length / 4);
        for (what, record) in [
            ("plain", format!("{},1\n", filler(3000))),
            ("plain, CRLF", format!("{},1\r\n", filler(3000))),
            ("quoted", format!("\"{}\",1\n", filler(3000))),
            ("quoted with lines that look like rows", format!("\"{}\",1\n", lines(3000))),
            ("quoted with quotes", format!("\"{}\"\"{}\",1\n", filler(1500), lines(1500))),
            ("a line end only behind the limit", format!("\"{}\n{}\",1\n", filler(2000), filler(2000))),
            ("just above", format!("{},1\n", filler(1022))),
            ("of too many columns", format!("{}\n", "1,".repeat(2000))),
        ] {
            for chunk in [100, 1024, 1025, 64 << 10] {
                let mut decoder = foreign(None, None).with(Dialect::default(), Some(1024));
                let file = format!("text,n\nshort,0\n{record}short,2\n");
                let rows = decode_in_chunks(&mut decoder, file.as_bytes(), chunk).unwrap();
                let [Ok(first), Err(why), Ok(last)] = &rows[..] else { panic!("{what}, {chunk}: {rows:?}") };
                assert_eq!((&first["n"], &last["n"]), (&"0".into(), &"2".into()), "{what}");
                assert_eq!(why, "the row is longer than 1024 bytes", "{what}");
            }
        }
        let mut decoder = foreign(None, None).with(Dialect::default(), Some(1024));
        let file = format!("text,n\n{},1\n", filler(1021));
        assert!(decode(&mut decoder, file.as_bytes()).unwrap()[0].is_ok());
    }

    #[test]
    fn a_record_without_end_is_none_however_often_it_is_looked_at() {
        let mut decoder = foreign(None, None);
        let (header, record) = (b"a,b\n", b"1,\"x\ny\"\n");
        decoder.step(header, 0, false, &mut Vec::new()).unwrap();
        for length in 1..record.len() {
            for _ in 0..3 {
                let step = decoder.step(&record[..length], 4, false, &mut Vec::new()).unwrap();
                assert_eq!(step, Step::Incomplete, "{length}");
            }
        }
        assert_eq!(decoder.step(record, 4, false, &mut Vec::new()).unwrap(), Step::Row(record.len()));
    }

    #[test]
    fn a_header_of_100_000_columns_takes_linear_time() {
        let names: Vec<String> = (0..100_000).map(|n| format!("a_long_name_of_a_column_{n}")).collect();
        let file = format!("{}\n{}\n", names.join(","), vec!["1"; names.len()].join(","));
        let started = std::time::Instant::now();
        let rows = decode(&mut foreign(None, None), file.as_bytes()).unwrap();
        assert_eq!(rows[0].as_ref().unwrap()["a_long_name_of_a_column_99999"], "1");
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    #[test]
    fn what_begins_where_reading_goes_on_has_the_header_however_wide_that_is() {
        for columns in [1, 2, 20_000] {
            let header: Vec<String> = (0..columns).map(|n| format!("name_{n}")).collect();
            let file = format!("\r\n{}\n", header.join(","));
            let mut decoder = foreign(None, None);
            let mut length = 16;
            while !decoder.resume(&file.as_bytes()[..length.min(file.len())]).unwrap() {
                length *= 2;
            }
            let row = vec!["1"; columns].join(",") + "\n";
            let mut json = Vec::new();
            let step = decoder.step(row.as_bytes(), file.len() as u64, false, &mut json).unwrap();
            assert_eq!(step, Step::Row(row.len()));
        }
    }

    #[test]
    fn after_a_truncation_rows_without_a_header_go_on_under_the_former_one() {
        let schema = r#"{"fields":[{"name":"seq","type":"integer"},{"name":"text","type":"string"}]}"#;
        for schema in [None, Some(schema)] {
            for (content, numbers) in [
                ("3,c\n4,d\n", &["3", "4"][..]),
                ("seq,text\n3,c\n", &["3"]),
                ("\n\nseq,text\n3,c\nseq,text\n4,d\n", &["3", "4"]),
                ("text,seq\nc,3\n", &["3"]),
            ] {
                let mut decoder = foreign(schema, None);
                decode(&mut decoder, b"seq,text\n1,a\n").unwrap();
                // Other content.
                decoder.reset();
                let rows = decode(&mut decoder, content.as_bytes()).unwrap();
                let seq = |row: &Result<serde_json::Value, String>| {
                    row.as_ref().unwrap()["seq"].to_string().replace('"', "")
                };
                assert_eq!(rows.iter().map(seq).collect::<Vec<_>>(), numbers, "{content}");
                // A restart.
                let mut decoder = foreign(schema, None);
                decoder.know_header(vec!["seq".into(), "text".into()]);
                assert!(decoder.resume(content.as_bytes()).unwrap());
                let rows = decode(&mut decoder, b"5,e\n").unwrap();
                let seq_of = if content.starts_with("text") { "text" } else { "seq" };
                assert_eq!(
                    rows.iter().filter_map(|row| row.as_ref().ok()?.get(seq_of)).count(),
                    usize::from(schema.is_none() || seq_of == "seq"),
                    "{content}"
                );
            }
        }
        // What was cut has another number of columns: it is no header and no row.
        let mut decoder = foreign(None, None);
        decode(&mut decoder, b"a,b,c\n1,2,3\n").unwrap();
        decoder.reset();
        let rows = decode(&mut decoder, b",3\n4,5,6\n").unwrap();
        assert_eq!(rows[0], Err("the row has 2 columns, the header 3".into()));
        assert_eq!(rows[1].as_ref().unwrap()["a"], "4");
    }

    #[test]
    fn a_header_that_is_repeated_in_the_middle_is_no_row() {
        let file = b"\xef\xbb\xbfa,b\n1,x\na,b\n2,y\n\xef\xbb\xbfa,b\r\n\"a\",\"b\"\n3,z\nab,\na,bb\n";
        let rows = decode(&mut foreign(None, None), file).unwrap();
        let first: Vec<_> = rows.iter().map(|row| row.as_ref().unwrap()["a"].as_str().unwrap()).collect();
        assert_eq!(first, ["1", "2", "3", "ab", "a"]);
    }

    #[test]
    fn delimiter_and_quote_are_what_the_input_says() {
        for (delimiter, quote, file, expected) in [
            (b';', Some(b'"'), "a;b\n1,5;\"x;y\"\n", "x;y"),
            (b'\t', Some(b'"'), "a\tb\n1,5\t\"x\ty\"\n", "x\ty"),
            (b'|', Some(b'\''), "a|b\n1,5|'x|''y'\n", "x|'y"),
            (b'\t', None, "a\tb\n1,5\t\"x\n", "\"x"),
        ] {
            let mut decoder = foreign(None, None).with(Dialect { delimiter, quote }, None);
            let rows = decode(&mut decoder, file.as_bytes()).unwrap();
            let row = rows[0].as_ref().unwrap();
            assert_eq!((&row["a"], &row["b"]), (&"1,5".into(), &expected.into()), "{file}");
        }
    }

    #[test]
    fn columns_that_meet_ours_or_have_no_name_become_fields_all_the_same() {
        let rows = decode(&mut foreign(None, None), b",host,log,a,a,_id\n0,web,l,1,2,7\n").unwrap();
        let row = rows[0].as_ref().unwrap();
        for (field, value) in
            [("_", "0"), ("host.value", "web"), ("log.value", "l"), ("a", "1"), ("a_2", "2"), ("_id_", "7")]
        {
            assert_eq!(row[field], value, "{field}");
        }
        assert_eq!((&row["host.name"], &row["log.offset"]), (&"node-1".into(), &18.into()));
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
