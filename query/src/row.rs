//! Reading rows that others wrote. Elasticsearch takes JSON that serde_json's values can't hold: half a surrogate pair
//! in a text, numbers beyond doubles, a thousand arrays within one another.

use serde_json::{Map, Value};

/// Values deeper than that are their own text. serde_json refuses more than 127 levels.
const DEEPEST: usize = 100;

/// Reads a row. Half a surrogate pair, which stands for no character, becomes U+FFFD; a number beyond doubles and what
/// is nested too deep become texts, as they stand there.
///
/// # Errors
/// When it is no JSON object.
pub fn row(text: &str) -> Result<Map<String, Value>, serde_json::Error> {
    serde_json::from_str(text).or_else(|e| serde_json::from_str(&mend(text)).map_err(|_| e))
}

fn mend(text: &str) -> String {
    let (mut out, mut rest, mut depth) = (String::with_capacity(text.len()), text, 0_usize);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => rest
                .find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len()),
            '{' | '[' if depth >= DEEPEST => nested_length(rest),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        match first {
            '"' => mend_string(token, &mut out),
            '-' | '0'..='9' if token.parse::<f64>().is_ok_and(f64::is_infinite) => {
                out += &Value::from(token).to_string()
            }
            '{' | '[' if depth >= DEEPEST => out += &Value::from(token).to_string(),
            '{' | '[' => {
                depth += 1;
                out += token;
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                out += token;
            }
            _ => out += token,
        }
    }
    out
}

/// The length of the string that a text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// The length of the object or array that a text begins with.
fn nested_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'"' => at += string_length(&text[at..]) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(text.len())
}

fn mend_string(string: &str, out: &mut String) {
    let mut rest = string;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (surrogate(rest), rest.get(6..).and_then(surrogate)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(_), _) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
}

/// The half of a pair that a text begins with as an escape.
fn surrogate(text: &str) -> Option<u32> {
    let code = u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
    (0xd800..=0xdfff).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::row;

    #[test]
    fn what_elasticsearch_takes_and_no_value_holds_is_read() {
        for (text, value) in [
            (r#"{"a":"cut \ud83d"}"#, json!({"a": "cut \u{fffd}"})),
            (
                r#"{"a":"\ud83d\ude00 \\ud83d \ude00\ud83d\ud83d\ude00\""}"#,
                json!({"a": "\u{1f600} \\ud83d \u{fffd}\u{fffd}\u{1f600}\""}),
            ),
            (
                r#"{"\uDEAD":["\udead",{"b":"\ud83dx"}]}"#,
                json!({"\u{fffd}": ["\u{fffd}", {"b": "\u{fffd}x"}]}),
            ),
            (
                r#"{"a":1e400,"b":[-1E+999,2],"c":"1e400"}"#,
                json!({"a": "1e400", "b": ["-1E+999", 2], "c": "1e400"}),
            ),
            (
                r#"{"a":123456789012345678901234567890,"b":1e-400}"#,
                json!({"a": 123456789012345678901234567890_f64, "b": 0.0}),
            ),
            (r#"{"a":1}"#, json!({"a": 1})),
        ] {
            assert_eq!(Value::Object(row(text).unwrap()), value, "{text}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_its_text() {
        let deep = |levels| format!("{}\"x]\"{}", "[".repeat(levels), "]".repeat(levels));
        let read = row(&format!("{{\"a\":{},\"b\":1}}", deep(900))).unwrap();
        assert_eq!(read["b"], 1);
        let mut value = &read["a"];
        while let Value::Array(values) = value {
            value = &values[0];
        }
        assert_eq!(value.as_str(), Some(&*deep(900 - 99)));
    }

    #[test]
    fn what_is_no_object_stays_none() {
        for text in [
            "",
            "[1]",
            "{",
            "{\"a\":NaN}",
            "{\"a\":\"\\ud83d",
            "{\"a\":1e400",
            "{\"a\":\"\\u12\"}",
            "{\"\\",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(row(text).is_err(), "{text}");
        }
    }
}
