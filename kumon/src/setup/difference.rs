//! What differs between two JSON values, for people.

use serde_json::{Map, Value};

/// The values of one side that the other one lacks or has otherwise, one line each: `a.b: 1 → 2`.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", before, after, &mut lines);
    lines
}

fn compare(path: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    if let (Value::Object(before), Value::Object(after)) = (before, after) {
        return compare_objects(path, before, after, lines);
    }
    if before != after {
        lines.push(format!("{path}: {} → {}", shown(before), shown(after)));
    }
}

fn compare_objects(
    path: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    lines: &mut Vec<String>,
) {
    let inner = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, value) in before {
        compare(&inner(key), value, after.get(key).unwrap_or(&Value::Null), lines);
    }
    for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        compare(&inner(key), &Value::Null, value, lines);
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::differences;

    #[test]
    fn only_what_differs_is_named_with_its_path() {
        let before = json!({"a": {"b": 1, "c": [1, 2], "same": true}, "gone": "x"});
        let after = json!({"a": {"b": 2, "c": [1, 3], "same": true}, "new": {"d": null}});
        let expected =
            ["a.b: 1 → 2", "a.c: [1,2] → [1,3]", "gone: \"x\" → nothing", "new: nothing → {\"d\":null}"];
        assert_eq!(differences(&before, &after), expected);
        assert!(differences(&before, &before).is_empty());
    }
}
