//! What people are told, before a channel gives it its form.

use chrono::{DateTime, SecondsFormat};
use kumon_schema::printable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::alert::{Alert, Severity};
use crate::state::{Changes, Time, Told};

/// Groups that a text names one by one.
const MAX_NAMED: usize = 20;

/// News of one alert. Its texts hold no control characters: a process may be called `a\r\nBcc: x`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub alert: String,
    pub title: String,
    pub severity: Severity,
    pub condition: String,
    pub description: String,
    /// The node that tells it.
    pub node: String,
    pub time: Time,
    /// Whether somebody only tries the channels.
    pub test: bool,
    pub firing: Vec<Line>,
    pub recovered: Vec<Line>,
}

/// A group, as people read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// `host.name=web1, kumon.disk.name=sda`; empty where the alert has no groups.
    pub group: String,
    /// In the column's unit.
    pub value: f64,
    /// `32.4ms`.
    pub text: String,
    pub since: Time,
}

impl Notification {
    /// News of `alert`, told by `node`.
    pub fn new(alert: &Alert, changes: &Changes, node: &str, time: Time) -> Notification {
        let lines = |told: &[Told]| told.iter().map(|told| Line::new(alert, told)).collect();
        Notification {
            alert: alert.name.clone(),
            title: printable(&alert.title),
            severity: alert.severity,
            condition: printable(&alert.condition()),
            description: printable(&alert.description),
            node: printable(node),
            time,
            test: false,
            firing: lines(&changes.firing),
            recovered: lines(&changes.recovered),
        }
    }

    /// What `kumon alerts test` sends.
    pub fn test(alert: &Alert, node: &str, time: Time) -> Notification {
        Notification { test: true, ..Notification::new(alert, &Changes::default(), node, time) }
    }

    fn headline(&self) -> String {
        let Notification { title, severity, .. } = self;
        if self.test {
            return format!("test: {title}");
        }
        let of = |lines: &[Line]| match lines {
            [] => String::new(),
            [Line { group, .. }] if group.is_empty() => String::new(),
            [one] => format!(" ({})", one.group),
            many => format!(" ({} groups)", many.len()),
        };
        match (self.firing.as_slice(), self.recovered.as_slice()) {
            ([], recovered) => format!("recovered: {title}{}", of(recovered)),
            (firing, _) => format!("{}: {title}{}", severity.name(), of(firing)),
        }
    }

    fn body(&self) -> String {
        let mut out = format!("{}\n", self.headline());
        if self.test {
            out += "This is a test of the channel; nothing is wrong.\n";
        }
        named(&mut out, &self.firing, "");
        named(&mut out, &self.recovered, "recovered: ");
        out += &format!("Condition: {}\n", self.condition);
        if !self.description.is_empty() {
            out += &format!("{}\n", self.description);
        }
        out + &format!("Alert {}, told by {} at {}\n", self.alert, self.node, time_text(self.time))
    }
}

fn named(out: &mut String, lines: &[Line], prefix: &str) {
    for line in lines.iter().take(MAX_NAMED) {
        let Line { group, text, since, .. } = line;
        let group = if group.is_empty() { String::new() } else { format!("{group}: ") };
        *out += &format!("- {prefix}{group}{text}, fires since {}\n", time_text(*since));
    }
    if lines.len() > MAX_NAMED {
        *out += &format!("- {prefix}and {} more\n", lines.len() - MAX_NAMED);
    }
}

impl Line {
    fn new(alert: &Alert, told: &Told) -> Line {
        let pairs = told.labels.iter().map(|(field, value)| format!("{field}={}", printable(value)));
        Line {
            group: pairs.collect::<Vec<_>>().join(", "),
            value: told.value,
            text: alert.value_text(told.value),
            since: told.since,
        }
    }
}

/// One message: usually of one alert, of several where a channel was away or at its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub notifications: &'a [Notification],
    /// Older news that found no room.
    pub omitted: u64,
}

impl Message<'_> {
    /// One line.
    pub(crate) fn subject(&self) -> String {
        match self.notifications {
            [one] => format!("[KuMon] {}", one.headline()),
            many => {
                let worst =
                    many.iter().filter(|news| !news.firing.is_empty()).map(|news| news.severity).max();
                let worst = worst.map_or("recovered", Severity::name);
                format!("[KuMon] {worst}: news of {} alerts", many.len())
            }
        }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let mut parts: Vec<String> = self.notifications.iter().map(Notification::body).collect();
        if self.omitted > 0 {
            parts.push(format!("{} older messages found no room and are left out.\n", self.omitted));
        }
        parts.join("\n")
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "source": "kumon",
            "subject": self.subject(),
            "text": self.text(),
            "omitted": self.omitted,
            "alerts": self.notifications.iter().map(as_json).collect::<Vec<_>>(),
        })
    }
}

fn as_json(news: &Notification) -> Value {
    let lines = |lines: &[Line]| -> Vec<Value> {
        let line = |line: &Line| json!({"group": line.group, "value": line.value, "text": line.text, "since": time_text(line.since)});
        lines.iter().map(line).collect()
    };
    json!({
        "alert": news.alert,
        "title": news.title,
        "severity": news.severity,
        "condition": news.condition,
        "description": news.description,
        "node": news.node,
        "time": time_text(news.time),
        "test": news.test,
        "firing": lines(&news.firing),
        "recovered": lines(&news.recovered),
    })
}

/// RFC 3339, UTC.
pub fn time_text(time: Time) -> String {
    let time = DateTime::from_timestamp_millis(time).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
