//! How long rows are kept: an ILM policy for each data stream.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::object::{Kind, Object};
use super::stream::streams;
use crate::config::Config;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// An index of a month is of a good size for summaries; and what it holds goes at once.
const LONGEST_INDEX: u64 = 30 * DAY;
/// So many indices share the time that rows are kept: those of the oldest are kept for one index's time longer.
const INDICES: u64 = 12;

/// The policies.
pub(super) fn objects(config: &Config) -> Result<Vec<Object>> {
    let policy = |stream: super::stream::Stream| {
        let name = stream.metric_or_dataset();
        let keep = config.retention.of(name, stream.kind);
        let never_shortens = config.retention.is_shorter_default(name, stream.kind);
        let policy = policy(keep)?;
        Ok(Object { never_shortens, ..Object::new(Kind::Policy, stream.dataset, policy) })
    };
    streams(config)?.into_iter().map(policy).collect()
}

/// Rows are deleted once the youngest row of their index is this old.
fn policy(keep: Duration) -> Result<Value> {
    let keep = keep.as_secs();
    let index = age((keep / INDICES).min(LONGEST_INDEX));
    let mut policy: Value = serde_json::from_str(include_str!("../../../elk/ilm/retention.json"))?;
    let phases = &mut policy["policy"]["phases"];
    phases["hot"]["actions"]["rollover"]["max_age"] = json!(index);
    phases["warm"]["min_age"] = json!(index);
    phases["delete"]["min_age"] = json!(age(keep));
    Ok(policy)
}

/// Whether a policy would delete rows sooner than the one that is there.
pub(super) fn shortens(policy: &Value, installed: &Value) -> bool {
    let kept = |policy: &Value| {
        let text = policy["phases"]["delete"]["min_age"].as_str()?;
        let (number, unit) = text.split_at(text.len() - 1);
        let number: u64 = number.parse().ok()?;
        Some(number * if unit == "d" { DAY } else { HOUR })
    };
    kept(&policy["policy"]).zip(kept(installed)).is_some_and(|(new, there)| new < there)
}

/// In whole days, or hours where it is less than one.
fn age(seconds: u64) -> String {
    if seconds >= DAY { format!("{}d", seconds / DAY) } else { format!("{}h", seconds / HOUR) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DAY, policy};

    #[test]
    fn an_index_is_written_merged_and_deleted_in_this_order() {
        for (days, index, delete) in
            [(1, "2h", "1d"), (7, "14h", "7d"), (90, "7d", "90d"), (1826, "30d", "1826d")]
        {
            let policy = policy(Duration::from_secs(days * DAY)).unwrap();
            let phases = &policy["policy"]["phases"];
            assert_eq!(phases["hot"]["actions"]["rollover"]["max_age"], index);
            assert_eq!(phases["warm"]["min_age"], index);
            assert_eq!(phases["delete"]["min_age"], delete);
        }
    }
}
