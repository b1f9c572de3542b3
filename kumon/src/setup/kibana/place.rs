//! Kibana as a place for objects.

use serde_json::Value;

use super::super::object::Object;
use super::super::place::{Missing, Place, Refused};
use super::client::{Answer, Kibana};
use super::{api, exchange};

impl Place for Kibana {
    fn read(&self, object: &Object) -> Result<Option<Value>, Refused> {
        match object.kind.saved_object_type() {
            Some(r#type) => exchange::read(self, r#type, &object.name),
            None => api::read(self, object),
        }
    }

    fn write(&self, object: &Object) -> Result<(), Refused> {
        match object.kind.saved_object_type() {
            Some(_) => exchange::write(self, object),
            None => api::write(self, object),
        }
    }

    fn delete(&self, object: &Object) -> Result<(), Refused> {
        self.accepted(self.delete(&object.path)?).map(drop)
    }
}

impl Kibana {
    /// The answer, when it is a success.
    pub(super) fn accepted(&self, answer: Answer) -> Result<Answer, Refused> {
        match answer.status {
            200..300 => Ok(answer),
            400 => Err(Refused::Rejected(answer.reason())),
            403 => Err(Refused::Missing(Missing::Privilege(answer.reason()))),
            _ => Err(Refused::Failed(self.refusal(&answer))),
        }
    }
}
