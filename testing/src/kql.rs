//! KQL, Kibana's query language, for tests without a Kibana.

use serde_json::{Value, json};

/// What Kibana makes of a KQL text for Elasticsearch (`toElasticsearchQuery` of its package es-query). Of the language it knows
/// what KuMon's objects have: fields with a quoted, plain or wildcard value, comparisons, `and`, `or`, `not`, parentheses.
///
/// # Panics
/// When the text has something else.
pub fn kql_to_elasticsearch(text: &str) -> Value {
    let mut parser = Parser { rest: text.trim() };
    if parser.rest.is_empty() {
        return json!({"match_all": {}});
    }
    let query = parser.or();
    assert!(parser.rest.is_empty(), "no KQL from here on: {}", parser.rest);
    query
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn or(&mut self) -> Value {
        let mut all = vec![self.and()];
        while self.take("or ") {
            all.push(self.and());
        }
        if all.len() == 1 {
            all.remove(0)
        } else {
            json!({"bool": {"should": all, "minimum_should_match": 1}})
        }
    }

    fn and(&mut self) -> Value {
        let mut all = vec![self.not()];
        while self.take("and ") {
            all.push(self.not());
        }
        if all.len() == 1 { all.remove(0) } else { json!({"bool": {"filter": all}}) }
    }

    fn not(&mut self) -> Value {
        if self.take("not ") {
            return json!({"bool": {"must_not": self.not()}});
        }
        if self.take("(") {
            let inner = self.or();
            assert!(self.take(")"), "no end of the parentheses: {}", self.rest);
            return inner;
        }
        self.field()
    }

    fn field(&mut self) -> Value {
        let end = self.rest.find(|c: char| " :<>".contains(c)).unwrap_or(self.rest.len());
        let (field, rest) = self.rest.split_at(end);
        let (field, rest) = (field.to_owned(), rest.trim_start());
        for (sign, name) in [(">=", "gte"), ("<=", "lte"), (">", "gt"), ("<", "lt")] {
            if let Some(rest) = rest.strip_prefix(sign) {
                self.rest = rest.trim_start();
                let (value, _) = self.value();
                return json!({"range": {field: {name: value.replace('\\', "")}}});
            }
        }
        assert!(rest.starts_with(':'), "no field with a value: {field}{rest}");
        self.rest = rest[1..].trim_start();
        match self.value() {
            (phrase, true) => json!({"match_phrase": {field: phrase}}),
            (value, false) if value == "*" => json!({"exists": {"field": field}}),
            // Of what is no wildcard Lucene's own signs are escaped.
            (value, false) if value.contains('*') => {
                let plain = |c: char| c.is_alphanumeric() || "_.*".contains(c);
                let text: String = value
                    .replace('\\', "")
                    .chars()
                    .flat_map(|c| if plain(c) { vec![c] } else { vec!['\\', c] })
                    .collect();
                json!({"query_string": {"fields": [field], "query": text}})
            }
            (value, false) => json!({"match": {field: value}}),
        }
    }

    /// A value, and whether it is quoted.
    fn value(&mut self) -> (String, bool) {
        if let Some(rest) = self.rest.strip_prefix('"') {
            let mut value = String::new();
            let mut chars = rest.char_indices();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        self.rest = rest[at + 1..].trim_start();
                        return (value, true);
                    }
                    '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                    c => value.push(c),
                }
            }
            panic!("no end of the quotes: {rest}");
        }
        let end = self.rest.find([' ', ')']).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        (value.to_owned(), false)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }
}
