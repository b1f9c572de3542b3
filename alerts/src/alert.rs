//! What an alert is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::expression::{Aggregation, Threshold};

/// A condition on the rows of one metric, and what is to happen when it holds. Made by [`crate::Draft::check`].
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Names it on the command line and in the configuration: `disk-latency`.
    pub name: String,
    /// A few words for messages.
    pub title: String,
    /// What it means and what to look at.
    pub description: String,
    /// The metric, or the dataset of a foreign input.
    pub metric: String,
    /// Which of its rows, in the grammar of `kumon query`.
    pub query: String,
    pub aggregation: Aggregation,
    pub threshold: Threshold,
    /// The rows of so long a time before the evaluation are looked at.
    pub window: Duration,
    /// Each combination of these fields' values fires for itself; empty for one value over all rows.
    pub group_by: Vec<String>,
    pub severity: Severity,
    /// What goes on firing is told again after so long.
    pub throttle: Duration,
    /// Whether the end is told too.
    pub recovery: bool,
    /// Through which channels; `None` for all that are configured.
    pub channels: Option<Vec<String>>,
    pub enabled: bool,
    /// Of the aggregated value: `ns`, `bytes`, or another word for messages.
    pub unit: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    /// As it is written in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Alert {
    /// The condition in words: `avg(kumon.runqlat.p99) > 20ms over 5m`.
    pub fn condition(&self) -> String {
        format!("{} {} over {}", self.aggregation, self.threshold, humantime::format_duration(self.window))
    }

    /// A value as people read it, by its unit.
    pub fn value_text(&self, value: f64) -> String {
        crate::quantity::text(value, &self.unit)
    }
}
