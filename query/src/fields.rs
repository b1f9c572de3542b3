//! The fields that a query may name.

use std::collections::BTreeMap;

use kumon_schema::{Schema, builtin, of_dataset};

use crate::suggestion::did_you_mean;

/// How a field is kept and compared. Named after Elasticsearch's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// The whole value, as it is.
    Keyword,
    /// A `.text` multi-field: the value's words, see [`crate::words`].
    Words,
    Long,
    Double,
    Boolean,
    Date,
    Ip,
    /// A foreign input's field, of a type that shows only in its rows.
    Foreign,
}

/// The dataset that is asked for by `metric`: that of KuMon's metric of this name (`exec`, and `kumon.exec` as well),
/// else the foreign input's, which is named as it is.
pub fn dataset(metric: &str) -> String {
    own(metric).map_or_else(|| metric.to_owned(), Schema::dataset)
}

fn own(metric: &str) -> Option<&'static Schema> {
    builtin(metric).or_else(|| of_dataset(metric))
}

/// The fields of one metric or foreign input.
#[derive(Debug, Clone)]
pub struct Fields {
    known: BTreeMap<String, FieldKind>,
    /// Whether other names may occur.
    open: bool,
}

impl Fields {
    /// Those of a metric; of a foreign input when there is no such metric.
    pub fn of_metric(metric: &str) -> Fields {
        own(metric).map_or_else(Fields::foreign, Fields::of)
    }

    /// Those of a schema.
    pub fn of(schema: &Schema) -> Fields {
        let mut known = BTreeMap::new();
        for field in &schema.fields {
            known.insert(field.ecs.clone(), FieldKind::of_mapping(&field.elasticsearch["type"]));
            if !field.elasticsearch["fields"]["text"].is_null() {
                known.insert(format!("{}.text", field.ecs), FieldKind::Words);
            }
        }
        Fields { known, open: false }
    }

    /// Those of an input without a schema: any.
    pub fn foreign() -> Fields {
        Fields { known: BTreeMap::from([("@timestamp".to_owned(), FieldKind::Date)]), open: true }
    }

    /// What a field is, if there is such a field.
    pub fn kind(&self, name: &str) -> Option<FieldKind> {
        let foreign = if name.ends_with(".text") { FieldKind::Words } else { FieldKind::Foreign };
        self.known.get(name).copied().or(self.open.then_some(foreign))
    }

    /// Whether names beyond the known ones may occur.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The known fields, by name.
    pub fn known(&self) -> impl Iterator<Item = (&str, FieldKind)> {
        self.known.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// `did you mean 'x'?`, where a known name is like `name`.
    pub fn did_you_mean(&self, name: &str) -> Option<String> {
        did_you_mean(name, self.known.keys().map(String::as_str))
    }
}

impl FieldKind {
    fn of_mapping(r#type: &serde_json::Value) -> FieldKind {
        match r#type.as_str().unwrap_or_default() {
            "long" => FieldKind::Long,
            "double" => FieldKind::Double,
            "boolean" => FieldKind::Boolean,
            "date" => FieldKind::Date,
            "ip" => FieldKind::Ip,
            "text" => FieldKind::Words,
            _ => FieldKind::Keyword,
        }
    }

    /// The type's name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            FieldKind::Keyword => "keyword",
            FieldKind::Words => "text",
            FieldKind::Long => "long",
            FieldKind::Double => "double",
            FieldKind::Boolean => "boolean",
            FieldKind::Date => "date",
            FieldKind::Ip => "ip",
            FieldKind::Foreign => "foreign",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FieldKind, Fields};

    #[test]
    fn a_metric_has_its_schemas_fields_and_nothing_else() {
        let exec = Fields::of_metric("exec");
        assert_eq!(exec.kind("process.pid"), Some(FieldKind::Long));
        assert_eq!(exec.kind("process.command_line"), Some(FieldKind::Keyword));
        assert_eq!(exec.kind("process.command_line.text"), Some(FieldKind::Words));
        assert_eq!(exec.kind("proces.pid"), None);
        assert_eq!(Fields::of_metric("app.events").kind("anything"), Some(FieldKind::Foreign));
    }

    #[test]
    fn a_mistyped_name_is_recognised() {
        let exec = Fields::of_metric("exec");
        assert_eq!(exec.did_you_mean("pid").as_deref(), Some("did you mean 'process.pid'?"));
        assert_eq!(exec.did_you_mean("zzz"), None);
    }
}
