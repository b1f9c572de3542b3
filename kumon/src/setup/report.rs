//! What setup says that it did, or would do.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use super::difference::differences;
use super::install::Outcome;
use super::object::{Kind, Object};
use super::place::Missing;
use super::plan::{Planned, Verdict};
use super::records::Author;

/// What has become of a default that was longer in an earlier version.
const KEPT_LONGER: &str = "rows are kept there for longer than by this version's default, and none goes unasked; \
    'retention: { summaries: 30d }' in the configuration, or another time, makes setup change it";

/// Counts what became of all objects.
#[derive(Debug, Default)]
pub(super) struct Report {
    created: usize,
    changed: usize,
    kept: usize,
    removed: usize,
    /// Kept because they are somebody else's work.
    theirs: usize,
    in_use: usize,
    /// Kept because rows would go sooner.
    longer: usize,
    skipped: usize,
    rejected: usize,
    /// A privilege was missing for some.
    privilege_missing: bool,
}

impl Report {
    /// Tells what became of a step's objects.
    pub(super) fn step(&mut self, outcomes: &[(&Object, Outcome)], out: &mut impl Write) -> Result<()> {
        let mut kept: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut skipped: BTreeMap<Kind, (usize, &Missing)> = BTreeMap::new();
        let mut longer = 0;
        for (object, outcome) in outcomes {
            let title = object.title();
            match outcome {
                Outcome::Created => {
                    self.created += 1;
                    writeln!(out, "created {title}")?;
                }
                Outcome::Changed => {
                    self.changed += 1;
                    writeln!(out, "changed {title}")?;
                }
                Outcome::Removed => {
                    self.removed += 1;
                    writeln!(out, "removed {title}")?;
                }
                Outcome::KeptChanged => {
                    self.theirs += 1;
                    writeln!(out, "left {title}: it was changed since setup put it there")?;
                }
                Outcome::KeptForeign => {
                    self.theirs += 1;
                    writeln!(out, "left {title}: setup did not put it there")?;
                }
                Outcome::KeptOthers(author) => {
                    self.theirs += 1;
                    writeln!(out, "left {title}: {}", of_another(author))?;
                }
                Outcome::KeptLonger => longer += 1,
                Outcome::InUse => {
                    self.in_use += 1;
                    writeln!(out, "left {title}: in use")?;
                }
                Outcome::Rejected(reason) => {
                    self.rejected += 1;
                    writeln!(out, "REFUSED {title}: {reason}")?;
                }
                Outcome::Kept => *kept.entry(object.kind).or_default() += 1,
                Outcome::Skipped(skip) => {
                    self.privilege_missing |= matches!(skip, Missing::Privilege(_));
                    skipped.entry(object.kind).or_insert((0, skip)).0 += 1;
                }
                Outcome::Absent => {}
            }
        }
        for (kind, number) in kept {
            self.kept += number;
            writeln!(out, "kept {}", count(number, kind))?;
        }
        if longer > 0 {
            self.longer += longer;
            writeln!(out, "left {}: {KEPT_LONGER}", count(longer, Kind::Policy))?;
        }
        for (kind, (number, skip)) in skipped {
            self.skipped += number;
            writeln!(out, "skipped {}: {skip}", count(number, kind))?;
        }
        Ok(())
    }

    /// The sums, and what to do about what was left.
    pub(super) fn end(&self, removing: bool, out: &mut impl Write) -> Result<()> {
        let mut parts = if removing {
            vec![format!("{} removed", self.removed)]
        } else {
            vec![
                format!("{} created", self.created),
                format!("{} changed", self.changed),
                format!("{} kept as they were", self.kept),
            ]
        };
        let further = [
            (self.theirs, "left because they are not as setup put them"),
            (self.in_use, "left because they are in use"),
            (self.longer, "left because rows would go sooner"),
            (self.skipped, "skipped"),
            (self.rejected, "refused"),
        ];
        parts.extend(further.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        writeln!(out, "{}", parts.join(", "))?;
        if self.theirs > 0 {
            let verb = if removing { "removes" } else { "overwrites" };
            writeln!(
                out,
                "'kumon setup --dry-run' shows what was changed; --force {verb} it, --only STEP narrows that"
            )?;
        }
        if self.in_use > 0 {
            writeln!(
                out,
                "what is in use goes with the data streams that use it: delete those, then repeat this"
            )?;
        }
        Ok(())
    }

    /// Whether everything is there that could be, with the right privileges.
    pub(super) fn complete(&self) -> bool {
        self.rejected == 0 && !self.privilege_missing
    }
}

/// The requests that would be sent, as Kibana's Dev Tools take them, beside what is there now.
pub(super) fn dry_run(planned: &[Planned], out: &mut impl Write) -> Result<()> {
    for Planned { object, installed, record, verdict } in planned {
        let title = object.title();
        let put_there = record.as_ref().and_then(|record| record.installed.as_ref());
        let what = match verdict {
            Verdict::Create => format!("{title}: would be created"),
            Verdict::Change => format!("{title}: would be changed"),
            Verdict::Keep => format!("{title}: is there"),
            Verdict::KeepChanged => {
                format!("{title}: would be left, it was changed since setup put it there")
            }
            Verdict::KeepForeign => format!("{title}: would be left, setup did not put it there"),
            Verdict::KeepOthers(author) => format!("{title}: would be left, {}", of_another(author)),
            Verdict::KeepLonger => format!("{title}: would be left, {KEPT_LONGER}"),
            Verdict::Missing(skip) => format!("{title}: would be skipped, {skip}"),
        };
        writeln!(out, "# {what}")?;
        if let (Some(before), Some(after)) = (put_there, installed) {
            for line in differences(before, after) {
                writeln!(out, "#   since then {line}")?;
            }
        }
        if let (Verdict::KeepOthers(_) | Verdict::KeepLonger, Some(theirs)) = (verdict, installed) {
            for line in settings_that_differ(object, theirs) {
                writeln!(out, "#   by this configuration {line}")?;
            }
        }
        if matches!(verdict, Verdict::Create | Verdict::Change) {
            request(object, out)?;
        }
    }
    Ok(())
}

fn of_another(author: &Author) -> String {
    format!(
        "setup on node {} (KuMon {}) put another one there, by other settings than this configuration's",
        author.node, author.version
    )
}

/// Where this configuration sets something else. Of policies alone: they come back as they were sent, but for defaults.
fn settings_that_differ(object: &Object, theirs: &Value) -> Vec<String> {
    let mut lines = match object.kind {
        Kind::Policy => differences(theirs, &object.body["policy"]),
        _ => Vec::new(),
    };
    lines.retain(|line| !line.ends_with("→ nothing"));
    lines
}

/// What a PUT of the object sends. Kibana's are sent as a file, see [`file`].
pub(super) fn request(object: &Object, out: &mut impl Write) -> Result<()> {
    if object.kind.is_of_kibana() {
        return Ok(());
    }
    writeln!(out, "PUT {}\n{}\n", object.path, serde_json::to_string_pretty(&object.body)?)?;
    Ok(())
}

/// The file that Kibana imports: one object a line.
pub(super) fn file(objects: &[Object], out: &mut impl Write) -> Result<()> {
    for object in objects {
        writeln!(out, "{}", object.body)?;
    }
    Ok(())
}

fn count(number: usize, kind: Kind) -> String {
    let name = if number == 1 { kind.label().to_owned() } else { kind.plural() };
    format!("{number} {name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::{Kind, Object};
    use super::settings_that_differ;

    #[test]
    fn of_another_nodes_policy_only_what_this_one_sets_otherwise_is_shown() {
        let delete = json!({"min_age": "90d", "actions": {"delete": {}}});
        let ours = json!({"policy": {"phases": {"delete": delete}}});
        let object = Object::new(Kind::Policy, "kumon.exec".into(), ours);
        // As Elasticsearch gives it back: with its defaults.
        let delete = json!({"min_age": "30d", "actions": {"delete": {"delete_searchable_snapshot": true}}});
        let theirs = json!({"_meta": {"managed_by": "kumon"}, "phases": {"delete": delete}});
        assert_eq!(settings_that_differ(&object, &theirs), [r#"phases.delete.min_age: "30d" → "90d""#]);
    }
}
