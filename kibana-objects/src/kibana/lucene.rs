//! Queries in the language of Elasticsearch's `query_string`, which Kibana calls Lucene.
//!
//! Formulas have it, and what KQL can't say; Elasticsearch itself reads it.

use std::ops::Bound;

use kumon_query::{Condition, Pattern, Piece, Term, Value};

/// The condition as a query text that means the same, whatever the default operator is.
pub fn lucene(condition: &Condition) -> String {
    match condition {
        Condition::All => "*:*".into(),
        // A query of negations alone finds nothing in Lucene, so that they are taken from everything.
        Condition::None => "(*:* AND NOT *:*)".into(),
        Condition::Not(not) => format!("(*:* AND NOT {})", lucene(not)),
        Condition::And(all) => joined(all, " AND "),
        Condition::Or(any) => joined(any, " OR "),
        Condition::Exists(field) => format!("{field}:*"),
        Condition::Equals { field, value } => format!("{field}:{}", quoted(&plain(value))),
        Condition::Phrase { field, words } => format!("{field}:{}", quoted(&words.join(" "))),
        Condition::Wildcard { field, pattern } => format!("{field}:{}", escaped(pattern)),
        Condition::Range { field, lower, upper } => range(field, lower, upper),
        Condition::Foreign { field, text } => format!("{field}:{}", quoted(text)),
        Condition::Anywhere(Term::Text(text)) => quoted(text),
        Condition::Anywhere(Term::Wildcard(pattern)) => escaped(pattern),
    }
}

fn joined(conditions: &[Condition], operator: &str) -> String {
    let texts: Vec<String> = conditions.iter().map(lucene).collect();
    format!("({})", texts.join(operator))
}

fn range(field: &str, lower: &Bound<Value>, upper: &Bound<Value>) -> String {
    let end = |bound: &Bound<Value>| match bound {
        Bound::Included(value) | Bound::Excluded(value) => quoted(&plain(value)),
        Bound::Unbounded => "*".into(),
    };
    let open = if matches!(lower, Bound::Excluded(_)) { '{' } else { '[' };
    let close = if matches!(upper, Bound::Excluded(_)) { '}' } else { ']' };
    format!("{field}:{open}{} TO {}{close}", end(lower), end(upper))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Keyword(text) => text.clone(),
        Value::Long(whole) => whole.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        // The field's format takes milliseconds, too.
        Value::Date(milliseconds) => milliseconds.to_string(),
        Value::Ip(address) => address.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

fn escaped(pattern: &Pattern) -> String {
    let mut out = String::new();
    for piece in &pattern.0 {
        match piece {
            Piece::One => out.push('?'),
            Piece::Many => out.push('*'),
            Piece::Text(text) => {
                for c in text.chars() {
                    if !c.is_alphanumeric() && !matches!(c, '_' | '.') {
                        out.push('\\');
                    }
                    out.push(c);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use kumon_query::{Fields, parse_query};

    use super::lucene;

    #[test]
    fn each_condition_has_its_text() {
        for (query, expected) in [
            ("", "*:*"),
            ("process.name:bash", r#"process.name:"bash""#),
            ("process.name:\"a \\\"b\\\"\"", r#"process.name:"a \"b\"""#),
            ("NOT process.name:bash", r#"(*:* AND NOT process.name:"bash")"#),
            ("process.pid:>5", r#"process.pid:{"5" TO *]"#),
            ("process.pid:[1 TO 5}", r#"process.pid:["1" TO "5"}"#),
            ("process.executable:/usr/*/b?", r"process.executable:\/usr\/*\/b?"),
            ("process.executable:*", "process.executable:*"),
            ("process.pid:(1 OR 2)", r#"(process.pid:"1" OR process.pid:"2")"#),
        ] {
            assert_eq!(lucene(&parse_query(query, &Fields::of_metric("exec")).unwrap()), expected, "{query}");
        }
    }
}
