//! How long rows are kept in Elasticsearch.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kumon_schema::Kind;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ConfigError, valid_stream_part};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Single events are many.
const EVENTS: Duration = Duration::from_secs(90 * 24 * 3600);
/// What sums up some seconds; a second resolution is kept for longer.
const SUMMARIES: Duration = Duration::from_secs(30 * 24 * 3600);
/// What sums up 10 minutes is small. 5 years as [`humantime`] counts them, of 365.25 days.
const SUMMARIES_COARSE: Duration = Duration::from_secs(5 * 31_557_600);

/// One time for all rows, or a time by kind, metric and dataset of an input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Retention {
    events: Duration,
    /// None where the configuration doesn't say it.
    summaries: Option<Duration>,
    summaries_coarse: Duration,
    /// By metric, or dataset of an input.
    single: BTreeMap<String, Duration>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            events: EVENTS,
            summaries: None,
            summaries_coarse: SUMMARIES_COARSE,
            single: BTreeMap::new(),
        }
    }
}

impl Retention {
    /// Of a metric, or an input's dataset. A histogram is kept as long as the metric that it belongs to.
    pub(crate) fn of(&self, name: &str, kind: Kind) -> Duration {
        self.single(name).unwrap_or(match kind {
            Kind::Event => self.events,
            Kind::Summary if is_coarse(name) => self.summaries_coarse,
            Kind::Summary => self.summaries.unwrap_or(SUMMARIES),
        })
    }

    /// Whether [`Retention::of`] is a default that was longer in an earlier version.
    pub(crate) fn is_shorter_default(&self, name: &str, kind: Kind) -> bool {
        let is_fine = kind == Kind::Summary && !is_coarse(name);
        is_fine && self.summaries.is_none() && self.single(name).is_none()
    }

    fn single(&self, name: &str) -> Option<Duration> {
        let whole = kumon_schema::builtin(name).and_then(|schema| schema.histogram_of.as_ref());
        self.single.get(name).or_else(|| self.single.get(whole?)).copied()
    }

    /// A name that nothing has would keep nothing longer or shorter.
    pub(super) fn validate<'d>(
        &self,
        datasets: impl Iterator<Item = &'d str> + Clone,
    ) -> Result<(), ConfigError> {
        let is_known =
            |name: &str| kumon_schema::builtin(name).is_some() || datasets.clone().any(|d| d == name);
        match self.single.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => Err(ConfigError::Value {
                key: "retention".into(),
                what: format!("'{name}' is neither a metric nor the dataset of an input"),
            }),
        }
    }
}

fn is_coarse(metric: &str) -> bool {
    kumon_schema::builtin(metric).is_some_and(|schema| schema.coarse_of.is_some())
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Retention, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Retention;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as 90d or 5y, or a map of such")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Retention, E> {
        let all = time(text).map_err(E::custom)?;
        Ok(Retention { events: all, summaries: Some(all), summaries_coarse: all, single: BTreeMap::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Retention, A::Error> {
        let mut retention = Retention::default();
        while let Some(key) = map.next_key::<String>()? {
            if valid_stream_part(&key).is_err() {
                return Err(de::Error::custom(format!(
                    "unknown field `{key}`, expected `events`, `summaries`, `summaries_coarse`, a metric or the \
                     dataset of an input"
                )));
            }
            let value = time(&map.next_value::<String>()?).map_err(de::Error::custom)?;
            match key.as_str() {
                "events" => retention.events = value,
                "summaries" => retention.summaries = Some(value),
                "summaries_coarse" => retention.summaries_coarse = value,
                _ => drop(retention.single.insert(key, value)),
            }
        }
        Ok(retention)
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|e| format!("'{text}' is no time such as 90d, 6months or 5y: {e}"))?;
    if time < DAY { Err(format!("rows are kept for at least a day, not for '{text}'")) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kumon_schema::Kind;

    use super::{DAY, Retention};

    fn parse(text: &str) -> Result<Retention, String> {
        serde_saphyr::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn one_key_is_for_all_and_a_map_for_some() {
        let all = parse("5y").unwrap();
        assert_eq!(all.of("exec", Kind::Event), all.of("runqlat", Kind::Summary));
        assert_eq!(all.of("exec", Kind::Event), Duration::from_secs(157_788_000));
        let some = parse("{ events: 30d, runqlat: 1y, exec: 7d, app.events: 2d }").unwrap();
        for (name, kind, days) in [
            ("exit", Kind::Event, 30),
            ("exec", Kind::Event, 7),
            ("app.events", Kind::Event, 2),
            ("runqlat_hist", Kind::Summary, 365),
            // Named like a histogram, but none of KuMon's.
            ("app.events_hist", Kind::Event, 30),
            ("biolatency", Kind::Summary, 30),
            ("biolatency_10m", Kind::Summary, 1826),
            // Each resolution of its own.
            ("runqlat_10m", Kind::Summary, 1826),
        ] {
            assert_eq!(some.of(name, kind).as_secs() / DAY.as_secs(), days, "{name}");
        }
        let coarse = parse("{ summaries: 7d, summaries_coarse: 1y, disk_10m: 2y, runqlat_10m: 3y }").unwrap();
        for (name, days) in
            [("cpu", 7), ("cpu_10m", 365), ("disk", 7), ("disk_10m", 730), ("runqlat_hist_10m", 1095)]
        {
            assert_eq!(coarse.of(name, Kind::Summary).as_secs() / DAY.as_secs(), days, "{name}");
        }
        assert_eq!(parse("{}").unwrap(), Retention::default());
        assert!(
            some.is_shorter_default("cpu", Kind::Summary) && !coarse.is_shorter_default("cpu", Kind::Summary)
        );
        assert!(!some.is_shorter_default("runqlat", Kind::Summary), "it is said");
        assert!(!some.is_shorter_default("cpu_10m", Kind::Summary));
        for (text, expected) in [
            ("soon", "'soon' is no time"),
            ("6h", "at least a day"),
            ("{ Exec: 1d }", "expected `events`"),
            ("90", "a time such as 90d"),
            ("{ exec: 90 }", "90"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(some.validate(["app.events"].into_iter()).is_ok());
        let error = some.validate(std::iter::empty()).unwrap_err().to_string();
        assert!(error.contains("'app.events' is neither a metric"), "{error}");
    }
}
