//! KuMon's own NDJSON to rows: each line is a document already.

use serde::de::IgnoredAny;

use super::Step;
use crate::encoder::Row;

/// Checks lines and gives them away as they are.
#[derive(Debug)]
pub(crate) struct DocumentDecoder;

impl DocumentDecoder {
    /// A line without end is none before the file's end, and then only where it shows that it is whole: the writer of the
    /// file may have died within it.
    #[expect(clippy::unused_self, reason = "decoders are called alike")]
    pub(super) fn step(&self, bytes: &[u8], last: bool, row: &mut Row<'_>) -> Step {
        let used = match memchr::memchr(b'\n', bytes) {
            Some(end) => end + 1,
            None if last && !bytes.is_empty() => bytes.len(),
            None => return Step::Incomplete,
        };
        let line = bytes[..used].trim_ascii();
        if line.is_empty() {
            return Step::Nothing(used);
        }
        match document(line) {
            Ok(fields) => {
                row.rest(fields);
                row.end();
                Step::Row(used)
            }
            Err(reason) => Step::Bad(used, reason),
        }
    }
}

/// What stands behind the `{` of a JSON object.
fn document(line: &[u8]) -> Result<&str, String> {
    let line = std::str::from_utf8(line).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))?;
    let fields = line.strip_prefix('{').ok_or("no JSON object")?;
    serde_json::from_str::<IgnoredAny>(line).map_err(|e| format!("no JSON object: {e}"))?;
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::{DocumentDecoder, Step};
    use crate::encoder::as_json;

    #[test]
    fn whole_lines_pass_and_cut_ones_do_not() {
        let step = |bytes: &[u8], last| {
            let (step, json) = as_json(|row| DocumentDecoder.step(bytes, last, row));
            (step, String::from_utf8(json).unwrap())
        };
        let line = "{\"@timestamp\":\"2026-11-21T01:45:26.000000Z\",\"process.name\":\"a\\nb\"}";
        let (row, json) = step(format!("{line}\n{{").as_bytes(), false);
        assert_eq!((row, json.as_str()), (Step::Row(line.len() + 1), line));
        assert_eq!(step(line.as_bytes(), false).0, Step::Incomplete);
        assert_eq!(step(line.as_bytes(), true).0, Step::Row(line.len()));
        assert_eq!(step(b"\n{}\n", false).0, Step::Nothing(1));
        for (bad, why) in
            [("{\"a\":", "no JSON object: EOF"), ("[1]", "no JSON object"), ("{}{}", "trailing characters")]
        {
            let Step::Bad(used, reason) = step(format!("{bad}\n").as_bytes(), true).0 else {
                panic!("{bad}")
            };
            assert_eq!(used, bad.len() + 1);
            assert!(reason.contains(why), "{reason}");
        }
    }
}
