//! Reading and checking schema files.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::rows;

/// A table schema: KuMon's own, or that of a foreign CSV file (`inputs[].schema`).
#[derive(Debug, Clone, Deserialize)]
pub struct Schema {
    /// The metric's name; for a foreign file a label only.
    #[serde(default)]
    pub name: String,
    /// Grows with every change of the columns, so that older files are told from newer ones.
    #[serde(default = "first_version")]
    pub version: u32,
    /// A few words.
    #[serde(default)]
    pub title: String,
    /// What one row is.
    #[serde(default)]
    pub description: String,
    /// Whether rows are single events or summaries of an interval.
    #[serde(default)]
    pub kind: Kind,
    /// The columns, in the file's order.
    pub fields: Vec<Field>,
    /// The schema's own text, for the sidecar beside the files.
    #[serde(skip)]
    pub text: String,
}

/// One column.
#[derive(Debug, Clone, Deserialize)]
pub struct Field {
    /// The column's name in the CSV header.
    pub name: String,
    /// How the column's text is to be read.
    pub r#type: FieldType,
    /// Unit of measure (ns, bytes, …); empty where there is none.
    #[serde(default)]
    pub unit: String,
    /// What it means.
    #[serde(default)]
    pub description: String,
    /// The document's field (ECS where ECS has one); the column's name where the schema gives none.
    #[serde(default)]
    pub ecs: String,
    /// The field's mapping in Elasticsearch; a default by type where the schema gives none.
    #[serde(default)]
    pub elasticsearch: Value,
}

/// The Frictionless types KuMon reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    String,
    /// A whole number that fits 64 bits.
    Integer,
    Number,
    Boolean,
    /// RFC 3339.
    Datetime,
}

/// What one row of a metric is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One event; its data stream is `logs-…`.
    #[default]
    Event,
    /// One key in one interval; its data stream is `metrics-…`.
    Summary,
}

/// Why a text is no schema KuMon can use.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("not a table schema: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("the schema has no fields")]
    Empty,
    #[error("the field name '{0}' stands twice")]
    Twice(String),
}

fn first_version() -> u32 {
    1
}

impl Schema {
    /// Reads a Frictionless Table Schema.
    ///
    /// # Errors
    /// When the text is not JSON of that shape, or a column or document field stands twice.
    pub fn parse(text: &str) -> Result<Schema, SchemaError> {
        let mut schema: Schema = serde_json::from_str(text)?;
        if schema.fields.is_empty() {
            return Err(SchemaError::Empty);
        }
        let (mut columns, mut documents) = (HashSet::new(), HashSet::new());
        for field in &mut schema.fields {
            if field.ecs.is_empty() {
                field.ecs = field.name.clone();
            }
            if field.elasticsearch.is_null() {
                field.elasticsearch = field.r#type.default_mapping();
            }
            for (seen, name) in [(&mut columns, &field.name), (&mut documents, &field.ecs)] {
                if !seen.insert(name.clone()) {
                    return Err(SchemaError::Twice(name.clone()));
                }
            }
        }
        schema.text = text.to_owned();
        Ok(schema)
    }

    /// The first line of the metric's files, its line end included.
    pub fn header(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        names.join(",") + "\n"
    }

    /// The dataset of KuMon's own metrics: `kumon.<metric>`.
    pub fn dataset(&self) -> String {
        format!("kumon.{}", self.name)
    }

    /// The data stream `{type}-{dataset}-{namespace}`, see Elastic's data stream naming scheme.
    pub fn data_stream(&self, namespace: &str) -> String {
        format!("{}-{}-{namespace}", self.kind.stream_type(), self.dataset())
    }

    /// The `properties` of the metric's Elasticsearch mapping, by the documents' dotted field names.
    pub fn mapping(&self) -> Value {
        let fields = self.fields.iter().map(|field| (field.ecs.clone(), field.elasticsearch.clone()));
        json!(fields.collect::<serde_json::Map<_, _>>())
    }
}

impl Field {
    /// A text under its own name.
    pub fn text(name: &str) -> Field {
        let r#type = FieldType::String;
        Field {
            name: name.to_owned(),
            r#type,
            unit: String::new(),
            description: String::new(),
            ecs: name.to_owned(),
            elasticsearch: r#type.default_mapping(),
        }
    }
}

impl Kind {
    /// The `type` part of a data stream's name.
    pub fn stream_type(self) -> &'static str {
        match self {
            Kind::Event => "logs",
            Kind::Summary => "metrics",
        }
    }
}

impl FieldType {
    fn default_mapping(self) -> Value {
        match self {
            // 8191 characters of up to four bytes stay below Lucene's limit of 32766 bytes a term.
            FieldType::String => json!({"type": "keyword", "ignore_above": 8191}),
            FieldType::Integer => json!({"type": "long"}),
            FieldType::Number => json!({"type": "double"}),
            FieldType::Boolean => json!({"type": "boolean"}),
            FieldType::Datetime => json!({"type": "date"}),
        }
    }
}

/// The schemas of all of KuMon's metrics, ordered by name.
pub fn all() -> &'static [Schema] {
    static ALL: LazyLock<Vec<Schema>> = LazyLock::new(|| {
        let parse =
            |text: &&str| Schema::parse(text).expect("build.rs read the same text, the tests parse it");
        rows::TEXTS.iter().map(parse).collect()
    });
    &ALL
}

/// The schema of one of KuMon's metrics.
pub fn builtin(metric: &str) -> Option<&'static Schema> {
    all().iter().find(|schema| schema.name == metric)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{FieldType, Schema, all};

    #[test]
    fn every_column_is_described_mapped_and_means_the_same_everywhere() {
        let mut documents: HashMap<&str, &super::Field> = HashMap::new();
        for schema in all() {
            assert!(!schema.title.is_empty() && !schema.description.is_empty(), "{}", schema.name);
            for field in &schema.fields {
                let place = format!("{}.{}", schema.name, field.name);
                assert!(!field.description.is_empty(), "{place} has no description");
                let es = field.elasticsearch["type"].as_str().expect(&place);
                let fits = match field.r#type {
                    FieldType::String => ["keyword", "ip"].contains(&es),
                    FieldType::Integer => ["long", "keyword"].contains(&es),
                    FieldType::Number => es == "double",
                    FieldType::Boolean => es == "boolean",
                    FieldType::Datetime => es == "date",
                };
                assert!(fits, "{place}: {es} does not fit {:?}", field.r#type);
                let known = documents.entry(&field.ecs).or_insert(field);
                assert_eq!(
                    known.elasticsearch, field.elasticsearch,
                    "{place}: {} is mapped in two ways",
                    field.ecs
                );
            }
        }
    }

    #[test]
    fn a_foreign_schema_needs_names_and_types_only() {
        let schema = Schema::parse(
            r#"{"fields":[{"name":"t","type":"datetime","ecs":"@timestamp"},{"name":"n","type":"integer"}]}"#,
        );
        let schema = schema.unwrap();
        assert_eq!(schema.header(), "t,n\n");
        assert_eq!(schema.mapping()["@timestamp"]["type"], "date");
        assert_eq!(schema.mapping()["n"]["type"], "long");
    }

    #[test]
    fn a_schema_that_would_lose_a_column_is_refused() {
        let twice = r#"{"fields":[{"name":"a","type":"string"},{"name":"b","type":"string","ecs":"a"}]}"#;
        assert_eq!(Schema::parse(twice).unwrap_err().to_string(), "the field name 'a' stands twice");
        assert!(
            Schema::parse(r#"{"fields":[{"name":"a","type":"geopoint"}]}"#)
                .unwrap_err()
                .to_string()
                .contains("geopoint")
        );
    }
}
