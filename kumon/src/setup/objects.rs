//! What Elasticsearch needs before rows arrive: a policy, a mapping and an index template for each data stream.

use kumon_schema::{Kind, Schema};
use kumon_shipper::Input;
use serde_json::{Value, json};

/// Above the priority of Elastic's own templates for `logs-*-*` and `metrics-*-*` (100) and of its integrations (200).
const PRIORITY: u32 = 500;
/// Settings of all data streams.
const SETTINGS: &str = "kumon@settings";
/// The operator's own settings and mappings, over KuMon's; setup never writes it.
const CUSTOM: &str = "kumon@custom";

/// Something to be put into Elasticsearch under a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    pub(super) name: String,
    pub(super) body: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Policy,
    Component,
    Template,
}

/// A data stream's name up to its namespace, and what is wanted for it.
struct Stream<'a> {
    /// `logs-kumon.exec`.
    name: String,
    /// `kumon.exec`.
    dataset: String,
    kind: Kind,
    mappings: Value,
    /// Of a metric's or an input's schema; inputs without one have none.
    schema: Option<&'a Schema>,
}

impl ObjectKind {
    /// The name that people know.
    pub(super) fn label(self) -> &'static str {
        match self {
            ObjectKind::Policy => "ILM policy",
            ObjectKind::Component => "component template",
            ObjectKind::Template => "index template",
        }
    }

    fn api(self) -> &'static str {
        match self {
            ObjectKind::Policy => "_ilm/policy",
            ObjectKind::Component => "_component_template",
            ObjectKind::Template => "_index_template",
        }
    }
}

impl Object {
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.kind.api(), self.name)
    }

    /// Identifies the object's content.
    pub(super) fn fingerprint(&self) -> &Value {
        &self.meta()["fingerprint"]
    }

    /// The fingerprint of what Elasticsearch answered to a GET of the path; null where KuMon did not put it there.
    pub(super) fn installed_fingerprint(&self, answer: &Value) -> Value {
        let meta = match self.kind {
            ObjectKind::Policy => &answer[&self.name]["policy"]["_meta"],
            ObjectKind::Component => &answer["component_templates"][0]["component_template"]["_meta"],
            ObjectKind::Template => &answer["index_templates"][0]["index_template"]["_meta"],
        };
        meta["fingerprint"].clone()
    }

    /// What the object gives to the mappings of new indices.
    pub(super) fn mappings(&self) -> Option<&Value> {
        let mappings = &self.body["template"]["mappings"];
        (self.kind == ObjectKind::Component && !mappings.is_null()).then_some(mappings)
    }

    fn new(kind: ObjectKind, name: String, mut body: Value) -> Object {
        let meta = json!({"managed_by": "kumon", "fingerprint": fingerprint(&body)});
        match kind {
            ObjectKind::Policy => body["policy"]["_meta"] = meta,
            ObjectKind::Component | ObjectKind::Template => body["_meta"] = meta,
        }
        Object { kind, name, body }
    }

    fn meta(&self) -> &Value {
        match self.kind {
            ObjectKind::Policy => &self.body["policy"]["_meta"],
            ObjectKind::Component | ObjectKind::Template => &self.body["_meta"],
        }
    }
}

/// Everything for KuMon's metrics and for the configured inputs, in the order in which it has to be put.
pub(super) fn objects(inputs: &[Input]) -> Vec<Object> {
    let mut objects = vec![Object::new(
        ObjectKind::Component,
        SETTINGS.into(),
        parse(include_str!("../../../elk/templates/settings.json")),
    )];
    let metrics = kumon_schema::all().iter().map(Stream::of_metric);
    for stream in metrics.chain(inputs.iter().map(Stream::of_input)) {
        objects.extend(stream.objects());
    }
    // Several inputs may feed one data stream.
    let mut seen = std::collections::HashSet::new();
    objects.retain(|object| seen.insert(object.path()));
    objects
}

impl Stream<'_> {
    fn of_metric(schema: &Schema) -> Stream<'_> {
        let dataset = schema.dataset();
        Stream {
            name: format!("{}-{dataset}", schema.kind.stream_type()),
            dataset,
            kind: schema.kind,
            // What no schema knows is kept in the row, but not made a field by guessing.
            mappings: json!({"dynamic": false, "properties": schema.mapping()}),
            schema: Some(schema),
        }
    }

    fn of_input(input: &Input) -> Stream<'_> {
        let inputs: Value = parse(include_str!("../../../elk/templates/inputs.json"));
        let mut mappings = inputs["template"]["mappings"].clone();
        if let Some(schema) = &input.schema {
            mappings["dynamic"] = false.into();
            let Value::Object(fields) = schema.mapping() else { unreachable!("a mapping is an object") };
            for (field, mapping) in fields {
                mappings["properties"][field] = mapping;
            }
        }
        Stream {
            name: format!("{}-{}", Kind::Event.stream_type(), input.dataset),
            dataset: input.dataset.clone(),
            kind: Kind::Event,
            mappings,
            schema: input.schema.as_ref(),
        }
    }

    fn objects(mut self) -> [Object; 3] {
        let policy = parse(match self.kind {
            Kind::Event => include_str!("../../../elk/ilm/events.json"),
            Kind::Summary => include_str!("../../../elk/ilm/summaries.json"),
        });
        // In every index it tells by which mapping the index was made, see `rollover`.
        self.mappings["_meta"] = json!({"kumon": {
            "schema_version": self.schema.map(|schema| schema.version),
            "fingerprint": fingerprint(&self.mappings),
        }});
        let mappings = format!("{}@mappings", self.name);
        let template = json!({
            "index_patterns": [format!("{}-*", self.name)],
            "data_stream": {},
            "priority": PRIORITY,
            "composed_of": [SETTINGS, mappings, CUSTOM],
            "ignore_missing_component_templates": [CUSTOM],
            "template": {"settings": {"index.lifecycle.name": self.dataset}},
        });
        [
            Object::new(ObjectKind::Policy, self.dataset, policy),
            Object::new(ObjectKind::Component, mappings, json!({"template": {"mappings": self.mappings}})),
            Object::new(ObjectKind::Template, self.name, template),
        ]
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("the files under elk/ are compiled in, and the tests parse all of them")
}

/// Tells two bodies apart; not a secret, and the other one is never chosen by an enemy.
fn fingerprint(body: &Value) -> String {
    format!("{:08x}", crc32fast::hash(body.to_string().as_bytes()))
}
