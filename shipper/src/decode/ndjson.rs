//! NDJSON to rows: lines are checked and passed through, with their origin spliced in.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::names::{Comparison, Shape, TIMESTAMP, is_flat, is_within, tidy};
use super::{BYTE_ORDER_MARK, Origin, Step, Times, time};
use crate::encoder::{Row, Value};

/// A longer line is refused: it would have to stand in memory whole.
const MAX_RECORD: usize = 16 << 20;

/// Decodes the lines of a foreign NDJSON file.
#[derive(Debug)]
pub(crate) struct NdjsonDecoder {
    /// Boxed: it is larger than all the rest.
    origin: Box<Origin>,
    timestamp_field: Option<String>,
    /// How its value is written, or that of `@timestamp` where no other field is named.
    times: Times,
    /// How the value of `@timestamp` is written beside it.
    own_times: Times,
    max_record: usize,
    /// Within a line whose beginning was refused or shipped already.
    within_line: bool,
    /// Of rows whose names need no look.
    shape: Shape,
}

impl NdjsonDecoder {
    pub(crate) fn new(origin: Origin, timestamp_field: Option<String>, times: Times) -> NdjsonDecoder {
        let is_own = timestamp_field.as_deref().is_none_or(|field| field == TIMESTAMP);
        let own_times = if is_own { times.clone() } else { times.without_format() };
        NdjsonDecoder {
            origin: origin.into(),
            timestamp_field,
            times,
            own_times,
            max_record: MAX_RECORD,
            within_line: false,
            shape: Shape::default(),
        }
    }

    /// Another limit than 16 MiB a line.
    pub(crate) fn with(mut self, max_record: Option<usize>) -> NdjsonDecoder {
        self.max_record = max_record.unwrap_or(MAX_RECORD);
        self
    }

    pub(super) fn resume(&mut self, within_line: bool) {
        self.within_line = within_line;
    }

    pub(super) fn step(&mut self, bytes: &[u8], offset: u64, last: bool, row: &mut Row<'_>) -> Step {
        if self.within_line {
            return self.skip_line(bytes);
        }
        let used = match memchr::memchr(b'\n', bytes) {
            Some(end) => end + 1,
            None if last && !bytes.is_empty() => bytes.len(),
            None if bytes.len() >= self.max_record => {
                self.within_line = true;
                return Step::Bad(
                    bytes.len(),
                    format!("the line is longer than {} bytes; the rest of it is left out", self.max_record),
                );
            }
            None => return Step::Incomplete,
        };
        let line = bytes[..used].strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes[..used]).trim_ascii();
        if line.is_empty() {
            return Step::Nothing(used);
        }
        match self.write_row(line, offset, row) {
            Ok(()) => Step::Row(used),
            Err(reason) => self.split(&bytes[..used], offset, row).unwrap_or(Step::Bad(used, reason)),
        }
    }

    /// Of a line that is none, with a row at its end: what stands before that. A power cut left NULs instead of the line
    /// end.
    fn split(&mut self, line: &[u8], offset: u64, row: &mut Row<'_>) -> Option<Step> {
        let behind = &line[memchr::memrchr(0, line)? + 1..];
        TopLevel::read(std::str::from_utf8(behind.trim_ascii()).ok()?, None, &self.shape).ok()?;
        let cut = memchr::memchr(0, line)?;
        let used = cut + line[cut..].iter().take_while(|byte| **byte == 0).count();
        Some(match self.write_row(line[..cut].trim_ascii(), offset, row) {
            Ok(()) => Step::Row(used),
            Err(reason) => Step::Bad(used, format!("NULs follow, left by a crash; {reason}")),
        })
    }

    /// What follows up to the line's end is part of what the dead letters have the beginning of.
    fn skip_line(&mut self, bytes: &[u8]) -> Step {
        let end = memchr::memchr(b'\n', bytes);
        self.within_line = end.is_none();
        match end.map_or(bytes.len(), |end| end + 1) {
            0 => Step::Incomplete,
            used => Step::Nothing(used),
        }
    }

    /// Gives nothing away before it is known that the line is a row.
    fn write_row(&mut self, line: &[u8], offset: u64, row: &mut Row<'_>) -> Result<(), String> {
        let line =
            std::str::from_utf8(line).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))?;
        let field = self.timestamp_field.as_deref();
        let mut top = TopLevel::read(line, field, &self.shape)?;
        let tidied = if top.can_stay(line) { Cow::Borrowed(line) } else { tidy(line) };
        if let Cow::Owned(tidied) = &tidied {
            // The field of its time may have another name by now.
            let timestamp = top.timestamp;
            top = TopLevel::read(tidied, field, &self.shape)?;
            top.timestamp = top.timestamp.or(timestamp);
        } else if !top.has_known_names {
            self.shape.learn(line);
        }
        let line = &*tidied;

        let time = self.time(&top)?.map(time::render);
        if let (None, Some(time)) = (top.own_time, &time) {
            row.field(&super::TIMESTAMP, Value::Time(time));
        }
        // What a row says of its host and log itself is left alone: a second value would make it an array.
        if !top.has_host {
            self.origin.write_host(row);
        }
        if !top.has_log {
            self.origin.write_log(row, offset);
        }
        let mut inner = line[1..].trim_start();
        // A second @timestamp would be refused: the new one stands where the old one did.
        if let (Some(own), Some(time)) = (top.own_time, &time) {
            let start = own.as_ptr() as usize - inner.as_ptr() as usize;
            row.rest(&inner[..start]);
            row.rest(&format!("\"{time}\""));
            inner = &inner[start + own.len()..];
        }
        row.rest(inner);
        row.end();
        Ok(())
    }

    /// What `@timestamp` is to be; `None` where the row's own stays as it is.
    fn time(&self, top: &TopLevel<'_>) -> Result<Option<DateTime<Utc>>, String> {
        if top.own_time.is_some_and(time::is_rfc_3339) && !self.own_times.have_format() {
            return Ok(None);
        }
        let own = top.own_time.filter(|own| !time::is_absent(&text_of(own)));
        let (raw, times) = match (own, top.timestamp) {
            (Some(own), _) => (own, &self.own_times),
            (None, Some(other)) => (other, &self.times),
            (None, None) => return Ok(Some(Utc::now())),
        };
        let text = text_of(raw);
        if time::is_absent(&text) {
            return Ok(Some(Utc::now()));
        }
        match (times.read(&text), self.timestamp_field.as_deref()) {
            (None, Some(field)) if own.is_none() || field == TIMESTAMP => {
                Err(format!("field '{field}': '{text}' is no time"))
            }
            // The sink may know how to read it.
            (time, _) => Ok(time),
        }
    }
}

/// What has to be known of a document's first level.
#[derive(Default)]
struct TopLevel<'a> {
    has_host: bool,
    has_log: bool,
    /// The value of `@timestamp`, as it stands there.
    own_time: Option<&'a str>,
    /// The value of the input's timestamp field, if that is another one.
    timestamp: Option<&'a str>,
    /// Whether its names are those of a shape.
    has_known_names: bool,
}

impl<'a> TopLevel<'a> {
    /// Reads a JSON object without building it.
    fn read(line: &'a str, timestamp_field: Option<&str>, shape: &Shape) -> Result<TopLevel<'a>, String> {
        let mut json = serde_json::Deserializer::from_str(line);
        let top = json
            .deserialize_map(TopLevelVisitor { timestamp_field, names: shape.compare() })
            .map_err(|e| format!("no JSON object: {e}"))?;
        json.end().map_err(|e| format!("more than one JSON object: {e}"))?;
        Ok(top)
    }

    /// Whether the names of the row can stay as they are, as far as that is known without a look at each.
    fn can_stay(&self, line: &str) -> bool {
        let may_be_time =
            |value: &str| value.starts_with(['"', '-']) || value.starts_with(|c: char| c.is_ascii_digit());
        self.has_known_names && self.own_time.is_none_or(may_be_time) && is_flat(line)
    }
}

/// A key, owned only where it holds escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct TopLevelVisitor<'f> {
    timestamp_field: Option<&'f str>,
    names: Comparison<'f>,
}

impl<'de> Visitor<'de> for TopLevelVisitor<'_> {
    type Value = TopLevel<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<TopLevel<'de>, A::Error> {
        let mut top = TopLevel::default();
        while let Some(Key(key)) = map.next_key()? {
            self.names.add(&key);
            match &*key {
                "host" => top.has_host = true,
                "log" => top.has_log = true,
                key => {
                    top.has_host |= is_within(key, "host");
                    top.has_log |= is_within(key, "log");
                }
            }
            if key == TIMESTAMP {
                top.own_time = Some(map.next_value::<&RawValue>()?.get());
            } else if self.timestamp_field == Some(&*key) {
                top.timestamp = Some(map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        top.has_known_names = self.names.is_same();
        Ok(top)
    }
}

/// What a value says, without quotes.
fn text_of(raw: &str) -> Cow<'_, str> {
    serde_json::from_str::<Key<'_>>(raw).map_or(Cow::Borrowed(raw), |Key(text)| text)
}

#[cfg(test)]
mod tests {
    use kumon_schema::Common;

    use super::{NdjsonDecoder, Origin, Step, Times};
    use crate::encoder::as_json;

    fn decode(line: &[u8], timestamp_field: Option<&str>) -> Result<serde_json::Value, String> {
        decode_times(line, timestamp_field, Times::default())
    }

    fn decode_times(
        line: &[u8],
        timestamp_field: Option<&str>,
        times: Times,
    ) -> Result<serde_json::Value, String> {
        let common = Common { host_name: "node-1".into(), ..Common::default() };
        let mut decoder =
            NdjsonDecoder::new(Origin::new(&common, "/a"), timestamp_field.map(Into::into), times);
        let (step, json) = as_json(|row| decoder.step(line, 9, false, row));
        match step {
            Step::Row(used) => {
                assert_eq!(used, line.len());
                Ok(serde_json::from_slice(&json)
                    .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&json))))
            }
            Step::Bad(_, reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_pass_through_with_their_origin() {
        let row =
            decode(b"{ \"@timestamp\":\"2026-11-21T00:00:00Z\",\"n\":1.50,\"deep\":{\"a\":[1]}}\r\n", None)
                .unwrap();
        assert_eq!(row["deep"]["a"][0], 1);
        assert_eq!((&row["host.name"], &row["log.offset"]), (&"node-1".into(), &9.into()));
        let row =
            decode(b"{\"host\":{\"name\":\"other\"},\"log.level\":\"warn\",\"t\":1795225526}\n", Some("t"))
                .unwrap();
        assert_eq!(row["host"]["name"], "other");
        assert_eq!((row.get("host.name"), row.get("log.offset")), (None, None));
        assert_eq!(row["@timestamp"], "2026-11-21T01:45:26Z");
        assert!(decode(b"{}\n", None).unwrap()["@timestamp"].is_string());
        assert!(decode(b"{\"host\":1,\"log\":2}\n", None).unwrap()["@timestamp"].is_string());
    }

    #[test]
    fn rows_with_the_names_of_those_before_are_looked_at_where_their_values_differ() {
        let mut decoder = NdjsonDecoder::new(Origin::new(&Common::default(), "/a"), None, Times::default());
        let mut decode = |line: &str| -> serde_json::Value {
            let (step, json) = as_json(|row| decoder.step(line.as_bytes(), 0, false, row));
            assert!(matches!(step, Step::Row(_)), "{line}");
            serde_json::from_slice(&json)
                .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&json)))
        };
        let usual = "{\"@timestamp\":\"2026-11-21T00:00:00Z\",\"a\":1,\"b.c\":2}\n";
        for _ in 0..3 {
            assert_eq!(decode(usual)["@timestamp"], "2026-11-21T00:00:00Z");
        }
        // No time, and names within.
        let row = decode("{\"@timestamp\":true,\"a\":1,\"b.c\":2}\n");
        assert_eq!((&row["@timestamp_"], row["@timestamp"].is_string()), (&true.into(), true));
        let row = decode("{\"@timestamp\":\"2026-11-21T00:00:00Z\",\"a\":[{\"\":1}],\"b.c\":2}\n");
        assert_eq!(row["a"][0]["_"], 1);
        // One more, one less, another one.
        assert_eq!(decode("{\"@timestamp\":1795225526,\"a\":1,\"b.c\":2,\"b\":3}\n")["b.value"], 3);
        assert_eq!(decode("{\"@timestamp\":1795225526,\"a\":1}\n")["a"], 1);
        assert_eq!(decode("{\"@timestamp\":1795225526,\"a\":1,\"_id\":2}\n")["_id_"], 2);
    }

    #[test]
    fn a_byte_order_mark_is_taken_off_wherever_files_were_joined() {
        let mut decoder = NdjsonDecoder::new(Origin::new(&Common::default(), "/a"), None, Times::default());
        let bytes = b"\xef\xbb\xbf{\"n\":1}\r\n{\"n\":2}\n\xef\xbb\xbf{\"n\":3}\n\xef\xbb\xbf\n\xef\xbb\xbf {\"n\":4}\n";
        let (mut at, mut rows) = (0, Vec::new());
        while at < bytes.len() {
            let (step, json) = as_json(|row| decoder.step(&bytes[at..], at as u64, false, row));
            match step {
                Step::Row(used) => {
                    let row: serde_json::Value = serde_json::from_slice(&json).unwrap();
                    rows.push((row["n"].as_u64().unwrap(), row["log.offset"].as_u64().unwrap()));
                    at += used;
                }
                Step::Nothing(used) => at += used,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rows, [(1, 0), (2, 12), (3, 20), (4, 35)]);
    }

    #[test]
    fn a_row_behind_a_few_nuls_in_a_line_is_one() {
        let steps = |line: &[u8]| {
            let mut decoder =
                NdjsonDecoder::new(Origin::new(&Common::default(), "/a"), None, Times::default());
            let (mut at, mut steps) = (0, Vec::new());
            while at < line.len() {
                let (step, used) = match as_json(|row| decoder.step(&line[at..], 0, false, row)).0 {
                    Step::Row(used) => ("row", used),
                    Step::Bad(used, _) => ("bad", used),
                    other => panic!("{other:?}"),
                };
                steps.push((step, used));
                at += used;
            }
            steps
        };
        assert_eq!(steps(b"{\"n\":1}\0\0{\"n\":2}\n"), [("row", 9), ("row", 8)]);
        assert_eq!(steps(b"{\"n\":\0{\"n\":\0\0{\"n\":2}\n"), [("bad", 6), ("bad", 7), ("row", 8)]);
        assert_eq!(steps(b"{\"s\":\"a\0b\"}\n"), [("bad", 12)]);
    }

    #[test]
    fn a_row_has_one_time_wherever_it_is_from() {
        let zone = || Times::new(Some("Europe/Berlin"), None).unwrap();
        let format = || Times::new(None, Some("%d.%m.%Y %H:%M:%S")).unwrap();
        let time = |line: &str, field, times| {
            let row = decode_times(format!("{line}\n").as_bytes(), field, times)?;
            let text = row["@timestamp"].as_str().map_or_else(|| row["@timestamp"].to_string(), Into::into);
            let is_new = text.len() > 20 && chrono::Utc::now().to_rfc3339()[..10] == text[..10];
            Ok::<_, String>(if is_new { "now".into() } else { text })
        };
        for (line, field, times, expected) in [
            // Its own, as it stands there where both sinks know it.
            (r#"{"@timestamp":"2026-10-21T01:45:26.5Z"}"#, None, zone(), "2026-10-21T01:45:26.5Z"),
            (r#"{"@timestamp":"2026-10-21T01:45:26+02:00"}"#, None, zone(), "2026-10-21T01:45:26+02:00"),
            (
                r#"{"n":{"a":1}, "@timestamp" : "2026-10-21 01:45:26,5" ,"z":2}"#,
                None,
                zone(),
                "2026-10-20T23:45:26.500Z",
            ),
            (r#"{"@timestamp":"2016-12-31T23:59:60Z"}"#, None, zone(), "2017-01-01T00:00:00Z"),
            (r#"{"\u0040timestamp":1795225526}"#, None, zone(), "2026-11-21T01:45:26Z"),
            (r#"{"@timestamp":1795225526123}"#, Some("t"), zone(), "2026-11-21T01:45:26.123Z"),
            (r#"{"@timestamp":"2026-10-21T01:45:26Z","t":1}"#, Some("t"), format(), "2026-10-21T01:45:26Z"),
            (
                r#"{"@timestamp":"2026-10-21T01:45:26,5Z","t":1}"#,
                Some("t"),
                format(),
                "2026-10-21T01:45:26.500Z",
            ),
            (r#"{"@timestamp":"21.10.2026 01:45:26"}"#, None, format(), "2026-10-21T01:45:26Z"),
            (r#"{"@timestamp":"21.10.2026 01:45:26"}"#, Some("@timestamp"), format(), "2026-10-21T01:45:26Z"),
            // What nobody can read is the sink's to judge, unless it was named.
            (r#"{"@timestamp":"soon"}"#, None, zone(), "soon"),
            (r#"{"@timestamp":{"a":1}}"#, None, zone(), "now"),
            (r#"{"@timestamp":true}"#, None, zone(), "now"),
            // None.
            (r#"{"@timestamp":null}"#, None, zone(), "now"),
            (r#"{"@timestamp":" "}"#, Some("@timestamp"), zone(), "now"),
            (r#"{"@timestamp":"","t":0}"#, Some("t"), zone(), "1970-01-01T00:00:00Z"),
            (r#"{"t":null}"#, Some("t"), zone(), "now"),
            (r#"{"t":""}"#, Some("t"), format(), "now"),
            (r#"{"n":1}"#, Some("t"), zone(), "now"),
            (r#"{}"#, None, zone(), "now"),
            // The input's field.
            (r#"{"t":"\u0031795225526"}"#, Some("t"), zone(), "2026-11-21T01:45:26Z"),
            (r#"{"t":1795225526.25}"#, Some("t"), zone(), "2026-11-21T01:45:26.250Z"),
            (r#"{"t":"21.10.2026 01:45:26"}"#, Some("t"), format(), "2026-10-21T01:45:26Z"),
        ] {
            assert_eq!(time(line, field, times).as_deref(), Ok(expected), "{line}");
        }
        for (line, field, why) in [
            (r#"{"t":1795225526}"#, "t", "field 't': '1795225526' is no time"),
            (r#"{"t":[1]}"#, "t", "field 't': '[1]' is no time"),
            (r#"{"@timestamp":"soon"}"#, "@timestamp", "field '@timestamp': 'soon' is no time"),
        ] {
            assert_eq!(time(line, Some(field), format()), Err(why.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_is_no_object_says_why() {
        assert!(decode(b"[1]\n", None).unwrap_err().contains("expected an object"));
        assert!(decode(b"{\"a\":1}{\"b\":2}\n", None).unwrap_err().contains("more than one JSON object"));
        assert!(decode(b"{\"a\":\n", None).unwrap_err().contains("no JSON object"));
        assert_eq!(decode(b"{\"a\":\"\xff\"}\n", None).unwrap_err(), "not UTF-8 at byte 7");
        assert_eq!(decode(b"{\"t\":\"soon\"}\n", Some("t")).unwrap_err(), "field 't': 'soon' is no time");
    }
}
