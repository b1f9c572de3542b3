//! An alert's file: read, overlaid with the configuration's changes, checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kumon_query::{FieldKind, Fields, SearchError, did_you_mean, parse_query};
use serde::Deserialize;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use crate::alert::{Alert, Severity};
use crate::expression::{Aggregation, Threshold, known};

/// Longer windows would read more rows than an evaluation every minute should.
const MAX_WINDOW: Duration = Duration::from_secs(31 * 86_400);
const DEFAULT_WINDOW: Duration = Duration::from_secs(300);
const DEFAULT_THROTTLE: Duration = Duration::from_secs(1800);

/// Why an alert can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct AlertError {
    /// The file with line and column, or the configuration's key.
    pub place: String,
    pub message: String,
}

/// The keys of an alert's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    title: String,
    #[serde(default)]
    description: String,
    metric: Spanned<String>,
    query: Option<Spanned<String>>,
    aggregation: Spanned<String>,
    threshold: Spanned<String>,
    window: Option<Spanned<String>>,
    #[serde(default)]
    group_by: Vec<Spanned<String>>,
    severity: Severity,
    throttle: Option<Spanned<String>>,
    #[serde(default = "yes")]
    recovery: bool,
    channels: Option<Vec<String>>,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// What the configuration changes about an alert (`alerts.override.<name>`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    pub query: Option<String>,
    pub threshold: Option<String>,
    pub window: Option<String>,
    pub group_by: Option<Vec<String>>,
    pub severity: Option<Severity>,
    pub throttle: Option<String>,
    pub recovery: Option<bool>,
    pub channels: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// A text, and where it stands.
#[derive(Debug, Clone)]
struct Placed {
    text: String,
    place: String,
}

/// An alert whose expressions are not checked yet.
#[derive(Debug, Clone)]
pub struct Draft {
    name: String,
    source: Source,
    query: Placed,
    aggregation: Placed,
    threshold: Placed,
    window: Option<Placed>,
    group_by: Vec<Placed>,
    throttle: Option<Placed>,
    metric: Placed,
}

impl Draft {
    /// Reads an alert's file; its name without `.yml` is the alert's.
    ///
    /// # Errors
    /// With line and column.
    pub fn parse(file: &Path, text: &str) -> Result<Draft, AlertError> {
        let source: Source = serde_saphyr::from_str(text).map_err(|e| {
            let what = UserMessageFormatter.format_message(e.without_snippet()).into_owned();
            let place =
                e.location().map_or(String::new(), |l| format!(": line {} column {}", l.line(), l.column()));
            AlertError { place: format!("{}{place}", file.display()), message: what }
        })?;
        let placed = |spanned: &Spanned<String>| Placed {
            text: spanned.value.clone(),
            place: format!(
                "{}: line {} column {}",
                file.display(),
                spanned.referenced.line(),
                spanned.referenced.column()
            ),
        };
        let nothing = || Placed { text: String::new(), place: file.display().to_string() };
        Ok(Draft {
            name: name_of(file)?,
            query: source.query.as_ref().map_or_else(nothing, placed),
            aggregation: placed(&source.aggregation),
            threshold: placed(&source.threshold),
            window: source.window.as_ref().map(placed),
            group_by: source.group_by.iter().map(placed).collect(),
            throttle: source.throttle.as_ref().map(placed),
            metric: placed(&source.metric),
            source,
        })
    }

    /// Lets the configuration's changes prevail.
    pub fn overlay(&mut self, change: &Override) {
        let name = self.name.clone();
        let placed = |key: &str, text: &String| Placed {
            text: text.clone(),
            place: format!("the configuration, alerts.override.{name}.{key}"),
        };
        if let Some(query) = &change.query {
            self.query = placed("query", query);
        }
        if let Some(threshold) = &change.threshold {
            self.threshold = placed("threshold", threshold);
        }
        if let Some(window) = &change.window {
            self.window = Some(placed("window", window));
        }
        if let Some(fields) = &change.group_by {
            self.group_by = fields.iter().map(|field| placed("group_by", field)).collect();
        }
        if let Some(throttle) = &change.throttle {
            self.throttle = Some(placed("throttle", throttle));
        }
        self.source.severity = change.severity.unwrap_or(self.source.severity);
        self.source.recovery = change.recovery.unwrap_or(self.source.recovery);
        self.source.enabled = change.enabled.unwrap_or(self.source.enabled);
        if change.channels.is_some() {
            self.source.channels.clone_from(&change.channels);
        }
    }

    /// The alert, when all of it makes sense. `datasets` are those of foreign inputs, whose fields nobody knows.
    ///
    /// # Errors
    /// With the place and, for a misspelt name, the one that was probably meant.
    pub fn check(self, datasets: &[&str]) -> Result<Alert, AlertError> {
        let metric = self.metric.checked(|text| known_metric(text, datasets))?;
        let fields = Fields::of_metric(&metric);
        let query = self.query.checked(|text| {
            parse_query(text, &fields).map_err(|e| match e {
                SearchError::Query { column, message } => format!("column {column} of the query: {message}"),
                other => other.to_string(),
            })?;
            Ok(text.to_owned())
        })?;
        let aggregation = self.aggregation.checked(|text| Aggregation::parse(text, &fields))?;
        let unit = aggregation.unit(|field| unit_of(&metric, field));
        let threshold = self.threshold.checked(|text| Threshold::parse(text, &unit))?;
        let group_by = self.group_by.iter().map(|field| field.checked(|text| group_field(text, &fields)));
        let group_by = group_by.collect::<Result<_, _>>()?;
        Ok(Alert {
            window: self.window.map_or(Ok(DEFAULT_WINDOW), |window| window.checked(parse_window))?,
            throttle: self
                .throttle
                .map_or(Ok(DEFAULT_THROTTLE), |throttle| throttle.checked(parse_duration))?,
            name: self.name,
            title: self.source.title,
            description: self.source.description.trim().to_owned(),
            severity: self.source.severity,
            recovery: self.source.recovery,
            channels: self.source.channels,
            enabled: self.source.enabled,
            metric,
            query,
            aggregation,
            threshold,
            group_by,
            unit,
        })
    }
}

impl Placed {
    fn checked<T>(&self, check: impl FnOnce(&str) -> Result<T, String>) -> Result<T, AlertError> {
        check(&self.text).map_err(|message| AlertError { place: self.place.clone(), message })
    }
}

/// Names are parts of watches' ids, file names and commands.
fn name_of(file: &Path) -> Result<String, AlertError> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        let message =
            format!("'{name}' can't be an alert's name: lower-case letters, digits and '-' are allowed");
        return Err(AlertError { place: PathBuf::from(file).display().to_string(), message });
    }
    Ok(name)
}

fn known_metric(name: &str, datasets: &[&str]) -> Result<String, String> {
    if kumon_schema::builtin(name).is_some() || datasets.contains(&name) {
        return Ok(name.to_owned());
    }
    let known =
        || kumon_schema::all().iter().map(|schema| schema.name.as_str()).chain(datasets.iter().copied());
    let hint = did_you_mean(name, known())
        .unwrap_or_else(|| format!("there are {}", known().collect::<Vec<_>>().join(", ")));
    Err(format!("there is no metric '{name}'; {hint}"))
}

fn unit_of(metric: &str, field: &str) -> String {
    let fields = kumon_schema::builtin(metric).map(|schema| schema.fields.as_slice()).unwrap_or_default();
    fields.iter().find(|known| known.ecs == field).map(|known| known.unit.clone()).unwrap_or_default()
}

fn group_field(name: &str, fields: &Fields) -> Result<String, String> {
    match known(name, fields)? {
        FieldKind::Words => Err(format!("'{name}' has words, not values; group by the field without .text")),
        FieldKind::Date | FieldKind::Double => Err(format!("'{name}' has too many values to group by")),
        _ => Ok(name.to_owned()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("'{text}' is no duration such as 5m or 1h: {e}"))
}

fn parse_window(text: &str) -> Result<Duration, String> {
    let window = parse_duration(text)?;
    if window < Duration::from_secs(1) || window > MAX_WINDOW {
        return Err(format!("'{text}' is not between 1s and 31days"));
    }
    Ok(window)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Draft, Override};
    use crate::alert::{Alert, Severity};

    const GOOD: &str = "\
title: Disk latency
metric: biolatency
query: kumon.disk.operation:read
aggregation: avg(kumon.biolatency.p99)
threshold: '> 100ms'
window: 5m
group_by: [host.name, kumon.disk.name]
severity: warning
";

    fn check(text: &str) -> Result<Alert, String> {
        let draft = Draft::parse(Path::new("alerts/disk.yml"), text).map_err(|e| e.to_string())?;
        draft.check(&["app.events"]).map_err(|e| e.to_string())
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_column_and_what_was_meant() {
        assert_eq!(check(GOOD).unwrap().threshold.value, 100e6);
        for (right, wrong, expected) in [
            (
                "metric: biolatency",
                "metric: biolatencie",
                "disk.yml: line 2 column 9: there is no metric 'biolatencie'; did you mean 'biolatency'?",
            ),
            ("operation:read", "operatoin:read", "line 3 column 8: column 1 of the query: there is no field"),
            ("p99)", "p98)", "line 4 column 14: there is no field 'kumon.biolatency.p98'; did you mean"),
            ("'> 100ms'", "'> 5MiB'", "line 5 column 12: '5MiB' is a size, but the value is in ns"),
            ("window: 5m", "window: soon", "line 6 column 9: 'soon' is no duration"),
            ("window: 5m", "window: 0s", "line 6 column 9: '0s' is not between"),
            (
                "kumon.disk.name]",
                "kumon.disk.nam]",
                "line 7 column 23: there is no field 'kumon.disk.nam'; did you mean 'kumon.disk.name'?",
            ),
            ("severity: warning", "severity: bad", "line 8"),
            ("window: 5m", "windw: 5m", "line 6 column 1: unknown field `windw`"),
            ("metric: biolatency\n", "", "missing field `metric`"),
        ] {
            let message = check(&GOOD.replace(right, wrong)).unwrap_err();
            assert!(message.contains("disk.yml") && message.contains(expected), "{wrong}: {message}");
        }
    }

    #[test]
    fn the_configuration_prevails_and_its_mistakes_are_named_by_key() {
        let mut draft = Draft::parse(Path::new("disk.yml"), GOOD).unwrap();
        let change = Override {
            threshold: Some("> 1s".into()),
            severity: Some(Severity::Critical),
            enabled: Some(false),
            ..Override::default()
        };
        draft.overlay(&change);
        let alert = draft.clone().check(&[]).unwrap();
        assert_eq!((alert.threshold.value, alert.severity, alert.enabled), (1e9, Severity::Critical, false));
        draft.overlay(&Override { window: Some("x".into()), ..Override::default() });
        let message = draft.check(&[]).unwrap_err().to_string();
        assert!(
            message.starts_with("the configuration, alerts.override.disk.window: 'x' is no duration"),
            "{message}"
        );
    }

    #[test]
    fn rows_of_foreign_inputs_can_alert_too() {
        let text = "title: a\nmetric: app.events\nquery: level:error\naggregation: count\nthreshold: '> 5'\nseverity: info\n";
        assert_eq!(check(text).unwrap().metric, "app.events");
    }
}
