//! Replaces the literals in SQL statements by `?`.
//!
//! It reads the words of the language, not its grammar: strings, numbers, comments, and names. What is cut in the
//! middle of a string ends as a string. Names and comments stay, and so does any byte that is no text. It can't know
//! of a server that was told to read backslashes another way (MariaDB's `NO_BACKSLASH_ESCAPES`, PostgreSQL's
//! `standard_conforming_strings = off`).
//!
//! MariaDB and MySQL read a statement in the client's character set, which nobody tells us. In those of Japan and China
//! (sjis, cp932, gbk, gb18030, big5) the second byte of a character may be a backslash. What is no UTF-8 is therefore read
//! both ways, and whatever is a literal in one of them is masked.

use std::ops::Range;

/// What stands in a literal's place.
const MASK: u8 = b'?';

/// Whose SQL it is: they differ in what is a string and what is a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    MariaDb,
    PostgreSql,
}

/// How the bytes from 0x80 on are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    /// Each byte for itself, as in UTF-8 no other one is part of such a character.
    Bytes,
    /// The byte behind one of them belongs to it.
    Pairs,
}

/// The statement without its literals.
pub(super) fn literals(statement: &[u8], dialect: Dialect) -> Vec<u8> {
    let mut spans = Reader { dialect, charset: Charset::Bytes }.literals(statement);
    if dialect == Dialect::MariaDb && !is_utf8(statement) {
        spans.extend(Reader { dialect, charset: Charset::Pairs }.literals(statement));
        spans.sort_by_key(|span| span.start);
    }
    let (mut out, mut done) = (Vec::with_capacity(statement.len()), 0);
    for span in spans {
        if span.start >= done {
            out.extend_from_slice(&statement[done..span.start]);
            out.push(MASK);
        }
        done = done.max(span.end);
    }
    out.extend_from_slice(&statement[done..]);
    out
}

/// Whether it is UTF-8 but for a character that may be cut at its end.
fn is_utf8(text: &[u8]) -> bool {
    std::str::from_utf8(text).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// Reads one statement in one way.
struct Reader {
    dialect: Dialect,
    charset: Charset,
}

impl Reader {
    /// Where the statement's literals stand.
    fn literals(&self, statement: &[u8]) -> Vec<Range<usize>> {
        let (mut spans, mut at) = (Vec::new(), 0);
        while at < statement.len() {
            let (length, is_literal) = self.token(&statement[at..]);
            if is_literal {
                spans.push(at..at + length);
            }
            at += length;
        }
        spans
    }

    /// The length of what `text` begins with, at least 1, and whether it is a literal.
    fn token(&self, text: &[u8]) -> (usize, bool) {
        let mariadb = self.dialect == Dialect::MariaDb;
        match (text[0], text.get(1)) {
            (b'\'', _) => (self.string(text, mariadb), true),
            (b'"', _) => (self.quoted(text, mariadb), mariadb),
            (b'`', _) if mariadb => (self.quoted(text, false), false),
            (b'#', _) if mariadb => (self.line(text), false),
            (b'-', Some(b'-')) if !mariadb || text.get(2).is_none_or(|&c| c <= b' ') => {
                (self.line(text), false)
            }
            // What MariaDB executes is no comment, although it looks like one.
            (b'/', Some(b'*')) if mariadb && text[2..].starts_with(b"!") => (3, false),
            (b'/', Some(b'*')) if mariadb && text[2..].starts_with(b"M!") => (4, false),
            (b'/', Some(b'*')) => (comment(text, !mariadb), false),
            (b'$', Some(b'0'..=b'9')) => (1 + digits(&text[1..]), false),
            (b'$', _) if !mariadb => dollar_quoted(text).map_or((1, false), |length| (length, true)),
            (b'.', Some(b'0'..=b'9')) | (b'0'..=b'9', _) => (number(text), true),
            (first, _) if is_name(first) => self.name(text),
            _ => (1, false),
        }
    }

    /// A name, or a string with one of the letters before it that make it another kind of string.
    fn name(&self, text: &[u8]) -> (usize, bool) {
        let mut length = 0;
        while text.get(length).is_some_and(|&byte| is_name(byte)) {
            length += self.character(&text[length..]);
        }
        let string = length == 1 && text.get(1) == Some(&b'\'');
        match text[0] {
            b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if string => {
                (1 + self.string(&text[1..], self.dialect == Dialect::MariaDb), true)
            }
            b'e' | b'E' if string && self.dialect == Dialect::PostgreSql => {
                (1 + self.string(&text[1..], true), true)
            }
            // A name may hold what looks like the rest of a path: `t.1` is none, the number of a column neither.
            _ => (length, false),
        }
    }

    /// A string, and in PostgreSQL what continues it in another line, which is read as it began.
    fn string(&self, text: &[u8], backslashes: bool) -> usize {
        let mut end = self.quoted(text, backslashes);
        if self.dialect == Dialect::PostgreSql {
            while let Some(blank) = self.continuation(&text[end..]) {
                end += blank + self.quoted(&text[end + blank..], backslashes);
            }
        }
        end
    }

    /// How much stands between a string and the one that continues it: blanks and comments with a line end.
    fn continuation(&self, text: &[u8]) -> Option<usize> {
        let (mut at, mut lines) = (0, 0);
        loop {
            match text.get(at)? {
                b'\'' => return (lines > 0).then_some(at),
                b'\n' | b'\r' => lines += 1,
                b' ' | b'\t' | 0x0b | 0x0c => {}
                b'-' if text.get(at + 1) == Some(&b'-') => {
                    at += self.line(&text[at..]);
                    continue;
                }
                _ => return None,
            }
            at += 1;
        }
    }

    /// What stands between quotes like the first byte, which are doubled inside, or escaped where backslashes do that.
    fn quoted(&self, text: &[u8], backslashes: bool) -> usize {
        let quote = text[0];
        let mut at = 1;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'\\' if backslashes => {
                    at += 1 + text.get(at + 1).map_or(0, |_| self.character(&text[at + 1..]))
                }
                _ if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
                _ if byte == quote => return at + 1,
                _ => at += self.character(&text[at..]),
            }
        }
        text.len()
    }

    /// The bytes of the character that `text` begins with.
    fn character(&self, text: &[u8]) -> usize {
        match (self.charset, text[0], text.get(1)) {
            (Charset::Pairs, 0x81..=0xfe, Some(0x40..=0xfe)) => 2,
            _ => 1,
        }
    }

    /// Up to the end of the line.
    fn line(&self, text: &[u8]) -> usize {
        let ends = |byte: &u8| *byte == b'\n' || (*byte == b'\r' && self.dialect == Dialect::PostgreSql);
        text.iter().position(ends).unwrap_or(text.len())
    }
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
    fn a_string_that_goes_on_in_another_line_is_read_as_it_began() {
        let table = [
            ("SELECT E'a'\n  'b\\'c', 'd'", "SELECT ?, ?"),
            ("SELECT 'a' -- 'x'\n\t'b' , c", "SELECT ? , c"),
            ("SELECT 'a' 'b'", "SELECT ? ?"),
            ("SELECT E'a'\r'\\'b'", "SELECT ?"),
            ("SELECT 1 -- 'x'\r, 'b'", "SELECT ? -- 'x'\r, ?"),
        ];
        for (statement, expected) in table {
            assert_eq!(masked(statement, PostgreSql), expected, "{statement}");
        }
        assert_eq!(masked("SELECT 1 -- 'x'\r, 'b'\n, 2", MariaDb), "SELECT ? -- 'x'\r, 'b'\n, ?");
    }

    #[test]
    fn no_kind_of_string_or_number_shows() {
        let strings = [
            "'it''s 9x9'",
            "X'9A9B'",
            "b'0101'",
            "N'9x9'",
            "_latin1'9x9'",
            "DATE '9999-09-09'",
            "'9x9",
            "''",
        ];
        let numbers = ["9", "9.9", ".9", "9.", "9e9", "9.9E-9", "9e+9", "0x9F", "0b1", "9_999", "-9", "+9.9"];
        let of_mariadb = ["\"9x9\"", "\"it\"\"s 9x9\"", "'it\\'s 9x9'", "'\\\\', '9x9'", "_utf8mb4 x'99'"];
        let of_postgresql = [
            "E'it\\'s 9x9'",
            "U&'9x9' UESCAPE '9'",
            "$$9x9$$",
            "$a$9$$9$a$",
            "'9'::int",
            "0o9",
            "E'\\\\', '9x9'",
        ];
        let both = strings.iter().chain(&numbers);
        for (literals, dialect) in [(&of_mariadb[..], MariaDb), (&of_postgresql[..], PostgreSql)] {
            for literal in both.clone().chain(literals) {
                let text = masked(&format!("SELECT a FROM t WHERE b = {literal}"), dialect);
                assert!(
                    !text.contains(['9', 'x']) && text.starts_with("SELECT a FROM t WHERE b = "),
                    "{literal}: {text}"
                );
            }
        }
    }

    /// The second byte of these characters is a backslash or a backtick.
    #[test]
    fn no_literal_shows_whatever_character_set_the_client_has() {
        let characters: [&[u8]; 7] =
            [b"\x95\\", b"\x83\\", b"\xbf\\", b"\xa5\\", b"\x83`", b"\x81\x30\x81\x30", b"caf\xe9\\"];
        for character in characters {
            for (before, after) in [("'", "'"), ("\"", "\""), ("a", "")] {
                let statement =
                    [b"SELECT ", before.as_bytes(), character, after.as_bytes(), b", 'Literal', \"Literal\""]
                        .concat();
                let text = literals(&statement, MariaDb);
                let shown = text.windows(7).any(|part| part == b"Literal");
                assert!(!shown && text.starts_with(b"SELECT "), "{}", text.escape_ascii());
            }
        }
        // UTF-8 has no such characters: there a backslash escapes, also where the statement is cut in a character.
        assert_eq!(masked("SELECT 'ä\\'b', ü, 'c'", MariaDb), "SELECT ?, ü, ?");
        assert_eq!(literals(b"SELECT '\xc3\xa4\\'', a, 'b\xc3", MariaDb), b"SELECT ?, a, ?");
    }

    #[test]
    fn bytes_that_are_no_text_are_masked_inside_strings_and_stay_outside() {
        for dialect in [MariaDb, PostgreSql] {
            let masked = literals(b"SELECT \xff\xfe1, '\xff\\\\', \x001 FROM \xc3", dialect);
            assert_eq!(masked, b"SELECT \xff\xfe1, ?, \x00? FROM \xc3");
        }
    }
}
