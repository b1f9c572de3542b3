//! What a file turns out to be by how it begins.

use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::{BYTE_ORDER_MARK, Unreadable};

/// So much of a file is looked at. In bytes.
pub(super) const ENOUGH: usize = 64 << 10;

/// Whether the bytes of a text come in pairs.
pub(super) fn check_encoding(bytes: &[u8]) -> Result<(), Unreadable> {
    let (name, key) = match bytes {
        [0xff, 0xfe, ..] => ("little-endian", "utf-16le"),
        [0xfe, 0xff, ..] => ("big-endian", "utf-16be"),
        [a, 0, b, 0, ..] if *a > 0 && *b > 0 => ("little-endian", "utf-16le"),
        [0, a, 0, b, ..] if *a > 0 && *b > 0 => ("big-endian", "utf-16be"),
        _ => return Ok(()),
    };
    Err(Unreadable(format!(
        "it is UTF-16, {name}; set 'encoding: {key}' for its input, or let it be written in UTF-8"
    )))
}

/// Whether a file's beginning tells that it is NDJSON, or as good as that; `false` where too little of it is there.
/// With `last` there is no more.
pub(super) fn is_ndjson(bytes: &[u8], last: bool) -> Result<bool, Unreadable> {
    let bytes = &bytes[..bytes.len().min(ENOUGH)];
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start();
    let over_lines = || {
        Err(Unreadable(
            "its JSON goes over several lines, not one object a line; 'jq -c .' makes NDJSON of it".into(),
        ))
    };
    let array = || {
        Err(Unreadable("it is a JSON array, not one object a line; 'jq -c .[]' makes NDJSON of it".into()))
    };
    let is_array = text.starts_with(b"[");
    if !is_array && !text.starts_with(b"{") {
        return Ok(true);
    }
    let Some(end) = memchr::memchr(b'\n', text) else {
        // An array on a line of its own may be all there is; an object is a row when it has its line end.
        return if is_array && (bytes.len() == ENOUGH || value(text) == Ok(())) { array() } else { Ok(true) };
    };
    let first = value(&text[..end]);
    if first == Err(Category::Syntax) || (first.is_ok() && !is_array) {
        return Ok(true);
    }
    let rest = text[end..].trim_ascii_start();
    let second = match memchr::memchr(b'\n', rest) {
        Some(end) => &rest[..end],
        None if last || bytes.len() == ENOUGH || (first.is_ok() && !rest.is_empty()) => rest,
        None if first.is_ok() => return array(),
        None => return Ok(false),
    };
    let is_row = second.starts_with(b"{") && value(second).is_ok();
    if first.is_ok() {
        return if is_row { Ok(true) } else { array() };
    }
    // What is cut begins no value that the next line goes on with.
    let both = &text[..text.len() - rest.len() + second.len()];
    match value(both) {
        Err(Category::Syntax) => Ok(true),
        _ if is_array => array(),
        _ if is_row || second.is_empty() => Ok(true),
        _ => over_lines(),
    }
}

/// Whether the bytes are one JSON value; else whether more may make them one.
fn value(bytes: &[u8]) -> Result<(), Category> {
    let parsed = serde_json::from_slice::<IgnoredAny>(bytes).map(|_| ());
    parsed.map_err(|e| if e.is_eof() { Category::Eof } else { Category::Syntax })
}

#[cfg(test)]
mod tests {
    use super::{check_encoding, is_ndjson};

    #[test]
    fn json_that_is_not_one_object_a_line_is_told() {
        let array = "it is a JSON array, not one object a line; 'jq -c .[]' makes NDJSON of it";
        let lines = "its JSON goes over several lines, not one object a line; 'jq -c .' makes NDJSON of it";
        let long = format!("[{}1]", "1,".repeat(50_000));
        for (text, expected) in [
            ("[1,2]\n", array),
            ("[{\"a\":1},{\"a\":2}]", array),
            (" [\n", "wait"),
            ("[\n{\"a\":1},\n", array),
            ("[\r\n  {\r\n    \"a\": 1\r\n", array),
            ("[\n{\"a\":1}\n,{\"a\":2}\n]\n", array),
            ("[1]\n[2]\n[3]\n", array),
            (&long, array),
            ("\u{feff}\n{\n", "wait"),
            ("{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n", lines),
            ("{\n\n  \"a\": {\n", lines),
            ("{ \"a\": 1,\n  \"b\": 2 }\n", lines),
            ("{\n}\n", lines),
            // As good as NDJSON: what is no row is a dead letter.
            ("", "ndjson"),
            ("\n\n", "ndjson"),
            ("{\"a\":1}\n{\n", "ndjson"),
            ("{\"a\":1", "ndjson"),
            ("[1]\n{\"a\":1}\n", "ndjson"),
            ("{\"a\":\n{\"a\":1}\n", "ndjson"),
            ("{\"a\":\"cut\n{\"a\":1}\n", "ndjson"),
            ("{\"a\":1}{\"b\":1}\n", "ndjson"),
            ("[2026-11-21] started\nready\n", "ndjson"),
            ("no JSON\n", "ndjson"),
            ("null\n", "ndjson"),
        ] {
            let is = is_ndjson(text.as_bytes(), false);
            let is = is.as_ref().map_or_else(|e| &*e.0, |ready| if *ready { "ndjson" } else { "wait" });
            assert_eq!(is, expected, "{text:.100}");
        }
        assert_eq!(is_ndjson(b"{\n", true), Ok(true));
    }

    #[test]
    fn utf_16_is_told_with_and_without_a_byte_order_mark() {
        let encoded = |text: &str, little: bool| -> Vec<u8> {
            text.encode_utf16()
                .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
                .collect()
        };
        for text in ["\u{feff}{\"n\":1}\n", "{\"n\":1}\n", "n,text\n", "\u{feff}ä"] {
            let why = |little| check_encoding(&encoded(text, little)).unwrap_err().0;
            assert!(why(true).contains("'encoding: utf-16le'"), "{text}");
            assert!(why(false).contains("'encoding: utf-16be'"), "{text}");
        }
        for bytes in [
            b"".as_slice(),
            b"{",
            b"{\"n\":1}",
            b"\0\0\0\0",
            b"\0\0{\"n",
            b"\0{\"n\"",
            b"a\0\0\0",
            "ä,ö".as_bytes(),
        ] {
            assert_eq!(check_encoding(bytes), Ok(()), "{bytes:?}");
        }
    }
}
