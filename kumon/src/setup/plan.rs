//! What is to be done with each object of a step.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::Value;

use super::object::{Kind, Object};
use super::place::{Missing, Place, Refused};
use super::records::{self, Author, Record, Records};
use super::retention;

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
    /// KuMon put it there on another node, whose configuration has it otherwise. Nodes with different settings would
    /// else undo each other's at each setup.
    KeepOthers(Author),
    /// KuMon's policy that keeps rows for longer than the configuration, which doesn't say how long: an upgrade deletes nothing
    /// unasked.
    KeepLonger,
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
                    let verdict =
                        verdict(object, installed.as_ref(), record.as_ref(), records.author(), force);
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

fn verdict(
    object: &Object,
    installed: Option<&Value>,
    record: Option<&Record>,
    this: &Author,
    force: bool,
) -> Verdict {
    let Some(installed) = installed else { return Verdict::Create };
    let Some(Record { fingerprint, installed: known, author }) = record else {
        return if force { Verdict::Change } else { Verdict::KeepForeign };
    };
    let may_change = || {
        let shortens = object.never_shortens && !force && retention::shortens(&object.body, installed);
        if shortens { Verdict::KeepLonger } else { Verdict::Change }
    };
    // Setup was interrupted: whatever is there is KuMon's.
    let Some(known) = known else { return may_change() };
    if known == installed && *fingerprint == object.fingerprint() {
        return Verdict::Keep;
    }
    if force {
        return Verdict::Change;
    }
    if known != installed {
        return Verdict::KeepChanged;
    }
    // A role has what all nodes need, see there.
    let is_others =
        |author: &&Author| author.node != this.node && author.is_as_new_as(this) && object.kind != Kind::Role;
    author.as_ref().filter(is_others).map_or_else(may_change, |author| Verdict::KeepOthers(author.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::{Kind, Object};
    use super::super::records::{Author, Record};
    use super::{Verdict, verdict};

    fn author(node: &str, version: &str) -> Author {
        Author { node: node.into(), version: version.into() }
    }

    #[test]
    fn what_is_there_decides_and_force_overwrites_only_what_differs() {
        let object = Object::new(Kind::Component, "kumon@settings".into(), json!({"template": {}}));
        let this = author("this", "0.10.0");
        let record = |fingerprint: &str, installed, author| Record {
            fingerprint: fingerprint.into(),
            installed,
            author,
        };
        let ours = json!({"template": {}, "default": true});
        let known = record(&object.fingerprint(), Some(ours.clone()), Some(this.clone()));
        let older = record("older", Some(ours.clone()), None);
        let interrupted = record(&object.fingerprint(), None, Some(this.clone()));
        let of_other = |version: &str| record("other", Some(ours.clone()), Some(author("other", version)));
        let (of_equal, of_newer, of_older) = (of_other("0.10.0"), of_other("1.0"), of_other("0.9.9"));
        let same_of_other =
            record(&object.fingerprint(), Some(ours.clone()), Some(author("other", "0.10.0")));
        let others = |version| Verdict::KeepOthers(author("other", version));
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
            (Some(&ours), Some(&same_of_other), Verdict::Keep, Verdict::Keep),
            (Some(&ours), Some(&of_equal), others("0.10.0"), Verdict::Change),
            (Some(&ours), Some(&of_newer), others("1.0"), Verdict::Change),
            (Some(&ours), Some(&of_older), Verdict::Change, Verdict::Change),
            (Some(&edited), Some(&of_equal), Verdict::KeepChanged, Verdict::Change),
        ] {
            let verdict = |force| verdict(&object, installed, record, &this, force);
            assert_eq!(verdict(false), without_force, "{installed:?} {record:?}");
            assert_eq!(verdict(true), with_force, "{installed:?} {record:?}");
        }
    }

    #[test]
    fn rows_go_sooner_only_where_the_configuration_says_so() {
        let policy = |kept: &str| json!({"policy": {"phases": {"delete": {"min_age": kept}}}});
        let by_default = |kept| Object {
            never_shortens: true,
            ..Object::new(Kind::Policy, "kumon.cpu".into(), policy(kept))
        };
        let said = Object::new(Kind::Policy, "kumon.cpu".into(), policy("30d"));
        let this = author("this", "0.10.0");
        let there = policy("1826d")["policy"].clone();
        for known in [Some(there.clone()), None] {
            let record = Record { fingerprint: "older".into(), installed: known, author: Some(this.clone()) };
            let verdict = |object: &Object, force| verdict(object, Some(&there), Some(&record), &this, force);
            assert_eq!(verdict(&by_default("30d"), false), Verdict::KeepLonger);
            assert_eq!(verdict(&by_default("12h"), false), Verdict::KeepLonger);
            assert_eq!(verdict(&by_default("1826d"), false), Verdict::Change);
            assert_eq!(verdict(&by_default("30d"), true), Verdict::Change);
            assert_eq!(verdict(&said, false), Verdict::Change);
        }
    }
}
