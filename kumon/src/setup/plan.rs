//! What is to be done with each object of a step.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::Value;

use super::object::{Kind, Object};
use super::place::{Missing, Place, Refused};
use super::records::{self, Record, Records};

/// An object beside what is there.
#[derive(Debug)]
pub(super) struct Planned<'o> {
    pub(super) object: &'o Object,
    pub(super) installed: Option<Value>,
    pub(super) record: Option<Record>,
    pub(super) verdict: Verdict,
}

/// What is to be done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is there.
    Create,
    /// It is there as it should be.
    Keep,
    /// What is there is an older version of KuMon's, or is to be overwritten.
    Change,
    /// Somebody changed what KuMon had put there.
    KeepChanged,
    /// KuMon did not put it there.
    KeepForeign,
    /// Its kind is not to be had there.
    Missing(Missing),
}

/// Looks at what is there. Only with `force` somebody else's work is overwritten.
pub(super) fn plan<'o>(
    objects: &'o [Object],
    place: &dyn Place,
    records: &Records,
    force: bool,
) -> Result<Vec<Planned<'o>>> {
    let mut recorded = records.of(objects)?;
    let mut skipped: HashMap<Kind, Missing> = HashMap::new();
    let mut planned = Vec::with_capacity(objects.len());
    for object in objects {
        let record = recorded.remove(&records::id(object));
        let (installed, verdict) = match skipped.get(&object.kind) {
            Some(skip) => (None, Verdict::Missing(skip.clone())),
            None => match read(object, place)? {
                Ok(installed) => {
                    let verdict = verdict(object, installed.as_ref(), record.as_ref(), force);
                    (installed, verdict)
                }
                Err(skip) => {
                    skipped.insert(object.kind, skip.clone());
                    (None, Verdict::Missing(skip))
                }
            },
        };
        planned.push(Planned { object, installed, record, verdict });
    }
    Ok(planned)
}

fn read(object: &Object, place: &dyn Place) -> Result<Result<Option<Value>, Missing>> {
    match place.read(object) {
        Ok(installed) => Ok(Ok(installed)),
        Err(Refused::Missing(skip)) => Ok(Err(skip)),
        Err(Refused::Failed(failure)) => Err(failure.into()),
        Err(Refused::Rejected(reason)) => anyhow::bail!("reading the {} failed: {reason}", object.title()),
        Err(Refused::InUse) => anyhow::bail!("reading the {} failed: it is in use", object.title()),
    }
}

fn verdict(object: &Object, installed: Option<&Value>, record: Option<&Record>, force: bool) -> Verdict {
    let Some(installed) = installed else { return Verdict::Create };
    let Some(record) = record else {
        return if force { Verdict::Change } else { Verdict::KeepForeign };
    };
    match &record.installed {
        Some(known) if known != installed && !force => Verdict::KeepChanged,
        Some(known) if known == installed && record.fingerprint == object.fingerprint() => Verdict::Keep,
        _ => Verdict::Change,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::{Kind, Object};
    use super::super::records::Record;
    use super::{Verdict, verdict};

    #[test]
    fn what_is_there_decides_and_force_overwrites_only_what_differs() {
        let object = Object::new(Kind::Component, "kumon@settings".into(), json!({"template": {}}));
        let record = |fingerprint: &str, installed| Record { fingerprint: fingerprint.into(), installed };
        let ours = json!({"template": {}, "default": true});
        let known = record(&object.fingerprint(), Some(ours.clone()));
        let older = record("older", Some(ours.clone()));
        let interrupted = record(&object.fingerprint(), None);
        let edited = json!({"template": {"settings": {}}, "default": true});
        for (installed, record, without_force, with_force) in [
            (None, None, Verdict::Create, Verdict::Create),
            (None, Some(&known), Verdict::Create, Verdict::Create),
            (Some(&ours), Some(&known), Verdict::Keep, Verdict::Keep),
            (Some(&ours), Some(&older), Verdict::Change, Verdict::Change),
            (Some(&ours), Some(&interrupted), Verdict::Change, Verdict::Change),
            (Some(&edited), Some(&known), Verdict::KeepChanged, Verdict::Change),
            (Some(&edited), Some(&older), Verdict::KeepChanged, Verdict::Change),
            (Some(&edited), None, Verdict::KeepForeign, Verdict::Change),
        ] {
            assert_eq!(verdict(&object, installed, record, false), without_force, "{installed:?} {record:?}");
            assert_eq!(verdict(&object, installed, record, true), with_force, "{installed:?} {record:?}");
        }
    }
}
