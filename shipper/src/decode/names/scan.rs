//! Telling the rows whose names are right as they are from the few that need a closer look, without reading them as
//! JSON: nearly all rows pass.

use super::{METADATA, OBJECTS, TIMESTAMP, VALUES, is_blank};

/// Whether names in a JSON object may have to be changed. The text needs not be JSON.
pub(super) fn may_need_care(line: &str) -> bool {
    let bytes = line.as_bytes();
    let (mut at, mut depth, mut keys) = (0, 0_u32, Keys::default());
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let Some(string) = string_at(&line[at..]) else { return false };
                at += string.text.len() + 1;
                let Some(value) = value_behind(&bytes[at..]) else { continue };
                if string.has_escapes || keys.are_odd(string.text, depth, value) {
                    return true;
                }
            }
            _ => {}
        }
    }
    keys.exclude_each_other()
}

struct JsonString<'a> {
    /// As it stands between the quotes.
    text: &'a str,
    has_escapes: bool,
}

/// The string whose opening quote stands before `rest`.
fn string_at(rest: &str) -> Option<JsonString<'_>> {
    let (mut end, mut has_escapes) = (0, false);
    loop {
        end += memchr::memchr2(b'"', b'\\', rest.as_bytes().get(end..)?)?;
        if rest.as_bytes()[end] == b'"' {
            return Some(JsonString { text: &rest[..end], has_escapes });
        }
        has_escapes = true;
        end += 2;
    }
}

/// The first byte of the value, where the string before `rest` is a key.
fn value_behind(rest: &[u8]) -> Option<u8> {
    let mut behind = rest.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    (behind.next() == Some(b':')).then(|| behind.next()).flatten()
}

/// Sets of hashes: two keys that share one need a closer look.
struct Keys {
    whole: [u64; 64],
    /// Of what stands before a dot.
    before_dots: [u64; 64],
    has_dots: bool,
    twice: bool,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys { whole: [0; 64], before_dots: [0; 64], has_dots: false, twice: false }
    }
}

impl Keys {
    /// Takes note of a key of the first level, and says whether it needs a closer look by itself.
    fn are_odd(&mut self, key: &str, depth: u32, value: u8) -> bool {
        let (mut hash, mut blank, mut has_dots) = (0xcbf2_9ce4_8422_2325_u64, true, false);
        for byte in key.bytes() {
            if byte == b'.' {
                if blank {
                    return true;
                }
                (blank, has_dots) = (true, true);
                set(&mut self.before_dots, hash);
            } else {
                // What isn't ASCII may be white space.
                blank &= byte.is_ascii_whitespace() || byte < b' ' || byte == 0x0b || byte >= 0x80;
            }
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if blank && (key.is_empty() || key.split('.').any(|part| part.chars().all(is_blank))) {
            return true;
        }
        if depth != 1 {
            return has_dots;
        }
        self.twice |= set(&mut self.whole, hash);
        self.has_dots |= has_dots;
        match key.as_bytes().first() {
            Some(b'_') => METADATA.contains(&key.split('.').next().unwrap_or(key)),
            Some(b'@' | b'd' | b'h' | b'l') => meets_ours(key, value),
            _ => false,
        }
    }

    fn exclude_each_other(&self) -> bool {
        let mut both = self.whole.iter().zip(&self.before_dots);
        self.twice || (self.has_dots && both.any(|(whole, before)| whole & before != 0))
    }
}

fn set(bits: &mut [u64; 64], hash: u64) -> bool {
    let (word, bit) = ((hash >> 6) as usize % 64, 1 << (hash % 64));
    let was_set = bits[word] & bit != 0;
    bits[word] |= bit;
    was_set
}

/// Whether a key of the first level and the first byte of its value may be at odds with what is mapped.
fn meets_ours(key: &str, value: u8) -> bool {
    if key == TIMESTAMP {
        return !matches!(value, b'"' | b'-' | b'0'..=b'9');
    }
    let is_below = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    OBJECTS.contains(&key)
        || (VALUES.contains(&key) && matches!(value, b'{' | b'['))
        || VALUES.iter().any(|name| is_below(name))
}
