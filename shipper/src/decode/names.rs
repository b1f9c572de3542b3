//! Names of fields: as Elasticsearch takes them, and so that fields of a row and those that KuMon adds or maps don't
//! exclude each other. docs/shipper.md has the rules.

mod scan;
mod shape;
mod tidy;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

pub(super) use shape::{Comparison, Shape, is_flat};
pub(super) use tidy::tidy;

pub(super) const TIMESTAMP: &str = "@timestamp";

/// What Elasticsearch, its plugins among it, keeps for itself at a document's first level.
const METADATA: [&str; 22] = [
    "_data_stream_timestamp",
    "_doc_count",
    "_feature",
    "_field_names",
    "_id",
    "_ignored",
    "_ignored_source",
    "_index",
    "_index_mode",
    "_inference_fields",
    "_nested_path",
    "_primary_term",
    "_recovery_source",
    "_routing",
    "_seq_no",
    "_size",
    "_source",
    "_tier",
    "_ts_routing_hash",
    "_tsid",
    "_type",
    "_version",
];

/// Names that hold further fields by `elk/templates/inputs.json`, or by Elastic's own template of logs.
const OBJECTS: [&str; 5] = ["data_stream", "host", "host.boot", "log", "log.file"];

/// Names that hold a value by `elk/templates/inputs.json`.
const VALUES: [&str; 6] = [TIMESTAMP, "host.name", "host.id", "host.boot.id", "log.file.path", "log.offset"];

/// Behind the name of a value that stands where further fields stand.
const VALUE: &str = ".value";

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Further fields.
    Fields,
    Value,
    /// Nothing that would take a place.
    Null,
}

/// The names of the fields that the columns of a CSV header become.
pub(super) fn of_columns(names: &[&str]) -> Vec<String> {
    let keys: Vec<Key<'_>> = names.iter().map(|name| Key::new("", name, Kind::Value)).collect();
    let mut paths = Paths::new();
    keys.iter().for_each(|key| paths.note("", key));
    paths.assign("", &keys)
}

/// Whether a row that has a field of this name says itself where it is from: what was moved to make room doesn't.
pub(super) fn is_within(name: &str, object: &str) -> bool {
    name.strip_prefix(object).is_some_and(|rest| rest.starts_with('.') && !rest.starts_with(VALUE))
}

/// A key of an object.
#[derive(Debug)]
struct Key<'a> {
    original: &'a str,
    /// As Elasticsearch takes it.
    clean: Cow<'a, str>,
    kind: Kind,
}

impl<'a> Key<'a> {
    /// `prefix` is the path of the object, empty for the document itself.
    fn new(prefix: &str, original: &'a str, kind: Kind) -> Key<'a> {
        let (mut clean, mut parts) =
            (String::with_capacity(original.len() + 1), original.split('.').peekable());
        while let Some(part) = parts.next() {
            let is_first = clean.is_empty();
            if !is_first {
                clean.push('.');
            }
            clean.push_str(if part.chars().all(is_blank) { "_" } else { part });
            let holds_fields = parts.peek().is_some() || kind == Kind::Fields;
            let is_metadata = prefix.is_empty() && is_first && METADATA.contains(&part);
            if is_metadata || (holds_fields && VALUES.contains(&&*join(prefix, &clean))) {
                clean.push('_');
            }
        }
        let clean = if clean == original { Cow::Borrowed(original) } else { Cow::Owned(clean) };
        Key { original, clean, kind }
    }
}

/// What Java calls white space, and a little more.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn join<'a>(prefix: &str, name: &'a str) -> Cow<'a, str> {
    if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{prefix}.{name}")) }
}

/// What stands where in a document, by the dotted names of its fields.
#[derive(Debug)]
struct Paths {
    objects: HashSet<String>,
    values: HashSet<String>,
}

impl Paths {
    fn new() -> Paths {
        Paths { objects: OBJECTS.map(str::to_owned).into(), values: HashSet::new() }
    }

    fn note(&mut self, prefix: &str, key: &Key<'_>) {
        let path = join(prefix, &key.clean);
        let above = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        for (dot, _) in path[above..].match_indices('.') {
            let object = &path[..above + dot];
            if !self.objects.contains(object) {
                self.objects.insert(object.to_owned());
            }
        }
        match key.kind {
            Kind::Fields => self.objects.insert(path.into_owned()),
            Kind::Value => self.values.insert(path.into_owned()),
            Kind::Null => false,
        };
    }

    fn is_object(&self, prefix: &str, key: &Key<'_>) -> bool {
        self.objects.contains(&*join(prefix, &key.clean))
    }

    /// What the keys of one object are called in the end: those that can stay as they are have their names first, the
    /// others get what is left in their order.
    fn assign(&mut self, prefix: &str, keys: &[Key<'_>]) -> Vec<String> {
        let mut used: HashSet<String> = HashSet::with_capacity(keys.len());
        let mut names = vec![String::new(); keys.len()];
        let mut moved = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let in_the_way = key.kind == Kind::Value && self.is_object(prefix, key);
            if key.clean == key.original && !in_the_way && used.insert(key.original.to_owned()) {
                key.original.clone_into(&mut names[index]);
            } else {
                moved.push((
                    index,
                    if in_the_way { format!("{}{VALUE}", key.clean) } else { key.clean.to_string() },
                ));
            }
        }
        let mut numbers: HashMap<String, usize> = HashMap::new();
        for (index, base) in moved {
            let number = numbers.entry(base.clone()).or_insert(1);
            let mut name = base.clone();
            while used.contains(&name) || (name != keys[index].clean && self.is_taken(&join(prefix, &name))) {
                *number += 1;
                name = format!("{base}_{number}");
            }
            self.values.insert(join(prefix, &name).into_owned());
            used.insert(name.clone());
            names[index] = name;
        }
        names
    }

    fn is_taken(&self, path: &str) -> bool {
        self.objects.contains(path) || self.values.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use super::{OBJECTS, VALUES, of_columns};

    #[test]
    fn a_field_name_that_elasticsearch_can_not_take_is_replaced_in_a_csv_header() {
        for (header, fields) in [
            // The index column of pandas.
            (&["", "n"][..], &["_", "n"][..]),
            (&["", "", " ", "_"], &["__2", "__3", "__4", "_"]),
            (&[" ", "\t", "\u{2003}"], &["_", "__2", "__3"]),
            (&[".a", "b.", "c..d", ".", "e. .f"], &["_.a", "b._", "c._.d", "_._", "e._.f"]),
            (&["_id", "_source", "_type", "_index"], &["_id_", "_source_", "_type_", "_index_"]),
            (&["_id", "_id_", "_type.x", "a._id"], &["_id__2", "_id_", "_type_.x", "a._id"]),
            (
                &["__CURSOR", "_HOSTNAME", "_SOURCE_REALTIME_TIMESTAMP"],
                &["__CURSOR", "_HOSTNAME", "_SOURCE_REALTIME_TIMESTAMP"],
            ),
            // Twice.
            (&["a", "b", "a", "a"], &["a", "b", "a_2", "a_3"]),
            (&["a", "a", "a_2"], &["a", "a_3", "a_2"]),
            // A value and further fields.
            (&["a", "a.b"], &["a.value", "a.b"]),
            (&["a.b.c", "a", "a.b"], &["a.b.c", "a.value", "a.b.value"]),
            (&["a", "a.value"], &["a.value_2", "a.value"]),
            (&["a", "a.value.x"], &["a.value_2", "a.value.x"]),
            (&["a", "a", "a.b"], &["a.value", "a.value_2", "a.b"]),
            // Ours.
            (&["host", "log", "data_stream"], &["host.value", "log.value", "data_stream.value"]),
            (&["host.name", "log.file", "log.level"], &["host.name", "log.file.value", "log.level"]),
            (&["host.name.first", "@timestamp.x"], &["host.name_.first", "@timestamp_.x"]),
            (&["hostname", "logs", "error", "event"], &["hostname", "logs", "error", "event"]),
        ] {
            assert_eq!(of_columns(header), fields, "{header:?}");
        }
    }

    #[test]
    fn many_columns_of_one_name_take_linear_time() {
        let names = vec!["x"; 100_000];
        let fields = of_columns(&names);
        assert_eq!((&*fields[0], &*fields[99_999]), ("x", "x_100000"));
    }

    #[test]
    fn the_names_are_those_of_the_template() {
        let template: serde_json::Value =
            serde_json::from_str(include_str!("../../../elk/templates/inputs.json")).unwrap();
        let fields = template["template"]["mappings"]["properties"].as_object().unwrap();
        let (moved, mapped): (Vec<&String>, Vec<&String>) =
            fields.keys().partition(|name| name.ends_with(super::VALUE));
        for name in mapped {
            assert!(VALUES.contains(&&**name), "{name}");
            for (dot, _) in name.match_indices('.') {
                assert!(OBJECTS.contains(&&name[..dot]), "{name}");
            }
        }
        assert_eq!(moved.len(), OBJECTS.len());
        assert!(moved.iter().all(|name| OBJECTS.contains(&name.trim_end_matches(super::VALUE))), "{moved:?}");
    }
}
