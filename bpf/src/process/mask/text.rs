//! Masks the values of secret names inside a text: a header, JSON, YAML, a URL, a program, a statement.

use super::MASK;
use super::names::{Secrecy, secrecy};

/// Copies a text with its secrets masked.
pub(super) fn mask_text(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let name_end = rest.iter().position(|&byte| !is_name(byte)).unwrap_or(rest.len());
        let found = url_password(rest).or_else(|| private_key(rest));
        if name_end == 0 || found.is_some() {
            if let Some(secret) = &found {
                out.extend_from_slice(&rest[..secret.start]);
                out.extend_from_slice(MASK);
            } else {
                out.push(rest[0]);
            }
            at += found.map_or(1, |secret| secret.end);
            continue;
        }
        let name = &rest[..name_end];
        at += name_end;
        if is_known_token(name) {
            out.extend_from_slice(MASK);
            continue;
        }
        out.extend_from_slice(name);
        let place = Place { text, name, after: at };
        if let Some(secret) = place.value() {
            out.extend_from_slice(&text[at..secret.start]);
            out.extend_from_slice(MASK);
            at = secret.end;
        }
    }
}

/// A name in a text.
struct Place<'a> {
    text: &'a [u8],
    name: &'a [u8],
    /// Where what follows the name begins.
    after: usize,
}

/// What stands between a name and its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    Equals,
    Colon,
    /// Only behind an option, before a quoted string, or behind `Bearer`.
    Blank,
}

impl Place<'_> {
    /// Where the name's value stands, if that is secret.
    fn value(&self) -> Option<std::ops::Range<usize>> {
        let secrecy = self.secrecy()?;
        let (separator, start) = self.separator(secrecy)?;
        let (start, end) = self.bounds(secrecy, separator, start)?;
        let value = &self.text[start..end];
        let is_reference =
            separator == Separator::Colon && (value.starts_with(b":") || value.starts_with(b"//"));
        (!is_reference && !secrecy.shows(value)).then_some(start..end)
    }

    fn secrecy(&self) -> Option<Secrecy> {
        let begin = self.after - self.name.len();
        let before = begin.checked_sub(1).map(|at| self.text[at]);
        let in_url = matches!(before, Some(b'?' | b'&'));
        // What the shell puts there: `PWD=/tmp`, `-v $PWD:/work`, `${PWD}`.
        if self.name.ends_with(b"PWD") && self.name.len() <= 6 && !self.name.contains(&b'_') {
            let value = self.text.get(self.after + 1..).unwrap_or_default();
            if before == Some(b'$') || value.starts_with(b"/") {
                return None;
            }
        }
        match secrecy(self.name)? {
            Secrecy::InUrl if !in_url => None,
            Secrecy::Key if !in_url && !self.name.starts_with(b"-") => None,
            found => Some(found),
        }
    }

    /// What separates the name from its value, and where that begins.
    fn separator(&self, secrecy: Secrecy) -> Option<(Separator, usize)> {
        let text = self.text;
        let byte = |at: usize| text.get(at).copied();
        let skip =
            |at: usize, bytes: &[u8]| at + text[at..].iter().take_while(|byte| bytes.contains(byte)).count();
        // The end of a quoted name, `"password" :` or `\"password\":`, or of an index, `['password'] =`.
        let quote = skip(self.after, b"\\");
        let closed = match byte(quote) {
            Some(b'"' | b'\'') => quote + 1,
            _ => self.after,
        };
        if let Some(value) = value_beside(&text[closed..]).filter(|_| closed > self.after) {
            return Some((Separator::Equals, closed + value));
        }
        let is_element = self.after.checked_sub(self.name.len() + 1).is_some_and(|at| text[at] == b'<');
        if is_element && byte(self.after) == Some(b'>') {
            return Some((Separator::Equals, self.after + 1));
        }
        let closed = if byte(closed) == Some(b']') { closed + 1 } else { closed };
        let operator = skip(closed, b" \t");
        let (separator, end) = match (byte(operator)?, byte(operator + 1)) {
            (b'=', Some(b'>' | b'=')) | (b':', Some(b'=')) => (Separator::Equals, operator + 2),
            (b'=', _) => (Separator::Equals, operator + 1),
            (b':', _) => (Separator::Colon, operator + 1),
            (b'"' | b'\'', Some(_)) if operator > closed && secrecy == Secrecy::Secret => {
                // SQL: `IDENTIFIED BY PASSWORD 'x'`, `ALTER USER a PASSWORD 'x'`.
                return (closed == self.after).then_some((Separator::Blank, operator));
            }
            // SQL: `SET PASSWORD FOR a = 'x'`.
            (b'F' | b'f', Some(b'O' | b'o')) if self.name.eq_ignore_ascii_case(b"password") => {
                let sign = text[operator..].iter().position(|&byte| byte == b'=')?;
                (Separator::Equals, operator + sign + 1)
            }
            (first, _) if operator > closed && closed == self.after => {
                let is_option = self.name.starts_with(b"-") && first != b'-';
                let is_bearer = self.name.eq_ignore_ascii_case(b"bearer") && text[operator..].len() > 5;
                return (is_option || is_bearer).then_some((Separator::Blank, operator));
            }
            _ => return None,
        };
        let blanks: &[u8] = if closed > self.after { b" \t\r\n" } else { b" \t" };
        Some((separator, skip(end, blanks)))
    }

    /// Where the value, whose first byte or quote stands at `start`, begins and ends without its quotes.
    fn bounds(&self, secrecy: Secrecy, separator: Separator, start: usize) -> Option<(usize, usize)> {
        let text = self.text;
        let escapes = text.get(start..)?.iter().take_while(|&&byte| byte == b'\\').count();
        let begins_text = self.after == self.name.len();
        let rest = &text[start..];
        let until =
            |end: &dyn Fn(u8) -> bool| start + rest.iter().position(|&byte| end(byte)).unwrap_or(rest.len());
        match *text.get(start + escapes)? {
            quote @ (b'"' | b'\'' | b'`') => {
                let inner = start + escapes + 1;
                Some((inner, quoted_end(text, inner, quote, escapes)))
            }
            b'[' | b'{' | b'(' if escapes == 0 => Some((start, bracket_end(text, start))),
            b'|' | b'>' if separator == Separator::Colon && is_block(rest) => {
                Some((start, block_end(text, start)))
            }
            // `password=two words` may be one argument, all of it secret.
            _ if begins_text && separator == Separator::Equals && text.get(self.after) == Some(&b'=') => {
                Some((start, text.len()))
            }
            // A value that has a line for itself, and that of a header, may have blanks: `Authorization: Bearer x`.
            _ if separator == Separator::Colon && self.begins_line() => {
                Some((start, until(&|byte| matches!(byte, b'\n' | b'\r'))))
            }
            _ if separator == Separator::Colon && secrecy == Secrecy::Header => {
                Some((start, until(&|byte| matches!(byte, b'"' | b'\'' | b'\n' | b'\r'))))
            }
            _ => Some((start, bare_end(text, start))),
        }
    }

    /// Whether nothing but blanks and a list's dash stands before the name in its line.
    fn begins_line(&self) -> bool {
        let before = &self.text[..self.after - self.name.len()];
        let line = before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'-'))
    }
}

/// Where the value begins behind a name that is itself a value: `"name":"PASSWORD","value":"x"`,
/// `<add key="password" value="x"/>`.
fn value_beside(rest: &[u8]) -> Option<usize> {
    let skip =
        |at: usize, bytes: &[u8]| at + rest[at..].iter().take_while(|byte| bytes.contains(byte)).count();
    let word = skip(0, b", \t\r\n\\\"'");
    let end = rest[word..].get(..5).filter(|word| word.eq_ignore_ascii_case(b"value")).map(|_| word + 5)?;
    let sign = skip(end, b"\\\"' \t");
    matches!(rest.get(sign), Some(b':' | b'=')).then(|| skip(sign + 1, b" \t\r\n"))
}

/// Where a quoted text ends whose first byte stands at `at`. `escapes` backslashes stand before its quotes: it lies
/// inside of another quoted text then.
fn quoted_end(text: &[u8], mut at: usize, quote: u8, escapes: usize) -> usize {
    let start = at;
    let mut backslashes = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' {
            backslashes += 1;
        } else {
            let ends = if escapes == 0 { backslashes % 2 == 0 } else { backslashes <= escapes };
            if byte == quote && ends {
                let rest = &text[at + 1..];
                // A quote that is doubled, or put between two texts as the shell wants it, `'a'\''b'`.
                let goes_on =
                    escapes == 0 && at > start && (rest.first() == Some(&quote) || rest.starts_with(b"\\''"));
                if !goes_on {
                    return at - backslashes.min(escapes);
                }
                at += if rest.first() == Some(&quote) { 1 } else { 3 };
            }
            backslashes = 0;
        }
        at += 1;
    }
    text.len()
}

/// Behind the bracket that closes the one at `start`.
fn bracket_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth -= 1,
            b'"' | b'\'' => at = quoted_end(text, at + 1, byte, 0),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// YAML's `|` and `>` begin a text that stands in the lines below.
fn is_block(value: &[u8]) -> bool {
    let head = value.iter().skip(1).take_while(|&&byte| matches!(byte, b'-' | b'+' | b'0'..=b'9')).count();
    matches!(value.get(1 + head), Some(b'\n' | b'\r'))
}

/// The end of the lines that are indented below the one at `start`.
fn block_end(text: &[u8], start: usize) -> usize {
    let line_end =
        |at: usize| text[at..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| at + end);
    let mut end = line_end(start);
    while text.get(end + 1).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n')) {
        end = line_end(end + 1);
    }
    end
}

/// The end of a value without quotes; a backslash takes what follows with it.
fn bare_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if !matches!(text.get(at + 1), Some(b'"' | b'\'' | b'n' | b'r')) => at += 1,
            // A call, as `PASSWORD('x')`.
            b'(' => return bracket_end(text, at),
            b'"' | b'\'' | b'&' | b';' | b',' | b'}' | b')' | b']' | b'<' | b'\\' => break,
            _ if byte.is_ascii_whitespace() => break,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

/// `://user:password@`: where the password stands. A user without one that looks like a token counts too.
fn url_password(text: &[u8]) -> Option<std::ops::Range<usize>> {
    let url = text.strip_prefix(b"://")?;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>');
    let url = &url[..url.iter().position(ends).unwrap_or(url.len())];
    let host = url.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(url.len());
    let colon = url[..host].iter().position(|&byte| byte == b':');
    let is_port = |colon: usize| url[colon + 1..host].iter().all(u8::is_ascii_digit);
    let at = match url[..host].iter().rposition(|&byte| byte == b'@') {
        Some(at) => at,
        // A password with a slash, which should have been written as %2F.
        None => url
            .iter()
            .rposition(|&byte| byte == b'@')
            .filter(|_| colon.is_some_and(|colon| !is_port(colon)))?,
    };
    let start = match colon.filter(|&colon| colon < at) {
        Some(colon) => colon + 1,
        None if is_known_token(&url[..at]) => 0,
        None => return None,
    };
    (start < at).then_some(3 + start..3 + at)
}

/// A private key in PEM's form.
fn private_key(text: &[u8]) -> Option<std::ops::Range<usize>> {
    let head = text.strip_prefix(b"-----BEGIN ")?;
    let head_end = head.windows(5).position(|part| part == b"-----")?;
    let is_private = head[..head_end].windows(7).any(|part| part == b"PRIVATE");
    let start = 11 + head_end + 5;
    let end =
        text[start..].windows(9).position(|part| part == b"-----END ").map_or(text.len(), |end| start + end);
    is_private.then_some(start..end)
}

/// Tokens that say by their first letters what they are.
fn is_known_token(word: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 20] = [
        b"ghp_",
        b"gho_",
        b"ghu_",
        b"ghs_",
        b"ghr_",
        b"github_pat_",
        b"glpat-",
        b"xoxb-",
        b"xoxp-",
        b"xoxa-",
        b"xapp-",
        b"sk_live_",
        b"rk_live_",
        b"sk-proj-",
        b"sk-ant-",
        b"npm_",
        b"dckr_pat_",
        b"hvs.",
        b"AIzaSy",
        b"SG.",
    ];
    let is_jwt = || word.starts_with(b"eyJ") && word.iter().filter(|&&byte| byte == b'.').count() == 2;
    (word.len() >= 20 && BEGINNINGS.iter().any(|begin| word.starts_with(begin)))
        || (word.len() > 30 && is_jwt())
}

/// Whether a name may hold the byte.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}
