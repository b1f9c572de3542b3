//! The rule by which arbitrary bytes of the kernel (process names, arguments, paths) become UTF-8 text, reversibly.
//!
//! A byte that is not part of valid UTF-8, and NUL, is written as `\xNN` (two lower-case hex digits). A backslash
//! that happens to stand before an `x` is written as `\x5c`, so that `\x` never stands for itself. Everything else,
//! other backslashes included, stays as it is.

use std::borrow::Cow;

/// Text that claims to be UTF-8 (a file's) as such: only where it is not, the rule above is applied.
pub fn escape_invalid(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| escape(bytes), Cow::Borrowed)
}

/// Bytes as text by the rule above; borrows where nothing needs an escape.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains('\0')
        && !text.contains("\\x")
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\0' => out.push_str("\\x00"),
                '\\' if chars.peek() == Some(&'x') => out.push_str("\\x5c"),
                c => out.push(c),
            }
        }
        // A backslash may end the valid part: the escape that follows it would change its meaning.
        if !chunk.invalid().is_empty() && out.ends_with('\\') {
            out.push_str("x5c");
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.into()
}

/// Foreign text as it may stand in a message: on one line, and without characters that a terminal obeys or that let
/// text look like another.
pub fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().flat_map(|c| if hidden(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The bytes that [`escape`] was given.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\'
            && let [b'x', high, low, ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            out.push(high << 4 | low);
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    #[test]
    fn every_pair_and_triple_of_tricky_bytes_comes_back() {
        let tricky = *b"\\x5cA0\0\xff\xc3\xa4,\"\n=";
        for &a in &tricky {
            for &b in &tricky {
                for &c in &tricky {
                    for &d in &tricky {
                        let bytes = [a, b, c, d];
                        assert_eq!(unescape(&escape(&bytes)), bytes, "{bytes:?} as {}", escape(&bytes));
                    }
                }
            }
        }
    }

    #[test]
    fn plain_text_and_lone_backslashes_stay_readable() {
        assert_eq!(escape(b"sed s/\\n/ /"), "sed s/\\n/ /");
        assert_eq!(escape(b"a\xffb"), "a\\xffb");
        assert_eq!(escape(b"\\xff"), "\\x5cxff");
    }
}
