//! From the query's text to the grammar's tree, and from a part of that tree back to its place in the text.
//!
//! The grammar is the crate `tantivy-query-grammar`. Three things are done around it. A value that starts with `/`
//! is a path here, not the start of a regular expression, so it is escaped before the grammar sees it. The bounds of
//! ranges may be quoted. And the tree carries no positions: where a field or value stands is found again by name.

use tantivy_query_grammar::{UserInputAst, parse_query, parse_query_lenient};

use crate::SearchError;

/// More nesting is no query somebody wrote, and would overflow the stack of the recursive parser.
const MOST_NESTED: usize = 50;

/// Parses a query.
pub(crate) fn parse(query: &str) -> Result<UserInputAst, SearchError> {
    refuse_deep_nesting(query)?;
    let adapted = Adapted::new(query);
    if let Ok(tree) = parse_query(&adapted.text) {
        return Ok(tree);
    }
    let (_, errors) = parse_query_lenient(&adapted.text);
    let first = errors.into_iter().min_by_key(|error| error.pos);
    let Some(error) = first else {
        return Err(at(query, query.len(), "the query is incomplete".into()));
    };
    let origin = adapted.origin.get(error.pos).copied().unwrap_or(query.len());
    let position = misplaced_operator(query, &error.message).unwrap_or(origin);
    Err(at(query, position, in_plain_words(&error.message)))
}

/// An error at a byte position of the query.
pub(crate) fn at(query: &str, position: usize, message: String) -> SearchError {
    let before = query.get(..position).unwrap_or(query);
    SearchError::Query { column: before.chars().count() + 1, message }
}

/// Where `field` is named in the query.
pub(crate) fn field_position(query: &str, field: &str) -> Option<usize> {
    unquoted(query).find(|&start| {
        let fresh = query[..start].chars().next_back().is_none_or(|c| c.is_whitespace() || "(+-".contains(c));
        let rest = query[start..].strip_prefix(field);
        fresh && rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    })
}

/// Where `value` stands in the query; of `field`, if one is named.
pub(crate) fn value_position(query: &str, field: Option<&str>, value: &str) -> Option<usize> {
    let after = match field {
        Some(field) => field_position(query, field)? + field.len(),
        None => 0,
    };
    let whole = |&(start, _): &(usize, &str)| {
        let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        let end = after + start + value.len();
        outside(query[..after + start].chars().next_back()) && outside(query[end..].chars().next())
    };
    query[after..].match_indices(value).find(whole).map(|(start, _)| after + start)
}

/// The byte positions of the characters outside quotes.
fn unquoted(query: &str) -> impl Iterator<Item = usize> {
    let (mut quote, mut escaped) = (None, false);
    query.char_indices().filter_map(move |(position, c)| {
        let skip = escaped || quote.is_some();
        if std::mem::take(&mut escaped) {
            return (!skip).then_some(position);
        }
        match c {
            '\\' => escaped = true,
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ => {}
        }
        (!skip).then_some(position)
    })
}

fn refuse_deep_nesting(query: &str) -> Result<(), SearchError> {
    let (mut depth, mut negations) = (0_usize, 0);
    for position in unquoted(query) {
        let rest = &query[position..];
        match rest.as_bytes()[0] {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'N' if rest.starts_with("NOT") => negations += 1,
            _ => {}
        }
        if depth.max(negations) > MOST_NESTED {
            let message = format!("more than {MOST_NESTED} levels of parentheses, or NOTs");
            return Err(at(query, position, message));
        }
    }
    Ok(())
}

/// The query as the grammar is to see it, and for each of its bytes where that comes from.
struct Adapted {
    text: String,
    origin: Vec<usize>,
}

impl Adapted {
    fn push(&mut self, piece: &str, position: usize) {
        self.text.push_str(piece);
        self.origin.extend(position..position + piece.len());
    }

    /// Puts a backslash before each value that starts with a slash, and takes the quotes off the bounds of ranges.
    fn new(query: &str) -> Adapted {
        let mut adapted = Adapted { text: String::new(), origin: Vec::new() };
        let (mut copied, mut in_range) = (0, false);
        for position in unquoted(query) {
            let (before, rest) = (query[..position].trim_end(), &query[position..]);
            match rest.as_bytes()[0] {
                b'[' | b'{' => in_range = !before.ends_with("IN"),
                b']' | b'}' => in_range = false,
                b'/' if starts_value(&query[..position]) => {
                    adapted.push(&query[copied..position], copied);
                    adapted.push("\\", position);
                    copied = position;
                }
                b'"' if in_range || before.ends_with(['<', '>', '=']) => {
                    if let Some(bound) = plain_bound(rest) {
                        adapted.push(&query[copied..position], copied);
                        adapted.push(bound, position + 1);
                        copied = position + bound.len() + 2;
                    }
                }
                _ => {}
            }
        }
        adapted.push(&query[copied..], copied);
        adapted
    }
}

fn starts_value(before: &str) -> bool {
    before.chars().next_back().is_none_or(|c| c.is_whitespace() || "(:+-[{><=".contains(c))
}

/// What stands between the quotes at the start of `rest`, if it is as plain without them.
fn plain_bound(rest: &str) -> Option<&str> {
    let bound = rest[1..].split('"').next()?;
    let closed = rest[1 + bound.len()..].starts_with('"');
    let special = |c: char| c.is_whitespace() || "[]{}()\\".contains(c);
    (closed && !bound.is_empty() && !bound.contains(special)).then_some(bound)
}

/// The parser gives no position for an operator that has nothing on its left.
fn misplaced_operator(query: &str, message: &str) -> Option<usize> {
    message.starts_with("Found unexpected boolean operator").then_some(())?;
    unquoted(query).find(|&position| {
        let before = query[..position].trim_end();
        let rest = &query[position..];
        (before.is_empty() || before.ends_with('(')) && (rest.starts_with("AND") || rest.starts_with("OR"))
    })
}

fn in_plain_words(message: &str) -> String {
    match message {
        "expected word" => "a value is missing here",
        "expected ')'" => "a closing parenthesis ')' is missing",
        "missing delimiter \\\"" => "the closing quote \" is missing",
        "missing delimiter \\'" => "the closing quote ' is missing",
        "missing range delimiter" => "the range's closing bracket is missing",
        "missing keyword TO" => "a range reads [from TO to]",
        "parsed possible invalid field as term" => {
            "a value that contains ':' must be quoted, as in field:\"10:30\""
        }
        "unparsed end of query" => "can't be understood from here on; quote values with special characters",
        "parsed keyword NOT as term. It should be quoted" => "NOT needs something after it, or quotes",
        _ if message.starts_with("Found unexpected boolean operator") => {
            "AND and OR need something on both sides"
        }
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Adapted, field_position, parse, value_position};
    use crate::SearchError;

    fn column(query: &str) -> usize {
        match parse(query) {
            Err(SearchError::Query { column, .. }) => column,
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn errors_name_the_character_column() {
        assert_eq!(column("process.name:"), 14);
        assert_eq!(column("process.name:bash AND (a OR b"), 30);
        assert_eq!(column("name:\"never ends"), 17);
        // Characters, not bytes; the escape put before the path does not count.
        assert_eq!(column("größe:/tmp/x AND n:"), 20);
        assert_eq!(column("a AND (OR b)"), 8);
        assert_eq!(column(&"(".repeat(100_000)), 51);
    }

    #[test]
    fn paths_are_values_not_regular_expressions() {
        assert_eq!(Adapted::new("p:/bin/ls (/x) a/b \"/q\"").text, "p:\\/bin/ls (\\/x) a/b \"/q\"");
        assert!(parse("p:/bin/ OR /tmp/x").is_ok());
    }

    #[test]
    fn bounds_may_be_quoted() {
        let adapted = Adapted::new("t:>=\"10:30\" AND t:[\"a\" TO \"b c\"] IN [\"x\"] x:\"q\"");
        assert_eq!(adapted.text, "t:>=10:30 AND t:[a TO \"b c\"] IN [\"x\"] x:\"q\"");
        assert_eq!(column("t:>=\"10:30\" AND n:"), 19);
    }

    #[test]
    fn places_are_found_again() {
        let query = "a.b:1 AND \"b:2\" (b:3 OR b:x)";
        assert_eq!(field_position(query, "b"), Some(17));
        assert_eq!(value_position(query, Some("b"), "x"), Some(26));
    }

    /// No text may take the program down, and a column always lies within the query or just behind it.
    #[test]
    fn whatever_is_typed_gets_an_answer() {
        let pieces = [
            "a",
            "b:",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "'",
            "\\",
            "/",
            "*",
            "?",
            "~",
            "^",
            "2",
            "-",
            "+",
            "!",
            ":",
            " ",
            " ",
            " AND ",
            " OR ",
            "NOT ",
            " TO ",
            "IN ",
            ">",
            "<=",
            ".",
            "ä",
            "process.pid:",
            "1.5",
            "\u{1F389}",
            "\n",
        ];
        let fields = crate::Fields::of_metric("exec");
        // A plain linear congruential generator: the same queries each time.
        let mut state = 42_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..30_000 {
            let query: String = (0..random(12)).map(|_| pieces[random(pieces.len())]).collect();
            if let Err(SearchError::Query { column, .. }) = crate::parse_query(&query, &fields) {
                assert!(column <= query.chars().count() + 1, "{query:?}: column {column}");
            }
        }
    }
}
