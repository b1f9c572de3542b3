//! Files in another encoding than UTF-8. They are decoded a record at a time, so that offsets, and with them ids and
//! positions, stay those of the file's own bytes.

use std::borrow::Cow;

use super::{Decoder, Step, Unreadable};
use crate::encoder::Row;

/// How a file's characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

/// There is no such [`Encoding`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no encoding of files; it takes names such as utf-8, utf-16le, utf-16be, latin1, windows-1252, shift_jis"
)]
pub struct UnknownEncoding(String);

impl Default for Encoding {
    fn default() -> Encoding {
        Encoding(encoding_rs::UTF_8)
    }
}

impl Encoding {
    /// By a name that browsers know it by, `latin1` say (<https://encoding.spec.whatwg.org/#names-and-labels>).
    ///
    /// # Errors
    /// When there is none of that name, or one whose line ends don't show.
    pub fn named(name: &str) -> Result<Encoding, UnknownEncoding> {
        let encoding = encoding_rs::Encoding::for_label(name.as_bytes()).map(Encoding);
        let encoding = encoding.filter(|encoding| encoding.0.is_ascii_compatible() || encoding.unit() == 2);
        encoding.ok_or_else(|| UnknownEncoding(name.to_owned()))
    }

    /// Bytes of a character at least.
    fn unit(self) -> usize {
        if self.0 == encoding_rs::UTF_16LE || self.0 == encoding_rs::UTF_16BE { 2 } else { 1 }
    }

    /// What can't be decoded becomes U+FFFD.
    fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        self.0.decode_without_bom_handling(bytes).0
    }

    /// Where the line ends that `from` stands in, behind its line end.
    fn line_end(self, bytes: &[u8], from: usize) -> usize {
        let newline = if self.0 == encoding_rs::UTF_16BE { [0, b'\n'] } else { [b'\n', 0] };
        let end = match self.unit() {
            1 => memchr::memchr(b'\n', &bytes[from..]),
            unit => bytes[from..].chunks_exact(unit).position(|pair| pair == newline).map(|pair| pair * unit),
        };
        end.map_or(bytes.len(), |end| from + end + self.unit())
    }

    /// How many of the bytes the beginning of their text is made of; it ends behind a line end or a byte order mark.
    fn length_of(self, text: &str, bytes: &[u8]) -> usize {
        if self.unit() == 2 {
            return text.chars().map(char::len_utf16).sum::<usize>() * 2;
        }
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        match text.bytes().filter(is_end).count() {
            0 => self.0.encode(text).0.len(),
            ends => {
                let mut ends_of_bytes = bytes.iter().enumerate().filter(|(_, byte)| is_end(byte));
                ends_of_bytes.nth(ends - 1).map_or(bytes.len(), |(at, _)| at + 1)
            }
        }
    }
}

/// A decoder of what stands in another encoding.
#[derive(Debug)]
pub(crate) struct Transcoder {
    encoding: Encoding,
    pub(super) inner: Decoder,
}

impl Transcoder {
    pub(super) fn step(
        &mut self,
        bytes: &[u8],
        offset: u64,
        last: bool,
        row: &mut Row<'_>,
    ) -> Result<Step, Unreadable> {
        let mut end = self.encoding.line_end(bytes, 0);
        loop {
            let is_all = end == bytes.len();
            let last = last && is_all;
            // Half a character waits for the other half.
            let part = if last { end } else { end - end % self.encoding.unit() };
            let text = self.encoding.decode(&bytes[..part]);
            let length = |used| match text.get(..used) {
                Some(text_used) if used < text.len() => self.encoding.length_of(text_used, &bytes[..part]),
                _ => part,
            };
            if let Decoder::Csv(csv) = &mut self.inner {
                // Half a character at the end of the text is another one with the next bytes.
                csv.reread();
            }
            return Ok(match self.inner.step(text.as_bytes(), offset, last, row)? {
                Step::Row(used) => Step::Row(length(used)),
                Step::Nothing(used) => Step::Nothing(length(used)),
                Step::Bad(used, reason) => Step::Bad(length(used), reason),
                Step::Incomplete if is_all => Step::Incomplete,
                Step::TooLong if is_all => {
                    Step::Bad(self.encoding.line_end(bytes, 0), "the row is too long".to_owned())
                }
                Step::Incomplete | Step::TooLong => {
                    // A record of several lines; twice as many each time, so that each is decoded a few times at most.
                    end = self.encoding.line_end(bytes, (2 * part).min(bytes.len()));
                    continue;
                }
            });
        }
    }

    pub(super) fn begins(&self, bytes: &[u8], last: bool) -> Result<bool, Unreadable> {
        let bytes = &bytes[..bytes.len().min(super::beginning::ENOUGH)];
        let other = match bytes {
            [0xff, 0xfe, ..] => encoding_rs::UTF_16LE,
            [0xfe, 0xff, ..] => encoding_rs::UTF_16BE,
            _ => self.encoding.0,
        };
        if other != self.encoding.0 {
            let (is, set) = (other.name().to_lowercase(), self.encoding.0.name().to_lowercase());
            return Err(Unreadable(format!("it is {is} by its byte order mark, and 'encoding' says {set}")));
        }
        self.inner.begins(self.encoding.decode(bytes).as_bytes(), last)
    }

    pub(super) fn resume(&mut self, head: &[u8], last: u8) -> Result<bool, Unreadable> {
        self.inner.resume(self.encoding.decode(head).as_bytes(), last)
    }

    pub(super) fn unit(&self) -> usize {
        self.encoding.unit()
    }

    pub(super) fn text(&self, bytes: &[u8]) -> Vec<u8> {
        self.encoding.decode(bytes).into_owned().into_bytes()
    }
}

impl Decoder {
    /// The same for files in this encoding.
    pub(crate) fn of_encoding(self, encoding: Encoding) -> Decoder {
        match encoding.0 == encoding_rs::UTF_8 {
            true => self,
            false => Decoder::Transcoder(Box::new(Transcoder { encoding, inner: self })),
        }
    }
}

#[cfg(test)]
mod tests {
    use kumon_schema::Common;
    use serde_json::Value;

    use super::Encoding;
    use crate::decode::{CsvDecoder, Decoder, NdjsonDecoder, Origin, Step, Times};
    use crate::encoder::as_json;

    const NAMES: [&str; 7] =
        ["utf-8", "utf-16le", "UTF-16BE", "latin1", "windows-1252", "shift_jis", "gb18030"];

    fn encode(name: &str, text: &str) -> Vec<u8> {
        match name {
            "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "UTF-16BE" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            _ => Encoding::named(name).unwrap().0.encode(text).0.into_owned(),
        }
    }

    fn decoder(csv: bool, name: &str) -> Decoder {
        let origin = Origin::new(&Common::default(), "/a");
        let decoder = match csv {
            true => Decoder::Csv(CsvDecoder::foreign(None, origin, None, Times::default()).into()),
            false => Decoder::Ndjson(NdjsonDecoder::new(origin, None, Times::default())),
        };
        decoder.of_encoding(Encoding::named(name).unwrap())
    }

    /// The rows' offsets and values of `s`, read in pieces of `chunk` bytes.
    fn rows(decoder: &mut Decoder, bytes: &[u8], mut at: usize, chunk: usize) -> Vec<(usize, String)> {
        let (mut rows, mut have) = (Vec::new(), at);
        while have < bytes.len() {
            have = (have + chunk).min(bytes.len());
            loop {
                let (step, json) = as_json(|row| decoder.step(&bytes[at..have], at as u64, false, row));
                at += match step.unwrap() {
                    Step::Row(used) => {
                        let row: Value = serde_json::from_slice(&json).unwrap();
                        rows.push((at, row["s"].as_str().unwrap().to_owned()));
                        used
                    }
                    Step::Nothing(used) => used,
                    Step::Incomplete | Step::TooLong => break,
                    Step::Bad(_, why) => panic!("{why}"),
                };
            }
        }
        assert_eq!(at, bytes.len());
        rows
    }

    #[test]
    fn rows_of_all_encodings_are_the_same_and_their_offsets_are_the_files() {
        for name in NAMES {
            // Characters that all of them have.
            let value = if name == "shift_jis" || name == "gb18030" { "日本語 А" } else { "äöü ÿ" };
            let mark =
                if matches!(name, "utf-16le" | "UTF-16BE" | "utf-8" | "gb18030") { "\u{feff}" } else { "" };
            let lines = [
                format!("{mark}{{\"s\":\"{value}\"}}\r\n"),
                "\n".into(),
                "{\"s\":\"b\"}\n".into(),
                format!("{{\"s\":\"c{value}\"}}\n"),
            ];
            let records = [
                format!("{mark}\"s\",n\r\n"),
                format!("{value},1\n"),
                "\n".into(),
                format!("\"b\n{value}\n\n\",2\r\n"),
                "c,3\n".into(),
            ];
            for (csv, parts) in [(false, &lines[..]), (true, &records[..])] {
                let bytes: Vec<u8> = parts.iter().flat_map(|part| encode(name, part)).collect();
                let expected = rows(&mut decoder(csv, name), &bytes, 0, bytes.len());
                let texts: Vec<&str> = expected.iter().map(|(_, text)| text.as_str()).collect();
                let (b, c) = (format!("b\n{value}\n\n"), format!("c{value}"));
                assert_eq!(texts, if csv { [value, &b, "c"] } else { [value, "b", &c] }, "{name}");
                for chunk in [1, 3, 7] {
                    assert_eq!(rows(&mut decoder(csv, name), &bytes, 0, chunk), expected, "{name}");
                }
                // A row stands where its offset says, and reading goes on there.
                let (at, _) = expected[1];
                let mut resumed = decoder(csv, name);
                resumed.resume(&bytes[..at], bytes[at - 1]).unwrap();
                assert_eq!(rows(&mut resumed, &bytes, at, bytes.len()), expected[1..], "{name}");
                let start = encode(name, if csv { "\"b" } else { "{\"s\":\"b" });
                assert!(bytes[at..].starts_with(&start) || csv, "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_encoding_of_files_is_refused() {
        for name in ["", "utf8mb4", "iso-2022-jp", "replacement", "ebcdic"] {
            assert!(Encoding::named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_byte_order_mark_that_contradicts_is_told() {
        let why = decoder(false, "utf-16le").begins(b"\xfe\xff\0{", false).unwrap_err().0;
        assert_eq!(why, "it is utf-16be by its byte order mark, and 'encoding' says utf-16le");
        assert_eq!(decoder(false, "utf-16le").begins(b"\xff\xfe{\0\"\0", false), Ok(true));
    }
}
