//! Putting a step's objects there, and taking them out again.

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::object::Object;
use super::place::{Missing, Place, Refused};
use super::plan::{Planned, Verdict, plan};
use super::records::{Author, Records};

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Changed,
    Kept,
    /// Somebody changed it.
    KeptChanged,
    /// KuMon did not make it.
    KeptForeign,
    /// Another node's configuration has it otherwise.
    KeptOthers(Author),
    /// It keeps rows for longer than the configuration, which doesn't say how long.
    KeptLonger,
    Skipped(Missing),
    Rejected(String),
    Removed,
    /// There is nothing to remove.
    Absent,
    /// Something else uses it.
    InUse,
}

/// Puts what is missing or older there.
pub(super) fn install<'o>(
    objects: &'o [Object],
    place: &dyn Place,
    records: &Records,
    force: bool,
) -> Result<Vec<(&'o Object, Outcome)>> {
    let planned = plan(objects, place, records, force)?;
    let is_put = |verdict: &Verdict| matches!(verdict, Verdict::Create | Verdict::Change);
    let put: Vec<&Object> = planned.iter().filter(|p| is_put(&p.verdict)).map(|p| p.object).collect();
    records.begin(&put)?;
    let mut installed = Vec::with_capacity(put.len());
    let mut unrecorded = Vec::new();
    let mut outcomes = Vec::with_capacity(planned.len());
    for Planned { object, record, verdict, .. } in planned {
        let outcome = match verdict {
            Verdict::Keep => Outcome::Kept,
            Verdict::KeepChanged => Outcome::KeptChanged,
            Verdict::KeepForeign => Outcome::KeptForeign,
            Verdict::KeepOthers(author) => Outcome::KeptOthers(author),
            Verdict::KeepLonger => Outcome::KeptLonger,
            Verdict::Missing(skip) => Outcome::Skipped(skip),
            Verdict::Create | Verdict::Change => match write(object, place)? {
                Ok(content) => {
                    installed.push((object, records.record(object, Some(content))));
                    if verdict == Verdict::Create { Outcome::Created } else { Outcome::Changed }
                }
                Err(outcome) => {
                    // What is there, if anything, stays what it was.
                    match record.filter(|record| record.installed.is_some()) {
                        Some(record) => installed.push((object, record)),
                        None => unrecorded.push(object),
                    }
                    outcome
                }
            },
        };
        outcomes.push((object, outcome));
    }
    records.forget(&unrecorded)?;
    records.finish(installed)?;
    Ok(outcomes)
}

/// Takes out what is there as setup put it, or whatever is there with `force`, unless something else uses it.
pub(super) fn remove<'o>(
    objects: &'o [Object],
    place: &dyn Place,
    records: &Records,
    force: bool,
) -> Result<Vec<(&'o Object, Outcome)>> {
    let mut planned = plan(objects, place, records, force)?;
    // What refers to others goes first.
    planned.reverse();
    let mut gone = Vec::new();
    let mut outcomes = Vec::with_capacity(planned.len());
    for Planned { object, verdict, .. } in planned {
        let outcome = match verdict {
            Verdict::Create => Outcome::Absent,
            Verdict::KeepChanged => Outcome::KeptChanged,
            Verdict::KeepForeign => Outcome::KeptForeign,
            Verdict::Missing(skip) => Outcome::Skipped(skip),
            Verdict::Keep | Verdict::Change | Verdict::KeepOthers(_) | Verdict::KeepLonger => {
                match place.delete(object) {
                    Ok(()) => Outcome::Removed,
                    Err(refused) => refused.outcome(object)?,
                }
            }
        };
        if matches!(outcome, Outcome::Removed | Outcome::Absent) {
            gone.push(object);
        }
        outcomes.push((object, outcome));
    }
    records.forget(&gone)?;
    Ok(outcomes)
}

/// Puts it there and answers what a GET shows then.
fn write(object: &Object, place: &dyn Place) -> Result<Result<Value, Outcome>> {
    if let Err(refused) = place.write(object) {
        return refused.outcome(object).map(Err);
    }
    match place.read(object) {
        Ok(Some(content)) => Ok(Ok(content)),
        Ok(None) => Err(anyhow!("the {} was deleted while setup made it", object.title())),
        Err(refused) => refused.outcome(object).map(Err),
    }
}

impl Refused {
    /// What it means for one object, when others may still do.
    fn outcome(self, object: &Object) -> Result<Outcome> {
        Ok(match self {
            Refused::Missing(skip) => Outcome::Skipped(skip),
            Refused::InUse => Outcome::InUse,
            Refused::Rejected(reason) => Outcome::Rejected(reason),
            Refused::Failed(failure) => {
                return Err(anyhow!(failure).context(format!("the {}", object.title())));
            }
        })
    }
}
