//! Reading schema files.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

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
    /// The metric whose values the rows show as a histogram. KuMon's own schemas alone say that.
    #[serde(skip)]
    pub histogram_of: Option<String>,
    /// The metric whose rows these sum up by 10 minutes. KuMon's own schemas alone say that.
    #[serde(skip)]
    pub coarse_of: Option<String>,
    /// Which keys have rows of their own, where not all have. KuMon's own schemas alone say that.
    #[serde(skip)]
    pub top: Option<Top>,
    /// How far apart the rows of an interval are by default, in seconds, where that is other than usual. KuMon's own schemas
    /// alone say that.
    #[serde(skip)]
    pub interval: Option<u32>,
    /// The columns, in the file's order.
    pub fields: Vec<Field>,
    /// The schema's own text, for the sidecar beside the files.
    #[serde(skip)]
    pub text: String,
}

/// How a metric has rows of the largest keys only, and one of all the others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Top {
    /// The columns by which they are the largest; where there are several, each has its share of the keys.
    pub by: Vec<String>,
    /// The columns that have the text `other` in the row of the others, where all else that tells rows apart is empty.
    pub other: Vec<String>,
}

/// One column.
#[derive(Debug, Clone, Deserialize)]
pub struct Field {
    /// The column's name in the CSV header.
    pub name: String,
    /// How the column's text is to be read.
    pub r#type: FieldType,
    /// What the items of a list are.
    #[serde(default, rename = "itemType")]
    pub item_type: ItemType,
    /// What parts the items of a list in CSV: one ASCII character.
    #[serde(default)]
    pub delimiter: Delimiter,
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
    /// What it means to those who show it or calculate with it. KuMon's own schemas alone say that.
    #[serde(skip)]
    pub meaning: Meaning,
}

/// What a column means to those who show it or calculate with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// What the numbers of a measure are. A column without is a dimension: it names something, or tells rows apart.
    pub metric_type: Option<MetricType>,
    /// The statistic of an interval that the column holds.
    pub statistic: Option<Statistic>,
    /// The column for whose numbers its texts stand. Sorted as texts they are in the order of those numbers.
    pub label_of: Option<String>,
    /// What people call it, in a word; empty where that is its field's name.
    pub title: String,
    /// Whether people see it without asking for it.
    pub shown: bool,
    /// Whether it tells no rows apart and adds nothing up: of several rows it is that of the last one.
    pub is_last: bool,
}

/// What the numbers of a measure are. Named after Elastic's `metric_type`, whose counters are totals since a start
/// while a row of KuMon's holds what came in its interval or event (OpenTelemetry: delta temporality). That is why
/// Elasticsearch's mapping doesn't say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// They add up over rows; over time they are a rate.
    Counter,
    /// Each stands for itself.
    Gauge,
}

/// A number that sums up what was measured in an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistic {
    pub function: Function,
    /// What was measured, in the plural; all statistics of it in a metric say the same.
    pub of: String,
}

/// How measured values become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many there were.
    Count,
    Sum,
    Min,
    Max,
    /// From 1 to 99.
    Percentile(u8),
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
    /// Several values of [`Field::item_type`], parted by [`Field::delimiter`] in CSV.
    List,
}

/// The type of a list's items, which is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "FieldType")]
pub struct ItemType(FieldType);

/// What parts the items of a list in CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "char")]
pub struct Delimiter(pub u8);

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

/// What the names of KuMon's own datasets begin with.
pub(crate) const DATASETS: &str = "kumon.";

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
                field.elasticsearch = field.value_type().default_mapping();
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

    /// The columns that are the same in every row of a node and boot. All of KuMon's metrics begin with the time and
    /// these; build.rs sees to it.
    pub(crate) fn fields_of_node(&self) -> &[Field] {
        &self.fields[1..4]
    }

    /// The columns of a metric of KuMon's that its rows don't have in common with those of all others.
    pub fn own_fields(&self) -> &[Field] {
        &self.fields[4..]
    }

    /// The dataset of KuMon's own metrics: `kumon.<metric>`.
    pub fn dataset(&self) -> String {
        format!("{DATASETS}{}", self.name)
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
            item_type: ItemType::default(),
            delimiter: Delimiter::default(),
            elasticsearch: r#type.default_mapping(),
            meaning: Meaning::default(),
        }
    }

    /// The type of its value, or of each where it is a list.
    pub fn value_type(&self) -> FieldType {
        match self.r#type {
            FieldType::List => self.item_type.0,
            one => one,
        }
    }
}

impl Default for ItemType {
    fn default() -> ItemType {
        ItemType(FieldType::String)
    }
}

impl TryFrom<FieldType> for ItemType {
    type Error = &'static str;

    fn try_from(r#type: FieldType) -> Result<ItemType, &'static str> {
        match r#type {
            FieldType::List => Err("itemType: a list has no lists in it"),
            one => Ok(ItemType(one)),
        }
    }
}

impl Default for Delimiter {
    fn default() -> Delimiter {
        Delimiter(b',')
    }
}

impl TryFrom<char> for Delimiter {
    type Error = String;

    fn try_from(character: char) -> Result<Delimiter, String> {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii_graphic() || byte == b' ' || byte == b'\t' => Ok(Delimiter(byte)),
            _ => {
                Err(format!("delimiter: {character:?} can't be one; it takes one printable ASCII character"))
            }
        }
    }
}

/// That of a column of which no more is known than how it is read.
impl Default for Meaning {
    fn default() -> Meaning {
        Meaning {
            metric_type: None,
            statistic: None,
            label_of: None,
            title: String::new(),
            shown: true,
            is_last: false,
        }
    }
}

impl MetricType {
    /// As schemas write it.
    pub fn name(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
        }
    }
}

/// As schemas write it: `p99` of percentiles.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::Count => f.write_str("count"),
            Function::Sum => f.write_str("sum"),
            Function::Min => f.write_str("min"),
            Function::Max => f.write_str("max"),
            Function::Percentile(percent) => write!(f, "p{percent}"),
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
            FieldType::List => ItemType::default().0.default_mapping(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schema;

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
