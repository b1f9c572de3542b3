//! What is put into Elasticsearch or Kibana.

use serde_json::{Value, json};

/// Something to be put there under a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Where it is, below the API's address: `_ilm/policy/kumon.exec`.
    pub(super) path: String,
    /// What a PUT sends.
    pub(super) body: Value,
    /// The space of Kibana that the name is of; none where it is the default space's, or no space's.
    pub(super) space: Option<String>,
    /// Of a policy: whether the configuration doesn't say how long rows are kept, so that rows which are there must not go
    /// sooner because of it.
    pub(super) never_shortens: bool,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Role,
    Policy,
    Component,
    Template,
    Pipeline,
    Tag,
    DataView,
    Search,
    Dashboard,
    Watch,
    Connector,
    Rule,
}

impl Kind {
    /// The name that people know.
    pub(super) fn label(self) -> &'static str {
        match self {
            Kind::Role => "role",
            Kind::Policy => "ILM policy",
            Kind::Component => "component template",
            Kind::Template => "index template",
            Kind::Pipeline => "ingest pipeline",
            Kind::Tag => "Kibana tag",
            Kind::DataView => "data view",
            Kind::Search => "saved search",
            Kind::Dashboard => "dashboard",
            Kind::Watch => "watch",
            Kind::Connector => "connector",
            Kind::Rule => "rule",
        }
    }

    /// For more than one.
    pub(super) fn plural(self) -> String {
        let label = self.label();
        match self {
            Kind::Policy => "ILM policies".into(),
            Kind::Search => "saved searches".into(),
            Kind::Watch => "watches".into(),
            _ => format!("{label}s"),
        }
    }

    /// Whether Kibana keeps it.
    pub(super) fn is_of_kibana(self) -> bool {
        self.saved_object_type().is_some() || matches!(self, Kind::Connector | Kind::Rule)
    }

    /// Kibana's name of the type, of what its API for exports and imports has.
    pub(super) fn saved_object_type(self) -> Option<&'static str> {
        match self {
            Kind::Tag => Some("tag"),
            Kind::DataView => Some("index-pattern"),
            Kind::Search => Some("search"),
            Kind::Dashboard => Some("dashboard"),
            _ => None,
        }
    }

    fn api(self) -> &'static str {
        match self {
            Kind::Role => "_security/role",
            Kind::Policy => "_ilm/policy",
            Kind::Component => "_component_template",
            Kind::Template => "_index_template",
            Kind::Pipeline => "_ingest/pipeline",
            Kind::Tag => "api/saved_objects/tag",
            Kind::DataView => "api/saved_objects/index-pattern",
            Kind::Search => "api/saved_objects/search",
            Kind::Dashboard => "api/saved_objects/dashboard",
            Kind::Watch => "_watcher/watch",
            Kind::Connector => "api/actions/connector",
            Kind::Rule => "api/alerting/rule",
        }
    }
}

impl Object {
    /// An object, marked as KuMon's where the kind has a place for that: people see it there.
    pub(super) fn new(kind: Kind, name: String, mut body: Value) -> Object {
        let mark = json!({"managed_by": "kumon"});
        match kind {
            Kind::Role => body["metadata"] = mark,
            Kind::Policy => body["policy"]["_meta"] = mark,
            Kind::Component | Kind::Template | Kind::Pipeline => body["_meta"] = mark,
            // A watch and a rule are marked where they are made.
            Kind::Tag
            | Kind::DataView
            | Kind::Search
            | Kind::Dashboard
            | Kind::Watch
            | Kind::Connector
            | Kind::Rule => {}
        }
        Object { body, ..Object::named(kind, name) }
    }

    /// One of which only the name is known: it can be looked at and deleted.
    pub(super) fn named(kind: Kind, name: String) -> Object {
        Object {
            kind,
            path: format!("{}/{name}", kind.api()),
            name,
            body: Value::Null,
            space: None,
            never_shortens: false,
        }
    }

    /// The same as one of that space.
    pub(super) fn in_space(self, space: Option<&str>) -> Object {
        Object { space: space.map(str::to_owned), ..self }
    }

    /// What people call it: `ILM policy kumon.exec`.
    pub(super) fn title(&self) -> String {
        // Their names are UUIDs.
        let title = self.body["name"].as_str().filter(|_| matches!(self.kind, Kind::Connector | Kind::Rule));
        if let Some(title) = title {
            return format!("{} '{title}'", self.kind.label());
        }
        format!("{} {}", self.kind.label(), self.name)
    }

    /// Tells this body from what another version or configuration of KuMon would put there.
    pub(super) fn fingerprint(&self) -> String {
        fingerprint(&self.body)
    }
}

/// Tells two bodies apart; not a secret, and the other one is never chosen by an enemy.
pub(super) fn fingerprint(body: &Value) -> String {
    format!("{:08x}", crc32fast::hash(body.to_string().as_bytes()))
}
