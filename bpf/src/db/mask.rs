//! Replaces the literals in SQL statements by `?`.
//!
//! It reads the words of the language, not its grammar: strings, numbers, comments, and names. What is cut in the
//! middle of a string ends as a string. Names and comments stay, and so does any byte that is no text. It can't know
//! of a server that was told to read backslashes another way (MariaDB's `NO_BACKSLASH_ESCAPES`, PostgreSQL's
//! `standard_conforming_strings = off`).

/// What stands in a literal's place.
const MASK: u8 = b'?';

/// Whose SQL it is: they differ in what is a string and what is a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    MariaDb,
    PostgreSql,
}

/// The statement without its literals.
pub(super) fn literals(statement: &[u8], dialect: Dialect) -> Vec<u8> {
    let mut out = Vec::with_capacity(statement.len());
    let mut rest = statement;
    while !rest.is_empty() {
        let (length, masked) = token(rest, dialect);
        let (token, after) = rest.split_at(length);
        if masked {
            out.push(MASK);
        } else {
            out.extend_from_slice(token);
        }
        rest = after;
    }
    out
}

/// The length of what `text` begins with, at least 1, and whether it is a literal.
fn token(text: &[u8], dialect: Dialect) -> (usize, bool) {
    let mariadb = dialect == Dialect::MariaDb;
    match (text[0], text.get(1)) {
        (b'\'', _) => (quoted(text, mariadb), true),
        (b'"', _) => (quoted(text, mariadb), mariadb),
        (b'`', _) if mariadb => (quoted(text, false), false),
        (b'#', _) if mariadb => (line(text), false),
        (b'-', Some(b'-')) if !mariadb || text.get(2).is_none_or(|&c| c <= b' ') => (line(text), false),
        // What MariaDB executes is no comment, although it looks like one.
        (b'/', Some(b'*')) if mariadb && text[2..].starts_with(b"!") => (3, false),
        (b'/', Some(b'*')) if mariadb && text[2..].starts_with(b"M!") => (4, false),
        (b'/', Some(b'*')) => (comment(text, !mariadb), false),
        (b'$', Some(b'0'..=b'9')) => (1 + digits(&text[1..]), false),
        (b'$', _) if !mariadb => dollar_quoted(text).map_or((1, false), |length| (length, true)),
        (b'.', Some(b'0'..=b'9')) | (b'0'..=b'9', _) => (number(text), true),
        (first, _) if is_name(first) => name(text, dialect),
        _ => (1, false),
    }
}

/// A name, or a string with one of the letters before it that make it another kind of string.
fn name(text: &[u8], dialect: Dialect) -> (usize, bool) {
    let length = text.iter().position(|&byte| !is_name(byte)).unwrap_or(text.len());
    let string = text.get(length) == Some(&b'\'');
    match text[0] {
        b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if string && length == 1 => {
            (1 + quoted(&text[1..], dialect == Dialect::MariaDb), true)
        }
        b'e' | b'E' if string && length == 1 && dialect == Dialect::PostgreSql => {
            (1 + quoted(&text[1..], true), true)
        }
        // A name may hold what looks like the rest of a path: `t.1` is none, the number of a column neither.
        _ => (length, false),
    }
}

/// What stands between quotes like the first byte, which are doubled inside, or escaped where backslashes do that.
fn quoted(text: &[u8], backslashes: bool) -> usize {
    let quote = text[0];
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if backslashes => at += 2,
            _ if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            _ if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `$tag$ … $tag$`; none where `$` begins no such thing.
fn dollar_quoted(text: &[u8]) -> Option<usize> {
    let tag = text[1..].iter().position(|&byte| byte == b'$' || !is_name(byte))?;
    if text[1 + tag] != b'$' {
        return None;
    }
    let delimiter = &text[..tag + 2];
    let body = &text[delimiter.len()..];
    let end = body.windows(delimiter.len()).position(|part| part == delimiter);
    Some(end.map_or(text.len(), |end| end + 2 * delimiter.len()))
}

/// Digits in any base, with a fraction and an exponent.
fn number(text: &[u8]) -> usize {
    let hexadecimal = text[0] == b'0' && matches!(text.get(1), Some(b'x' | b'X'));
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        let exponent = !hexadecimal && matches!(text[at - 1], b'e' | b'E');
        let sign =
            matches!(byte, b'+' | b'-') && exponent && text.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || sign) {
            break;
        }
        at += 1;
    }
    at
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Up to the end of the line.
fn line(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len())
}

/// `/* … */`, which PostgreSQL nests.
fn comment(text: &[u8], nested: bool) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < text.len() {
        if text[at..].starts_with(b"*/") {
            at += 2;
            depth -= 1;
            if depth == 0 {
                return at;
            }
        } else if nested && text[at..].starts_with(b"/*") {
            at += 2;
            depth += 1;
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Bytes from 0x80 on belong to letters of other scripts, in whatever encoding.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::Dialect::{self, MariaDb, PostgreSql};
    use super::literals;

    fn masked(statement: &str, dialect: Dialect) -> String {
        String::from_utf8(literals(statement.as_bytes(), dialect)).unwrap()
    }

    #[test]
    fn literals_are_masked_in_both_dialects_and_the_rest_stays() {
        let table = [
            ("", ""),
            ("SELECT a, b FROM t WHERE c = 'x'", "SELECT a, b FROM t WHERE c = ?"),
            ("SELECT 'it''s', ''", "SELECT ?, ?"),
            ("SELECT 'cut", "SELECT ?"),
            ("SELECT '", "SELECT ?"),
            ("SELECT 1, 1.5, .5, 1., 1e10, 1.5E-3, 2e+7", "SELECT ?, ?, ?, ?, ?, ?, ?"),
            ("SELECT 0xDEADbeef, 0xE-1, 0b01, 1_000", "SELECT ?, ?-?, ?, ?"),
            ("SELECT a-1, a*-2, 5-3, 1e-x", "SELECT a-?, a*-?, ?-?, ?-x"),
            ("SELECT X'1F', b'01', N'name', n'n'", "SELECT ?, ?, ?, ?"),
            ("SELECT t1.c2, _3, a$1, x1'z'", "SELECT t1.c2, _3, a$1, x1?"),
            ("SELECT sleep(1)", "SELECT sleep(?)"),
            ("SELECT grün, größe2 FROM straße WHERE ß='ß'", "SELECT grün, größe2 FROM straße WHERE ß=?"),
            ("SELECT 1 -- '2' 3\n, 4", "SELECT ? -- '2' 3\n, ?"),
            ("SELECT /* '1' 2 */ 3", "SELECT /* '1' 2 */ ?"),
            ("SELECT 1 /* cut '", "SELECT ? /* cut '"),
            ("SELECT $1, ?, :name, @v", "SELECT $1, ?, :name, @v"),
            ("VALUES (1,'a'),(2,'b')", "VALUES (?,?),(?,?)"),
            ("a/b/ c - -", "a/b/ c - -"),
        ];
        for (statement, expected) in table {
            assert_eq!(masked(statement, MariaDb), expected, "{statement}");
            assert_eq!(masked(statement, PostgreSql), expected, "{statement}");
        }
    }

    #[test]
    fn what_is_a_string_or_a_comment_depends_on_the_server() {
        let table = [
            (r"SELECT 'a\'b', 'c'", "SELECT ?, ?", "SELECT ??c?"),
            (r"SELECT 'a\\', 'c'", "SELECT ?, ?", "SELECT ?, ?"),
            (r"SELECT 'C:\', 'c'", "SELECT ?c?", "SELECT ?, ?"),
            (r"SELECT E'a\'b', 'c'", "SELECT E?, ?", "SELECT ?, ?"),
            (r#"SELECT "a""b", "c 1""#, "SELECT ?, ?", r#"SELECT "a""b", "c 1""#),
            ("SELECT `a``b 1`, 1", "SELECT `a``b 1`, ?", "SELECT `a``b ?`, ?"),
            ("SELECT 1 # '2'\n,3", "SELECT ? # '2'\n,?", "SELECT ? # ?\n,?"),
            ("SELECT 5--3", "SELECT ?--?", "SELECT ?--3"),
            (
                "SELECT /*! 1, */ /*M!100000 '2' */ 3",
                "SELECT /*! ?, */ /*M!? ? */ ?",
                "SELECT /*! 1, */ /*M!100000 '2' */ ?",
            ),
            ("/* a /* b */ 1 */ 2", "/* a /* b */ ? */ ?", "/* a /* b */ 1 */ ?"),
            ("SELECT $$it's 1$$, 2", "SELECT $$it?", "SELECT ?, ?"),
            ("SELECT $a$x $$ y$a$, 2", "SELECT $a$x $$ y$a$, ?", "SELECT ?, ?"),
            ("DO $body$ cut 1", "DO $body$ cut ?", "DO ?"),
            ("SELECT a$b$ 1 $b$", "SELECT a$b$ ? $b$", "SELECT a$b$ ? ?"),
            ("SELECT _utf8mb4'x', U&'y'", "SELECT _utf8mb4?, U&?", "SELECT _utf8mb4?, U&?"),
        ];
        for (statement, mariadb, postgresql) in table {
            assert_eq!(masked(statement, MariaDb), mariadb, "{statement}");
            assert_eq!(masked(statement, PostgreSql), postgresql, "{statement}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_masked_inside_strings_and_stay_outside() {
        for dialect in [MariaDb, PostgreSql] {
            let masked = literals(b"SELECT \xff\xfe1, '\xff\\\\', \x001 FROM \xc3", dialect);
            assert_eq!(masked, b"SELECT \xff\xfe1, ?, \x00? FROM \xc3");
        }
    }
}
