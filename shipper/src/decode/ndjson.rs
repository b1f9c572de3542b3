//! NDJSON to documents: lines are checked and passed through, with their origin spliced in.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Origin, Step, time, write_string, write_time_of_reading};

/// A longer line is refused: it would have to stand in memory whole.
const MAX_RECORD: usize = 16 << 20;

/// Decodes the lines of a foreign NDJSON file.
#[derive(Debug)]
pub(crate) struct NdjsonDecoder {
    origin: Origin,
    timestamp_field: Option<String>,
    /// Within a line whose beginning was refused or shipped already.
    within_line: bool,
}

impl NdjsonDecoder {
    pub(crate) fn new(origin: Origin, timestamp_field: Option<String>) -> NdjsonDecoder {
        NdjsonDecoder { origin, timestamp_field, within_line: false }
    }

    pub(super) fn resume(&mut self, within_line: bool) {
        self.within_line = within_line;
    }

    pub(super) fn step(&mut self, bytes: &[u8], offset: u64, last: bool, json: &mut Vec<u8>) -> Step {
        if self.within_line {
            return self.skip_line(bytes);
        }
        let used = match memchr::memchr(b'\n', bytes) {
            Some(end) => end + 1,
            None if last && !bytes.is_empty() => bytes.len(),
            None if bytes.len() >= MAX_RECORD => {
                self.within_line = true;
                return Step::Bad(
                    bytes.len(),
                    format!("the line is longer than {MAX_RECORD} bytes; the rest of it is left out"),
                );
            }
            None => return Step::Incomplete,
        };
        let line = bytes[..used].trim_ascii();
        if line.is_empty() {
            return Step::Nothing(used);
        }
        match self.write_document(line, offset, json) {
            Ok(()) => Step::Row(used),
            Err(reason) => Step::Bad(used, reason),
        }
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

    fn write_document(&self, line: &[u8], offset: u64, json: &mut Vec<u8>) -> Result<(), String> {
        let line =
            std::str::from_utf8(line).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))?;
        let top = TopLevel::read(line, self.timestamp_field.as_deref())?;

        json.push(b'{');
        if let Some(text) = top.timestamp.filter(|_| !top.has_timestamp) {
            let field = self.timestamp_field.as_deref().unwrap_or_default();
            let time = time::parse(&text).ok_or_else(|| format!("field '{field}': '{text}' is no time"))?;
            json.extend_from_slice(b"\"@timestamp\":");
            write_string(json, &time::render(time));
            json.push(b',');
        } else if !top.has_timestamp {
            write_time_of_reading(json);
            json.push(b',');
        }
        // What a row says of its host and log itself is left alone: a second value would make it an array.
        if !top.has_host {
            self.origin.write_host(json);
        }
        if !top.has_log {
            self.origin.write_log(json, offset);
            json.push(b',');
        }
        let inner = line[1..].trim_start();
        if inner.starts_with('}') && json.last() == Some(&b',') {
            json.pop();
        }
        json.extend_from_slice(inner.as_bytes());
        Ok(())
    }
}

/// What has to be known of a document's first level.
#[derive(Default)]
struct TopLevel<'a> {
    has_timestamp: bool,
    has_host: bool,
    has_log: bool,
    /// The value of the input's timestamp field, as text.
    timestamp: Option<Cow<'a, str>>,
}

impl<'a> TopLevel<'a> {
    /// Reads a JSON object without building it.
    fn read(line: &'a str, timestamp_field: Option<&str>) -> Result<TopLevel<'a>, String> {
        let mut json = serde_json::Deserializer::from_str(line);
        let top = json
            .deserialize_map(TopLevelVisitor { timestamp_field })
            .map_err(|e| format!("no JSON object: {e}"))?;
        json.end().map_err(|e| format!("more than one JSON object: {e}"))?;
        Ok(top)
    }
}

/// A key, owned only where it holds escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct TopLevelVisitor<'f> {
    timestamp_field: Option<&'f str>,
}

impl<'de> Visitor<'de> for TopLevelVisitor<'_> {
    type Value = TopLevel<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TopLevel<'de>, A::Error> {
        let mut top = TopLevel::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "@timestamp" => top.has_timestamp = true,
                "host" => top.has_host = true,
                "log" => top.has_log = true,
                key => {
                    top.has_host |= key.starts_with("host.");
                    top.has_log |= key.starts_with("log.");
                }
            }
            if self.timestamp_field == Some(&*key) {
                let raw: &RawValue = map.next_value()?;
                let text = raw.get();
                top.timestamp = Some(match serde_json::from_str::<String>(text) {
                    Ok(string) => Cow::Owned(string),
                    Err(_) => Cow::Borrowed(text),
                });
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(top)
    }
}

#[cfg(test)]
mod tests {
    use kumon_schema::Common;

    use super::{NdjsonDecoder, Origin, Step};

    fn decode(line: &[u8], timestamp_field: Option<&str>) -> Result<serde_json::Value, String> {
        let common = Common { host_name: "node-1".into(), ..Common::default() };
        let mut decoder = NdjsonDecoder::new(Origin::new(&common, "/a"), timestamp_field.map(Into::into));
        let mut json = Vec::new();
        match decoder.step(line, 9, false, &mut json) {
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
    fn what_is_no_object_says_why() {
        assert!(decode(b"[1]\n", None).unwrap_err().contains("expected an object"));
        assert!(decode(b"{\"a\":1}{\"b\":2}\n", None).unwrap_err().contains("more than one JSON object"));
        assert!(decode(b"{\"a\":\n", None).unwrap_err().contains("no JSON object"));
        assert_eq!(decode(b"{\"a\":\"\xff\"}\n", None).unwrap_err(), "not UTF-8 at byte 7");
        assert_eq!(decode(b"{\"t\":\"soon\"}\n", Some("t")).unwrap_err(), "field 't': 'soon' is no time");
    }
}
