//! CSV (RFC 4180) to documents, in one pass and driven by the schema.

mod header;
mod split;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use kumon_schema::{Field, FieldType, Schema};

use super::names::{self, is_within};
use super::{BYTE_ORDER_MARK, Origin, Step, Times, Unreadable, time, write_time_of_reading};
use crate::encoder::{FieldName, Row, Value};
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
    field: FieldName,
    value: ColumnValue,
    /// What parts the values of a list.
    delimiter: Option<char>,
    is_timestamp: bool,
    /// Its own name, for messages.
    name: String,
}

/// How a column's text becomes a field's value.
#[derive(Debug, Clone, Copy)]
enum ColumnValue {
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
        row: &mut Row<'_>,
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
        Ok(match self.write_row(count, offset, row) {
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

    fn write_row(&self, count: usize, offset: u64, row: &mut Row<'_>) -> Result<(), String> {
        if count != self.columns.len() {
            return Err(format!("the row has {count} columns, the header {}", self.columns.len()));
        }
        let foreign = self.foreign.as_ref();
        if let Some(foreign) = foreign
            && !self.has_host
        {
            foreign.origin.write_host(row);
        }
        // Checked for the whole row at once, which is much cheaper than field by field.
        let text = self.splitter.text(count);
        let valid = std::str::from_utf8(text).ok();
        let mut has_time = false;
        for (index, column) in self.columns.iter().enumerate() {
            let range = self.splitter.range(index);
            if range.is_empty() {
                continue;
            }
            let bytes = &text[range.clone()];
            // A part of a valid row that doesn't begin and end between characters is not valid itself.
            let text = valid.and_then(|valid| valid.get(range)).or_else(|| std::str::from_utf8(bytes).ok());
            if column.value.is_foreign_time() && text.is_some_and(time::is_absent) {
                continue;
            }
            has_time |= column.is_timestamp;
            column
                .write(text.ok_or(bytes), foreign, row)
                .map_err(|why| format!("column '{}': {why}", column.name))?;
        }
        if !has_time {
            write_time_of_reading(row);
        }
        if let Some(foreign) = foreign
            && !self.has_log
        {
            foreign.origin.write_log(row, offset);
        }
        row.end();
        Ok(())
    }
}

impl Column {
    /// `name` is that of the document's field.
    fn new(field: &Field, name: &str, foreign: bool, named_timestamp: bool) -> Column {
        let name = if named_timestamp { "@timestamp" } else { name };
        let is_keyword = field.elasticsearch["type"] == "keyword";
        let value = match field.value_type() {
            _ if named_timestamp => ColumnValue::Timestamp,
            FieldType::String if foreign && name == "@timestamp" => ColumnValue::NamedTimestamp,
            FieldType::String => ColumnValue::Text,
            FieldType::Integer if is_keyword => ColumnValue::IntegerAsText,
            FieldType::Integer => ColumnValue::Integer,
            FieldType::Number => ColumnValue::Number,
            FieldType::Boolean => ColumnValue::Boolean,
            FieldType::Datetime if foreign => ColumnValue::OtherTime,
            FieldType::Datetime => ColumnValue::OwnTime,
            // Items are of another type.
            FieldType::List => ColumnValue::Text,
        };
        let is_timestamp = name == "@timestamp";
        let is_list = field.r#type == FieldType::List && !is_timestamp;
        let delimiter = is_list.then_some(char::from(field.delimiter.0));
        Column { field: FieldName::new(name), value, delimiter, is_timestamp, name: field.name.clone() }
    }

    /// Gives away the column's value: its text, or its bytes where they are not UTF-8.
    fn write(
        &self,
        text: Result<&str, &[u8]>,
        foreign: Option<&Foreign>,
        row: &mut Row<'_>,
    ) -> Result<(), String> {
        if let Some(delimiter) = self.delimiter {
            return self.write_list(delimiter, text, foreign, row);
        }
        if let (Some(times), Ok(text)) = (self.value.times(foreign), text) {
            match times.read(text) {
                Some(time) => row.field(&self.field, Value::Time(&time::render(time))),
                None if matches!(self.value, ColumnValue::NamedTimestamp) => {
                    row.field(&self.field, Value::Text(text));
                }
                None => return Err(format!("'{text}' is no time, such as 2026-11-21T01:45:26Z")),
            }
            return Ok(());
        }
        if let ColumnValue::Text = self.value {
            row.field(&self.field, Value::Text(&text.map_or_else(kumon_schema::escape, Cow::Borrowed)));
            return Ok(());
        }
        let text = text.map_err(|_| "its value is not UTF-8".to_owned())?;
        row.field(&self.field, self.value.of(text)?);
        Ok(())
    }

    fn write_list(
        &self,
        delimiter: char,
        text: Result<&str, &[u8]>,
        foreign: Option<&Foreign>,
        row: &mut Row<'_>,
    ) -> Result<(), String> {
        let text = text.map_or_else(kumon_schema::escape, Cow::Borrowed);
        let mut items: Vec<Cow<'_, str>> = text.split(delimiter).map(Cow::Borrowed).collect();
        if let Some(times) = self.value.times(foreign) {
            let time = |item: &Cow<'_, str>| {
                let time = times.read(item).ok_or_else(|| format!("'{item}' is no time"))?;
                Ok::<_, String>(Cow::Owned(time::render(time)))
            };
            let items: Vec<Cow<'_, str>> =
                items.iter().filter(|item| !time::is_absent(item)).map(time).collect::<Result<_, _>>()?;
            let times: Vec<Value<'_>> = items.iter().map(|item| Value::Time(item)).collect();
            row.field(&self.field, Value::List(&times));
            return Ok(());
        }
        if foreign.is_none() {
            // See `kumon_schema::List`.
            let escaped = format!("\\x{:02x}", u32::from(delimiter));
            for item in items.iter_mut().filter(|item| item.contains(&escaped)) {
                *item = item.replace(&escaped, delimiter.encode_utf8(&mut [0; 4])).into();
            }
        }
        let is_text = matches!(self.value, ColumnValue::Text);
        let given = items.iter().filter(|item| is_text || !item.trim().is_empty());
        let values = given.map(|item| self.value.of(if is_text { item } else { item.trim() }));
        row.field(&self.field, Value::List(&values.collect::<Result<Vec<_>, _>>()?));
        Ok(())
    }
}

impl ColumnValue {
    fn is_foreign_time(self) -> bool {
        matches!(self, ColumnValue::Timestamp | ColumnValue::NamedTimestamp | ColumnValue::OtherTime)
    }

    /// How it is written, where it is a time in a file of somebody else.
    fn times(self, foreign: Option<&Foreign>) -> Option<&Times> {
        let foreign = foreign.filter(|_| self.is_foreign_time())?;
        // The input's format is that of the column it names, or else of the one that has the name already.
        let is_formatted = match self {
            ColumnValue::Timestamp => true,
            ColumnValue::NamedTimestamp => foreign.timestamp_field.is_none(),
            _ => false,
        };
        Some(if is_formatted { &foreign.times } else { &foreign.other_times })
    }

    /// What a text says.
    fn of(self, text: &str) -> Result<Value<'_>, String> {
        let wrong = |what: &str| format!("'{text}' is no {what}");
        let whole = || text.parse::<i64>().map_err(|_| wrong("whole number of 64 bits"));
        Ok(match self {
            ColumnValue::Integer => Value::Integer(whole()?),
            ColumnValue::IntegerAsText => {
                whole()?;
                Value::Text(text)
            }
            ColumnValue::Number => {
                let number: f64 = text.parse().map_err(|_| wrong("number"))?;
                if !number.is_finite() {
                    return Err(wrong("finite number"));
                }
                Value::Number(number)
            }
            ColumnValue::Boolean => match text {
                "true" | "True" | "TRUE" | "1" => Value::Boolean(true),
                "false" | "False" | "FALSE" | "0" => Value::Boolean(false),
                _ => return Err(wrong("boolean (true or false)")),
            },
            ColumnValue::OwnTime => Value::Time(text),
            _ => Value::Text(text),
        })
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
mod tests;
