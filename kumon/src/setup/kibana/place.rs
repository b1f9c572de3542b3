//! Kibana as a place for objects, through its API for exports and imports: it is there for good, while the older
//! API for single saved objects is deprecated.

use serde_json::{Value, json};

use super::super::object::Object;
use super::super::place::{Missing, Place, Refused};
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

impl Place for Kibana {
    fn read(&self, object: &Object) -> Result<Option<Value>, Refused> {
        let wanted = [json!({"type": object.body["type"], "id": object.body["id"]})];
        let body = json!({"objects": wanted, "excludeExportDetails": true});
        let answer = self.post("api/saved_objects/_export", &body)?;
        if answer.status == 400 && is_missing(&answer) {
            return Ok(None);
        }
        let answer = self.accepted(answer)?;
        let mut exported: Value = serde_json::from_str(&answer.text).map_err(|e| {
            let text = format!("its export is no JSON: {e}");
            let wrong = Answer { status: answer.status, text, location: None };
            self.refusal(&wrong)
        })?;
        if let Some(exported) = exported.as_object_mut() {
            exported.retain(|key, _| !NOT_CONTENT.contains(&key.as_str()));
        }
        Ok(Some(exported))
    }

    fn write(&self, object: &Object) -> Result<(), Refused> {
        let answer = self.post_file("api/saved_objects/_import?overwrite=true", &object.body.to_string())?;
        let answer = self.accepted(answer)?;
        let report: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        if report["success"] == true {
            return Ok(());
        }
        Err(Refused::Rejected(match report["errors"][0]["error"].as_object() {
            Some(error) => format!("Kibana did not import it: {}", json!(error)),
            None => format!("Kibana did not import it: {}", answer.reason()),
        }))
    }

    fn delete(&self, object: &Object) -> Result<(), Refused> {
        self.accepted(self.delete(&object.path)?).map(drop)
    }
}

impl Kibana {
    /// The answer, when it is a success.
    fn accepted(&self, answer: Answer) -> Result<Answer, Refused> {
        match answer.status {
            200..300 => Ok(answer),
            400 => Err(Refused::Rejected(answer.reason())),
            403 => Err(Refused::Missing(Missing::Privilege(answer.reason()))),
            _ => Err(Refused::Failed(self.refusal(&answer))),
        }
    }
}

/// Whether an export failed because the object isn't there.
fn is_missing(answer: &Answer) -> bool {
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    body["attributes"]["objects"][0]["error"]["statusCode"] == 404
}
