//! What is remembered between evaluations: which groups fire, and who was told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::evaluate::{Evaluation, Group};

/// Milliseconds since the Unix epoch.
pub type Time = i64;

/// Of one alert, by group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertState {
    pub groups: BTreeMap<String, GroupState>,
    /// Somebody said that they know; until nothing fires any more.
    pub acknowledged: bool,
    /// Why the last evaluation failed; nothing fires or recovers by that.
    pub error: Option<String>,
}

/// Of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    pub labels: Vec<(String, String)>,
    /// Since when it fires; `None` once it has recovered.
    pub since: Option<Time>,
    /// The last value.
    pub value: f64,
    /// When it was last told that it fires.
    pub told: Option<Time>,
    /// Whether the present firing was told, so that its end has to be told too.
    pub announced: bool,
}

/// A group in a notification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub labels: Vec<(String, String)>,
    pub value: f64,
    pub since: Time,
}

/// What is to be told after an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub firing: Vec<Told>,
    pub recovered: Vec<Told>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.firing.is_empty() && self.recovered.is_empty()
    }
}

impl AlertState {
    /// Takes an evaluation in, and says what is to be told.
    pub fn update(&mut self, alert: &Alert, evaluation: &Evaluation, now: Time) -> Changes {
        self.error = None;
        let mut changes = Changes::default();
        let firing: BTreeMap<String, &Group> = evaluation.firing(alert).map(|g| (g.key(), g)).collect();
        for (key, group) in &firing {
            let state = self.groups.entry(key.clone()).or_insert_with(|| GroupState::new(group));
            state.value = group.value;
            let since = *state.since.get_or_insert(now);
            if !self.acknowledged && state.is_due(alert.throttle, now) {
                state.told = Some(now);
                state.announced = true;
                changes.firing.push(Told { labels: state.labels.clone(), value: state.value, since });
            }
        }
        for (key, state) in &mut self.groups {
            if firing.contains_key(key) {
                continue;
            }
            let (Some(since), announced) = (state.since.take(), std::mem::take(&mut state.announced)) else {
                continue;
            };
            if alert.recovery && announced {
                let seen = evaluation.groups.iter().find(|group| group.key() == *key);
                let value = seen.map_or(state.value, |group| group.value);
                changes.recovered.push(Told { labels: state.labels.clone(), value, since });
            }
        }
        self.groups.retain(|_, state| state.since.is_some() || !state.is_due(alert.throttle, now));
        self.acknowledged &= self.is_firing();
        changes
    }

    /// Whether any group fires.
    pub fn is_firing(&self) -> bool {
        self.groups.values().any(|group| group.since.is_some())
    }
}

impl GroupState {
    fn new(group: &Group) -> GroupState {
        GroupState {
            labels: group.labels.clone(),
            since: None,
            value: group.value,
            told: None,
            announced: false,
        }
    }

    /// Whether the throttle lets it be told now. A clock that was set back is no reason to be silent for longer.
    fn is_due(&self, throttle: Duration, now: Time) -> bool {
        self.told.is_none_or(|told| told > now || now - told >= throttle.as_millis() as Time)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{AlertState, Changes, Told};
    use crate::alert::Alert;
    use crate::evaluate::{Evaluation, Group};
    use crate::source::Draft;

    const MINUTE: i64 = 60_000;

    fn alert() -> Alert {
        let text = "title: a\nmetric: exec\naggregation: count\nthreshold: '> 5'\ngroup_by: [host.name]\nseverity: info\nthrottle: 10m\n";
        Draft::parse(Path::new("a.yml"), text).unwrap().check(&[]).unwrap()
    }

    fn values(values: &[(&str, f64)]) -> Evaluation {
        let group = |(host, value): &(&str, f64)| Group {
            labels: vec![("host.name".into(), host.to_string())],
            value: *value,
        };
        Evaluation { groups: values.iter().map(group).collect(), truncated: false }
    }

    /// The hosts that fire and those that recovered.
    fn hosts(changes: &Changes) -> (String, String) {
        let names = |told: &[Told]| told.iter().map(|told| &*told.labels[0].1).collect::<Vec<_>>().join(" ");
        (names(&changes.firing), names(&changes.recovered))
    }

    #[test]
    fn a_group_fires_once_is_repeated_after_the_throttle_and_recovers_once() {
        let (alert, mut state) = (alert(), AlertState::default());
        let mut at = |minute: i64, evaluation: &[(&str, f64)]| {
            let changes = state.update(&alert, &values(evaluation), minute * MINUTE);
            // What is remembered survives being written and read.
            state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            hosts(&changes)
        };
        let told = |firing: &str, recovered: &str| (firing.to_owned(), recovered.to_owned());
        assert_eq!(at(0, &[("a", 5.0), ("b", 6.0)]), told("b", ""));
        assert_eq!(at(1, &[("a", 6.0), ("b", 7.0)]), told("a", ""), "a new group isn't throttled by another");
        assert_eq!(at(9, &[("a", 6.0), ("b", 7.0)]), told("", ""));
        assert_eq!(at(10, &[("a", 6.0), ("b", 7.0)]), told("b", ""));
        assert_eq!(at(11, &[("a", 1.0)]), told("", "a b"));
        assert_eq!(at(12, &[]), told("", ""));
    }

    #[test]
    fn flapping_within_the_throttle_tells_nothing() {
        let (alert, mut state) = (alert(), AlertState::default());
        let mut count = |minute: i64, value: f64| {
            let changes = state.update(&alert, &values(&[("a", value)]), minute * MINUTE);
            (changes.firing.len(), changes.recovered.len())
        };
        assert_eq!(count(0, 9.0), (1, 0));
        assert_eq!(count(1, 0.0), (0, 1));
        assert_eq!((count(2, 9.0), count(3, 0.0)), ((0, 0), (0, 0)), "not told, so its end isn't either");
        assert_eq!(count(10, 9.0), (1, 0));
        assert!(state.is_firing());
    }

    #[test]
    fn an_acknowledged_alert_is_silent_until_all_of_it_has_recovered() {
        let (alert, mut state) = (alert(), AlertState::default());
        state.update(&alert, &values(&[("a", 9.0)]), 0);
        state.acknowledged = true;
        assert!(state.update(&alert, &values(&[("a", 9.0), ("b", 9.0)]), 20 * MINUTE).is_empty());
        let end = state.update(&alert, &values(&[]), 21 * MINUTE);
        assert_eq!(hosts(&end), (String::new(), "a".to_owned()), "what was told before is told to be over");
        assert!(!state.acknowledged);
        assert_eq!(state.update(&alert, &values(&[("b", 9.0)]), 22 * MINUTE).firing.len(), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing() {
        let (alert, mut state) = (alert(), AlertState::default());
        state.update(&alert, &values(&[("a", 9.0)]), 1_000 * MINUTE);
        assert_eq!(state.update(&alert, &values(&[("a", 9.0)]), 5 * MINUTE).firing.len(), 1);
    }
}
