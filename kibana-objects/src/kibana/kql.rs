//! Queries in Kibana's own language, KQL, which is what people type into the bar where a query stands.

use std::ops::Bound;

use kumon_query::{Condition, Pattern, Piece, Value};

/// The condition as a KQL text that means the same; none where KQL can't say it: it has no `?`, and times in a format of its
/// own.
pub fn kql(condition: &Condition) -> Option<String> {
    match condition {
        Condition::All => Some(String::new()),
        Condition::Not(not) => Some(format!("not {}", grouped(not)?)),
        Condition::And(all) => joined(all, " and "),
        Condition::Or(any) => joined(any, " or "),
        Condition::Exists(field) => Some(format!("{field}: *")),
        Condition::Equals { field, value } => Some(format!("{field}: {}", plain(value)?)),
        Condition::Phrase { field, words } => Some(format!("{field}: {}", quoted(&words.join(" ")))),
        Condition::Wildcard { field, pattern } => Some(format!("{field}: {}", wildcard(pattern)?)),
        Condition::Range { field, lower, upper } => range(field, lower, upper),
        Condition::None | Condition::Foreign { .. } | Condition::Anywhere(_) => None,
    }
}

/// In parentheses where it is more than one condition.
fn grouped(condition: &Condition) -> Option<String> {
    match condition {
        Condition::And(_) | Condition::Or(_) | Condition::Range { .. } => {
            Some(format!("({})", kql(condition)?))
        }
        Condition::All => None,
        _ => kql(condition),
    }
}

fn joined(conditions: &[Condition], operator: &str) -> Option<String> {
    let texts = conditions.iter().map(grouped).collect::<Option<Vec<String>>>()?;
    (!texts.is_empty()).then(|| texts.join(operator))
}

fn range(field: &str, lower: &Bound<Value>, upper: &Bound<Value>) -> Option<String> {
    let end = |bound: &Bound<Value>, open: &str, closed: &str| match bound {
        Bound::Included(value) => Some(Some(format!("{field} {closed} {}", plain(value)?))),
        Bound::Excluded(value) => Some(Some(format!("{field} {open} {}", plain(value)?))),
        Bound::Unbounded => Some(None),
    };
    let ends: Vec<String> = [end(lower, ">", ">=")?, end(upper, "<", "<=")?].into_iter().flatten().collect();
    Some(if ends.is_empty() { format!("{field}: *") } else { ends.join(" and ") })
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Keyword(text) => Some(quoted(text)),
        Value::Long(whole) => Some(whole.to_string()),
        Value::Double(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Ip(address) => Some(quoted(&address.to_string())),
        // Kibana would read the milliseconds in a format of its own.
        Value::Date(_) => None,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// Unquoted, as a quoted `*` is a character like others; so without spaces, which would end it.
fn wildcard(pattern: &Pattern) -> Option<String> {
    let mut out = String::new();
    for piece in &pattern.0 {
        match piece {
            Piece::One => return None,
            Piece::Many => out.push('*'),
            Piece::Text(text) if text.contains(char::is_whitespace) => return None,
            Piece::Text(text) => {
                for c in text.chars() {
                    if r#"\():<>"*{}"#.contains(c) {
                        out.push('\\');
                    }
                    out.push(c);
                }
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use kumon_query::{Fields, parse_query};

    use super::kql;

    #[test]
    fn each_condition_has_its_text_where_there_is_one() {
        for (query, expected) in [
            ("", Some("")),
            ("process.name:bash", Some(r#"process.name: "bash""#)),
            ("process.name:\"a \\\"b\\\"\"", Some(r#"process.name: "a \"b\"""#)),
            ("NOT process.name:bash", Some(r#"not process.name: "bash""#)),
            ("NOT process.pid:[1 TO 5}", Some("not (process.pid >= 1 and process.pid < 5)")),
            ("process.pid:>5", Some("process.pid > 5")),
            (
                "process.pid:(1 OR 2) AND process.name:*",
                Some("(process.pid: 1 or process.pid: 2) and process.name: *"),
            ),
            ("process.executable:/usr/*", Some("process.executable: /usr/*")),
            ("process.executable:/usr/b?", None),
        ] {
            let condition = parse_query(query, &Fields::of_metric("exec")).unwrap();
            assert_eq!(kql(&condition).as_deref(), expected, "{query}");
        }
    }
}
