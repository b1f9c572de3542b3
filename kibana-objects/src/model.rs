//! What a dashboard is, whoever shows it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::Metric;
use crate::layout::Place;

/// A page of panels.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Its file's name without the extension; lower-case words joined by hyphens. Links name it so.
    pub name: String,
    pub title: String,
    pub description: String,
    /// The drop-downs.
    pub controls: Vec<Control>,
    /// In the order of the file.
    pub panels: Vec<Panel>,
}

impl Dashboard {
    /// The drop-downs that leave a panel alone, since its rows don't have the field; none where it shows no rows.
    pub fn foreign_controls(&self, panel: &Panel) -> Vec<&Control> {
        let has_rows = !panel.content.metrics().is_empty();
        self.controls.iter().filter(|control| has_rows && !panel.can_filter(&control.field)).collect()
    }

    /// The metrics that have a drop-down's field, of those that the dashboard shows; each once.
    pub(crate) fn metrics_of(&self, control: &Control) -> Vec<&Metric> {
        let mut metrics: Vec<&Metric> = Vec::new();
        for metric in self.panels.iter().flat_map(|panel| panel.content.metrics()) {
            let is_known = metrics.iter().any(|known| known.name == metric.name);
            if metric.has_values(&control.field) && !is_known {
                metrics.push(metric);
            }
        }
        metrics
    }
}

impl Control {
    /// What a panel shows that it leaves alone: `all processes`.
    pub fn without(&self) -> String {
        let label = self.label.to_lowercase();
        let ending = if label.ends_with('s') { "es" } else { "s" };
        format!("all {label}{ending}")
    }
}

/// A drop-down that narrows the dashboard to values of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    pub field: String,
    /// What people call it.
    pub label: String,
}

/// One panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Unique within its dashboard: the title in lower-case words joined by hyphens.
    pub id: String,
    pub title: String,
    pub place: Place,
    pub content: Content,
}

/// What a panel shows.
#[derive(Debug, Clone)]
pub enum Content {
    /// Markdown.
    Text(String),
    /// Ways to other dashboards.
    Links(Vec<Link>),
    Chart(Chart),
    /// A table of several metrics, one part each, joined where the values of the same breakdown are the same.
    Joined(Vec<Chart>),
    /// The newest rows as they are.
    Rows(Rows),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The name of the dashboard it leads to.
    pub dashboard: String,
    pub label: String,
}

/// Numbers drawn from the rows of one metric.
#[derive(Debug, Clone)]
pub struct Chart {
    pub kind: ChartKind,
    pub metric: Arc<Metric>,
    /// Only rows that match; empty for all.
    pub query: String,
    /// One at least.
    pub values: Vec<Value>,
    /// What runs along the chart; without meaning for numbers, tables and pies.
    pub over: Over,
    /// The fields that the values are told apart by, from outside to inside.
    pub breakdown: Vec<String>,
    /// How many values of a breakdown are shown: those with the largest first value.
    pub top: usize,
}

/// The raw rows of one metric.
#[derive(Debug, Clone)]
pub struct Rows {
    pub metric: Arc<Metric>,
    pub query: String,
    /// Fields; the time comes before them.
    pub columns: Vec<String>,
    /// Whether it is the metric's usual view: no query, columns by default.
    pub usual: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChartKind {
    Number,
    Line,
    Bar,
    Area,
    HeatMap,
    Table,
    Pie,
}

/// What runs along a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    Time,
    /// The values of a field.
    Field(String),
}

/// A number that is calculated from rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub label: String,
    pub operation: Operation,
    /// Of `count` there is none.
    pub field: Option<String>,
    /// What the number is divided by.
    pub per: Option<Per>,
    /// Only rows that match as well; the divisor is not narrowed by it.
    pub query: String,
    pub unit: Unit,
    /// From where on the number is bad news, and red.
    pub red_from: Option<f64>,
}

/// How rows become a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Number of rows.
    Count,
    /// Number of different values.
    Distinct,
    Sum,
    Average,
    Min,
    Max,
    Median,
    P90,
    P99,
}

/// A divisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Per {
    /// The length of each step of the time axis.
    Second,
    /// The number of rows.
    Row,
    /// The sum of a field: a mean is `sum` of the sums per the sum of the counts.
    Field(String),
}

/// What a number measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Count,
    Nanoseconds,
    Bytes,
    PerSecond,
    BytesPerSecond,
    /// 1 is 100 %.
    Fraction,
    /// How many did it at a time, such as threads that waited: time of all of them by the time that passed.
    AtATime,
    /// A point in time, ms since the Unix epoch.
    Time,
}

impl Value {
    /// Whether time is divided by time, both in the same unit.
    pub(crate) fn is_time_by_time(&self) -> bool {
        self.per == Some(Per::Second) && matches!(self.unit, Unit::Fraction | Unit::AtATime)
    }
}

impl Operation {
    /// The percentile, where it is one.
    pub(crate) fn percentile(self) -> Option<u32> {
        match self {
            Operation::Median => Some(50),
            Operation::P90 => Some(90),
            Operation::P99 => Some(99),
            _ => None,
        }
    }
}

impl Operation {
    /// Whether it is 0 of no rows, and not unknown.
    pub(crate) fn is_zero_without_rows(self) -> bool {
        matches!(self, Operation::Count | Operation::Distinct | Operation::Sum)
    }
}

impl Panel {
    /// The same panel of the rows by 10 minutes; none where it would show something else: rows as they are, or their number.
    pub fn by_10_minutes(&self) -> Option<Panel> {
        let Content::Chart(chart) = &self.content else { return None };
        let counts_rows = |value: &Value| value.operation == Operation::Count || value.per == Some(Per::Row);
        if chart.values.iter().any(counts_rows) {
            return None;
        }
        let metric = chart.metric.coarse.clone()?;
        Some(Panel { content: Content::Chart(Chart { metric, ..chart.clone() }), ..self.clone() })
    }
}

impl Content {
    /// The metrics whose rows are shown.
    pub fn metrics(&self) -> Vec<&Metric> {
        match self {
            Content::Chart(chart) => vec![&chart.metric],
            Content::Joined(parts) => parts.iter().map(|part| &*part.metric).collect(),
            Content::Rows(rows) => vec![&rows.metric],
            Content::Text(_) | Content::Links(_) => Vec::new(),
        }
    }
}

impl Chart {
    /// Whether values stand over time.
    pub fn is_over_time(&self) -> bool {
        use ChartKind::{Area, Bar, HeatMap, Line};
        self.over == Over::Time && matches!(self.kind, Line | Bar | Area | HeatMap)
    }
}
