//! Where objects are kept, and what it may answer instead of doing what it is asked for.

use std::fmt;

use kumon_shipper::elasticsearch::{Answer, Client, Failure, Method};
use serde_json::Value;

use super::object::{Kind, Object};

/// Keeps the objects of a step: Elasticsearch, or Kibana.
pub(super) trait Place {
    /// What is there under the object's name, without what changes by itself (versions, dates); none where nothing is.
    fn read(&self, object: &Object) -> Result<Option<Value>, Refused>;
    /// Creates or replaces it.
    fn write(&self, object: &Object) -> Result<(), Refused>;
    /// Deletes it.
    fn delete(&self, object: &Object) -> Result<(), Refused>;
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Refused {
    /// Objects of that kind are not to be had there.
    Missing(Missing),
    /// It can't be deleted while something else uses it.
    InUse,
    /// This one object is not accepted.
    Rejected(String),
    /// Nothing more can be done there.
    Failed(Failure),
}

/// What is missing, so that a kind of object is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    Api,
    Licence(String),
    Privilege(String),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused::Failed(failure)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Api => f.write_str("there is no such API there"),
            Missing::Licence(reason) => write!(f, "its licence does not cover them ({reason})"),
            Missing::Privilege(reason) => write!(
                f,
                "a privilege is missing ({reason}); docs/elasticsearch.md has the role that setup needs"
            ),
        }
    }
}

impl Place for Client {
    fn read(&self, object: &Object) -> Result<Option<Value>, Refused> {
        let answer = self.request(Method::GET, &object.path, None)?;
        if answer.status == 404 {
            return Ok(None);
        }
        let answer = accepted(self, answer)?;
        Ok(Some(content(object.kind, &object.name, answer.json())))
    }

    fn write(&self, object: &Object) -> Result<(), Refused> {
        accepted(self, self.request(Method::PUT, &object.path, Some(&object.body))?).map(drop)
    }

    fn delete(&self, object: &Object) -> Result<(), Refused> {
        let answer = self.request(Method::DELETE, &object.path, None)?;
        if answer.status == 400 && answer.reason().contains("in use") {
            return Err(Refused::InUse);
        }
        accepted(self, answer).map(drop)
    }
}

/// The object's own content in the answer to a GET of its path.
fn content(kind: Kind, name: &str, mut answer: Value) -> Value {
    let mut content = match kind {
        Kind::Role | Kind::Pipeline => answer[name].take(),
        Kind::Policy => answer[name]["policy"].take(),
        Kind::Component => answer["component_templates"][0]["component_template"].take(),
        Kind::Template => answer["index_templates"][0]["index_template"].take(),
        Kind::Watch => answer["watch"].take(),
        // Kibana keeps these.
        Kind::Tag | Kind::DataView | Kind::Search | Kind::Dashboard | Kind::Connector | Kind::Rule => answer,
    };
    // Elasticsearch 9 notes when a template was made and changed. Whether a role can be used depends on the licence.
    if let Some(content) = content.as_object_mut() {
        let changes_by_itself = |key: &str| {
            key.starts_with("created_date") || key.starts_with("modified_date") || key == "transient_metadata"
        };
        content.retain(|key, _| !changes_by_itself(key));
    }
    content
}

/// The answer, when it is a success.
fn accepted(client: &Client, answer: Answer) -> Result<Answer, Refused> {
    if let Some(missing) = missing(answer.status, &answer.reason()) {
        return Err(Refused::Missing(missing));
    }
    match answer.status {
        400 => Err(Refused::Rejected(answer.reason())),
        _ => Ok(client.ok(answer)?),
    }
}

/// Whether an answer says that the API, the licence or a privilege is missing.
pub(super) fn missing(status: u16, reason: &str) -> Option<Missing> {
    let has = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    match status {
        400 | 405 | 410 if has(&["no handler found", "Incorrect HTTP method", "not available"]) => {
            Some(Missing::Api)
        }
        403 if has(&["non-compliant"]) => Some(Missing::Licence(reason.to_owned())),
        403 if has(&["unauthorized"]) => Some(Missing::Privilege(reason.to_owned())),
        _ => None,
    }
}
