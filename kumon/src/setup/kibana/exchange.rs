//! Saved objects, through Kibana's API for exports and imports: it is there for good, while the older API for single
//! saved objects is deprecated.

use serde_json::{Value, json};

use super::super::object::Object;
use super::super::place::Refused;
use super::client::{Answer, Kibana};

/// What changes by itself: dates, versions, and the stamps of migrations after an upgrade of Kibana.
const NOT_CONTENT: &[&str] = &[
    "version",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "namespaces",
    "originId",
    "coreMigrationVersion",
    "typeMigrationVersion",
    "managed",
];

/// The object of that type and name, if it is there.
pub(super) fn read(kibana: &Kibana, r#type: &str, name: &str) -> Result<Option<Value>, Refused> {
    let body = json!({"objects": [{"type": r#type, "id": name}], "excludeExportDetails": true});
    let answer = kibana.post("api/saved_objects/_export", &body)?;
    if answer.status == 400 && is_missing(&answer) {
        return Ok(None);
    }
    let answer = kibana.accepted(answer)?;
    let mut exported: Value = serde_json::from_str(&answer.text).map_err(|e| {
        let text = format!("its export is no JSON: {e}");
        let wrong = Answer { status: answer.status, text, location: None };
        kibana.refusal(&wrong)
    })?;
    if let Some(exported) = exported.as_object_mut() {
        exported.retain(|key, _| !NOT_CONTENT.contains(&key.as_str()));
    }
    Ok(Some(exported))
}

/// Creates or replaces it.
pub(super) fn write(kibana: &Kibana, object: &Object) -> Result<(), Refused> {
    let answer = kibana.post_file("api/saved_objects/_import?overwrite=true", &object.body.to_string())?;
    let answer = kibana.accepted(answer)?;
    let report: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    if report["success"] == true {
        return Ok(());
    }
    Err(Refused::Rejected(match report["errors"][0]["error"].as_object() {
        Some(error) => format!("Kibana did not import it: {}", json!(error)),
        None => format!("Kibana did not import it: {}", answer.reason()),
    }))
}

/// Whether an export failed because the object isn't there.
fn is_missing(answer: &Answer) -> bool {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    body["attributes"]["objects"][0]["error"]["statusCode"] == 404
}
