//! Rows whose names need a closer look.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::scan::may_need_care;
use super::{Key, Kind, OBJECTS, Paths, TIMESTAMP, VALUES, join};
use crate::encoder::write_string;

/// Deeper down names stay as they are.
const MAX_DEPTH: usize = 64;

/// A row with the names that its fields are to have: the row itself, nearly always, and whatever is no JSON object.
pub(in crate::decode) fn tidy(line: &str) -> Cow<'_, str> {
    if !may_need_care(line) {
        return Cow::Borrowed(line);
    }
    let Some(document @ Node::Object(_)) = Node::read(line, 0) else { return Cow::Borrowed(line) };
    let mut paths = Paths::new();
    document.note("", &mut paths);
    let mut writer = Writer { paths, json: Vec::with_capacity(line.len() + 64), changed: false };
    writer.write("", &document);
    match String::from_utf8(writer.json) {
        Ok(json) if writer.changed => Cow::Owned(json),
        _ => Cow::Borrowed(line),
    }
}

/// A value, taken apart as far as there are names in it.
enum Node<'a> {
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// With what it stands for as a whole.
    List(Vec<Node<'a>>, &'a str),
    Leaf(&'a str),
}

impl<'a> Node<'a> {
    /// `None` where it is no JSON.
    fn read(json: &'a str, depth: usize) -> Option<Node<'a>> {
        let json = json.trim_ascii();
        let has_names = depth < MAX_DEPTH && memchr::memchr(b'{', json.as_bytes()).is_some();
        match json.as_bytes().first() {
            Some(b'{') if has_names => {
                let Members(members) = serde_json::from_str(json).ok()?;
                let members = members.into_iter();
                let read = |(key, value): (_, &'a RawValue)| Some((key, Node::read(value.get(), depth + 1)?));
                members.map(read).collect::<Option<_>>().map(Node::Object)
            }
            Some(b'[') if has_names => {
                let items: Vec<&'a RawValue> = serde_json::from_str(json).ok()?;
                let items = items.into_iter().map(|item| Node::read(item.get(), depth + 1));
                Some(Node::List(items.collect::<Option<_>>()?, json))
            }
            _ => Some(Node::Leaf(json)),
        }
    }

    fn kind(&self, path: &str) -> Kind {
        match self {
            // Where a field of ours holds others, only an object does.
            Node::List(..) if OBJECTS.contains(&path) => Kind::Value,
            Node::List(items, _) if items.iter().all(|item| item.kind("") != Kind::Value) => Kind::Fields,
            Node::Object(_) => Kind::Fields,
            Node::Leaf("null") => Kind::Null,
            Node::Leaf(_) | Node::List(..) => Kind::Value,
        }
    }

    fn keys(members: &'a [(Cow<'a, str>, Node<'a>)], prefix: &str) -> Vec<Key<'a>> {
        let key = |(name, value): &'a (Cow<'a, str>, Node<'a>)| {
            let mut key = Key::new(prefix, name, value.kind(&join(prefix, name)));
            if prefix.is_empty() && key.clean == TIMESTAMP && !value.may_be_time() {
                key.clean.to_mut().push('_');
            }
            key
        };
        members.iter().map(key).collect()
    }

    fn may_be_time(&self) -> bool {
        matches!(self, Node::Leaf(json) if !json.starts_with(['[', '{', 't', 'f']))
    }

    fn note(&self, path: &str, paths: &mut Paths) {
        match self {
            Node::Object(members) => {
                for (key, (_, value)) in Node::keys(members, path).iter().zip(members) {
                    paths.note(path, key);
                    if key.kind == Kind::Fields || !OBJECTS.contains(&&*join(path, &key.clean)) {
                        value.note(&join(path, &key.clean), paths);
                    }
                }
            }
            Node::List(items, _) => items.iter().for_each(|item| item.note(path, paths)),
            Node::Leaf(_) => {}
        }
    }
}

/// The members of an object in their order, with keys owned only where they hold escapes.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

struct Writer {
    paths: Paths,
    json: Vec<u8>,
    changed: bool,
}

impl Writer {
    fn write(&mut self, path: &str, node: &Node<'_>) {
        match node {
            Node::Object(members) => self.write_object(path, members),
            Node::List(items, _) => {
                self.json.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.json.push(b',');
                    }
                    self.write(path, item);
                }
                self.json.push(b']');
            }
            Node::Leaf(json) => self.json.extend_from_slice(json.as_bytes()),
        }
    }

    fn write_object(&mut self, path: &str, members: &[(Cow<'_, str>, Node<'_>)]) {
        let keys = Node::keys(members, path);
        let names = self.paths.assign(path, &keys);
        self.json.push(b'{');
        for ((key, name), (_, value)) in keys.iter().zip(&names).zip(members) {
            self.changed |= name != key.original;
            let is_time = path.is_empty() && key.clean == TIMESTAMP;
            if key.kind == Kind::Null && (is_time || self.paths.is_object(path, key)) {
                // Nothing, at the place of something.
                self.changed = true;
                continue;
            }
            write_string(&mut self.json, name);
            self.json.push(b':');
            let path = join(path, &key.clean);
            match value {
                // No field of a value's type takes an object.
                Node::List(_, json) if key.kind == Kind::Value && is_ours(&path) => {
                    write_string(&mut self.json, json);
                    self.changed = true;
                }
                value => self.write(&path, value),
            }
            self.json.push(b',');
        }
        if self.json.last() == Some(&b',') {
            self.json.pop();
        }
        self.json.push(b'}');
    }
}

fn is_ours(path: &str) -> bool {
    OBJECTS.contains(&path) || VALUES.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn a_field_that_meets_ours_or_that_elasticsearch_can_not_take_gets_another_name() {
        for (line, expected) in [
            // Ours.
            (r#"{"host":"a","log":5}"#, r#"{"host.value":"a","log.value":5}"#),
            (r#"{"host":[1,2], "log":[]}"#, r#"{"host.value":[1,2],"log.value":[]}"#),
            (r#"{"host":["a",{"b":1}]}"#, r#"{"host.value":"[\"a\",{\"b\":1}]"}"#),
            (r#"{"host":null,"n":1}"#, r#"{"n":1}"#),
            (r#"{"host":null}"#, "{}"),
            (r#"{"host":true,"host.value":1}"#, r#"{"host.value_2":true,"host.value":1}"#),
            (r#"{"host":"a","host.name":"b"}"#, r#"{"host.value":"a","host.name":"b"}"#),
            (r#"{"host":"a","host":{"name":"b"}}"#, r#"{"host.value":"a","host":{"name":"b"}}"#),
            (r#"{"host":{"name":{"a":1},"boot":"b"}}"#, r#"{"host":{"name_":{"a":1},"boot.value":"b"}}"#),
            (r#"{"host.name.a":1,"host.name":"b"}"#, r#"{"host.name_.a":1,"host.name":"b"}"#),
            (r#"{"log":{"file":"f"}}"#, r#"{"log":{"file.value":"f"}}"#),
            (r#"{"log.file":"f"}"#, r#"{"log.file.value":"f"}"#),
            (r#"{"data_stream":"x"}"#, r#"{"data_stream.value":"x"}"#),
            (r#"{"@timestamp":[1]}"#, r#"{"@timestamp_":[1]}"#),
            (r#"{"@timestamp":{"a":1},"@timestamp_":2}"#, r#"{"@timestamp_":{"a":1},"@timestamp_.value":2}"#),
            (r#"{"@timestamp":null,"n":1}"#, r#"{"n":1}"#),
            // No names.
            (r#"{"":1,"  ":{"":2}}"#, r#"{"_.value":1,"_":{"_":2}}"#),
            (r#"{"a.":1,".b":2,"c..d":3}"#, r#"{"a._":1,"_.b":2,"c._.d":3}"#),
            (r#"{"a":[{"":1},[{"b.":2}]]}"#, r#"{"a":[{"_":1},[{"b._":2}]]}"#),
            (r#"{"\u0020":1,"\u005fid":2}"#, r#"{"_":1,"_id_":2}"#),
            // Elasticsearch's own.
            (r#"{"_id":1,"_source":{"_id":2}}"#, r#"{"_id_":1,"_source_":{"_id":2}}"#),
            // A value and further fields.
            (r#"{"a":1,"a.b":2}"#, r#"{"a.value":1,"a.b":2}"#),
            (r#"{"x":{"a":1.50,"a.b":2}}"#, r#"{"x":{"a.value":1.50,"a.b":2}}"#),
            (r#"{"a":{"b":1},"a.b.c":2}"#, r#"{"a":{"b.value":1},"a.b.c":2}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":1,"a_2":2}"#),
            (r#"{"":1,".b":2}"#, r#"{"_.value":1,"_.b":2}"#),
        ] {
            assert_eq!(tidy(line), expected, "{line}");
            assert_eq!(tidy(expected), expected);
        }
    }

    #[test]
    fn all_other_rows_stay_as_they_are() {
        for line in [
            r#"{}"#,
            r#"{ "a" : 1.50 , "b" : [ {} , null ] }"#,
            r#"{"host":{"name":"a","ip":["b"]},"log":{"level":"x","file":{"path":"p"}}}"#,
            r#"{"host.name":"a","log.level":"x","@timestamp":"2026-11-21T00:00:00Z"}"#,
            r#"{"a":{"b":1},"a.c":2,"x":{"y.z":1}}"#,
            r#"{"text":"\"\": \".\": {\"a.\"","n":12345678901234567890123}"#,
            r#"{"__CURSOR":1,"_PID":2,"hostname":"h","logs":"l","data":"d"}"#,
            r#"{"lone":"\ud800"}"#,
            "no JSON",
            "[1]",
            r#"{"host":"a""#,
            r#"{"a"#,
        ] {
            assert_eq!(tidy(line), line);
            assert!(matches!(tidy(line), std::borrow::Cow::Borrowed(_)), "{line}");
        }
    }
}
