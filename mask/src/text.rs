//! Masks the values of secret names inside a text: a header, JSON, YAML, a URL, a program, a statement.

use super::names::{Secrecy, secrecy};
use super::{MASK, shapes};

/// Copies an argument with its secrets masked.
pub(super) fn mask_text(text: &[u8], out: &mut Vec<u8>) {
    mask(text, true, out);
}

/// Copies a part of a script with its secrets masked.
pub(super) fn mask_part(text: &[u8], out: &mut Vec<u8>) {
    mask(text, false, out);
}

fn mask(text: &[u8], is_argument: bool, out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let name_end = rest.iter().position(|&byte| !is_name(byte)).unwrap_or(rest.len());
        let found = shapes::url_password(rest).or_else(|| shapes::private_key(rest));
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
        if shapes::is_known_token(name) {
            out.extend_from_slice(MASK);
            at += name_end;
            continue;
        }
        out.extend_from_slice(name);
        let place = Place { text, name, after: at + name_end, is_argument };
        let secret = place.value().or_else(|| shapes::behind_name(text, at, name_end));
        at += name_end;
        if let Some(secret) = secret.filter(|secret| secret.start >= at && secret.end > secret.start) {
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
    /// The text is an argument of its own.
    is_argument: bool,
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
        let is_none = match separator {
            Separator::Colon => secrecy == Secrecy::Login || self.is_no_value(start, value),
            Separator::Equals | Separator::Blank => false,
        };
        (!is_none && !secrecy.shows(value)).then_some(start..end)
    }

    /// Whether what stands behind a colon is something else than the name's value: the rest of a URL or of a path
    /// (`std::token`, `-v /s:/run/secrets:ro`), a task (`rake secrets:setup`), or what follows a prompt (`'Password: ')`).
    fn is_no_value(&self, start: usize, value: &[u8]) -> bool {
        let begin = self.after - self.name.len();
        let is_in_path =
            begin > 1 && self.text[begin - 1] == b'/' && !self.text[begin - 2].is_ascii_whitespace();
        let is_beside = start == self.after + 1;
        let is_plural = self.name.ends_with(b"s") && value.iter().all(u8::is_ascii_lowercase);
        let quote =
            self.text.get(start.saturating_sub(1)).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let closes = quote.is_some_and(|quote| {
            self.text[..begin].iter().filter(|&&byte| byte == quote).count() % 2 == 1
                && matches!(self.text.get(start), None | Some(b')' | b',' | b';' | b' '))
        });
        value.starts_with(b":")
            || value.starts_with(b"//")
            || (is_beside && (is_in_path || (is_plural && self.is_argument && begin == 0)))
            || (closes && self.text.get(self.after) == Some(&b':'))
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
        if self.name == b"p" && matches!(before, None | Some(b',')) && self.is_of_dsn() {
            return Some(Secrecy::Secret);
        }
        if self.name.eq_ignore_ascii_case(b"key")
            && self.text[..begin].to_ascii_uppercase().ends_with(b"PRAGMA ")
        {
            return Some(Secrecy::Secret);
        }
        match secrecy(self.name)? {
            Secrecy::InUrl | Secrecy::LongInUrl if !in_url => None,
            Secrecy::Key if !in_url && !self.name.starts_with(b"-") => None,
            found => Some(found),
        }
    }

    /// Percona's `h=host,u=user,p=secret`.
    fn is_of_dsn(&self) -> bool {
        let begins =
            |part: &[u8]| part.starts_with(b"h=") || part.starts_with(b"u=") || part.starts_with(b"D=");
        self.text.get(self.after) == Some(&b'=')
            && self.text.len() < 1024
            && self.text.split(|&byte| matches!(byte, b',' | b' ')).any(begins)
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
        let escapes = text
            .get(start..)
            .filter(|rest| !rest.is_empty())?
            .iter()
            .take_while(|&&byte| byte == b'\\')
            .count();
        let begins_text = self.is_argument && self.name != b"p" && self.after == self.name.len();
        // SQL's N'x', Python's b'x' and C#'s $"x".
        let is_prefixed = escapes == 0
            && text[start].is_ascii()
            && b"NEbBrRuUfF$@".contains(&text[start])
            && matches!(text.get(start + 1), Some(b'"' | b'\''));
        if is_prefixed {
            return Some((start + 2, quoted_end(text, start + 2, text[start + 1], 0)));
        }
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
pub(super) fn quoted_end(text: &[u8], mut at: usize, quote: u8, escapes: usize) -> usize {
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
pub(super) fn bare_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if !matches!(text.get(at + 1), Some(b'"' | b'\'' | b'n' | b'r')) => at += 1,
            // A call, as `PASSWORD('x')`.
            b'{' if at > start && text[at - 1] == b'$' => {
                at = bracket_end(text, at);
                continue;
            }
            b'(' => {
                at = bracket_end(text, at);
                continue;
            }
            b'"' | b'\'' | b'&' | b';' | b',' | b'}' | b')' | b']' | b'<' | b'\\' => break,
            _ if byte.is_ascii_whitespace() => break,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

/// Where the part stands in a text.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|here| here == part)
}

/// Whether a name may hold the byte.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}
