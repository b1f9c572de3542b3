//! The frame of every saved object.

use serde_json::{Value, json};

/// The id of the tag that all of KuMon's objects carry.
pub const TAG: &str = "kumon";

/// An object as Kibana keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedObject {
    pub r#type: SavedObjectType,
    /// Lower-case words joined by hyphens; never changes.
    pub id: String,
    pub attributes: Value,
    pub references: Vec<Reference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SavedObjectType {
    Tag,
    DataView,
    Search,
    Dashboard,
}

/// What an object refers to, and by which name it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub r#type: SavedObjectType,
    pub id: String,
    pub name: String,
}

/// Kibana refuses a newer stamp than its own and fails without one; from the older it migrates. Both stamps are those
/// of Kibana 8.12, the oldest that imports these files.
const CORE_MIGRATION_VERSION: &str = "8.8.0";

impl SavedObjectType {
    pub const ALL: [SavedObjectType; 4] = [Self::Tag, Self::DataView, Self::Search, Self::Dashboard];

    /// Kibana's name of it.
    pub fn name(self) -> &'static str {
        match self {
            SavedObjectType::Tag => "tag",
            SavedObjectType::DataView => "index-pattern",
            SavedObjectType::Search => "search",
            SavedObjectType::Dashboard => "dashboard",
        }
    }

    /// The stamp, see [`CORE_MIGRATION_VERSION`].
    fn migration_version(self) -> &'static str {
        match self {
            SavedObjectType::Dashboard => "8.9.0",
            SavedObjectType::Tag | SavedObjectType::DataView | SavedObjectType::Search => "8.0.0",
        }
    }
}

impl SavedObject {
    /// As a line of the file.
    pub fn to_json(&self) -> Value {
        json!({
            "type": self.r#type.name(),
            "id": self.id,
            "attributes": self.attributes,
            "references": self.references.iter().map(Reference::to_json).collect::<Vec<_>>(),
            "coreMigrationVersion": CORE_MIGRATION_VERSION,
            "typeMigrationVersion": self.r#type.migration_version(),
            "managed": false,
        })
    }
}

impl Reference {
    pub(super) fn new(r#type: SavedObjectType, id: impl Into<String>, name: impl Into<String>) -> Reference {
        Reference { r#type, id: id.into(), name: name.into() }
    }

    pub(super) fn to_tag() -> Reference {
        Reference::new(SavedObjectType::Tag, TAG, format!("tag-ref-{TAG}"))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"type": self.r#type.name(), "id": self.id, "name": self.name})
    }
}

/// Kibana lists all objects that carry it under Stack Management, Saved Objects.
pub(super) fn tag() -> SavedObject {
    SavedObject {
        r#type: SavedObjectType::Tag,
        id: TAG.into(),
        attributes: json!({"name": "KuMon", "description": "Comes with KuMon", "color": "#0077CC"}),
        references: Vec::new(),
    }
}

/// Some attributes are JSON within a string.
pub(super) fn encoded(value: &Value) -> Value {
    value.to_string().into()
}

/// The attribute by which searches and dashboards tell what they search.
pub(super) fn search_source(query: &Value, index_reference: Option<&str>) -> Value {
    let mut source = json!({"query": query, "filter": []});
    if let Some(name) = index_reference {
        source["indexRefName"] = name.into();
    }
    json!({"searchSourceJSON": encoded(&source)})
}

/// A query that is in KQL.
pub(super) fn in_kql(query: &str) -> Value {
    json!({"language": "kuery", "query": query})
}

/// A query that is in Lucene's language.
pub(super) fn in_lucene(query: &str) -> Value {
    json!({"language": "lucene", "query": query})
}
