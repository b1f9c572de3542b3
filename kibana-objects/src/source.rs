//! The form of a dashboard's file.

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use crate::model::{ChartKind, Operation};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DashboardSource {
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) controls: Vec<Spanned<String>>,
    pub(crate) panels: Vec<PanelSource>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PanelSource {
    pub(crate) title: Spanned<String>,
    pub(crate) kind: Spanned<Kind>,
    pub(crate) metric: Option<Spanned<String>>,
    pub(crate) query: Option<Spanned<String>>,
    pub(crate) values: Option<Spanned<Vec<ValueSource>>>,
    pub(crate) over: Option<Spanned<String>>,
    pub(crate) breakdown: Option<Spanned<Vec<Spanned<String>>>>,
    pub(crate) top: Option<Spanned<usize>>,
    pub(crate) columns: Option<Spanned<Vec<Spanned<String>>>>,
    pub(crate) text: Option<Spanned<String>>,
    pub(crate) links: Option<Spanned<Vec<Spanned<String>>>>,
    pub(crate) width: Option<Spanned<u32>>,
    pub(crate) height: Option<Spanned<u32>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValueSource {
    /// Of a table of several metrics.
    pub(crate) metric: Option<Spanned<String>>,
    pub(crate) operation: Spanned<Operation>,
    pub(crate) field: Option<Spanned<String>>,
    /// `second`, `row`, or a field.
    pub(crate) per: Option<Spanned<String>>,
    pub(crate) query: Option<Spanned<String>>,
    pub(crate) label: Option<String>,
    pub(crate) unit: Option<Spanned<UnitSource>>,
    pub(crate) red_from: Option<Spanned<f64>>,
}

/// A unit that doesn't follow from the field's.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UnitSource {
    /// Of a time per second: how many spent it at a time.
    AtATime,
}

/// What a panel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chart(ChartKind),
    Rows,
    Markdown,
    Links,
}

/// As the file writes them.
const KINDS: [(&str, Kind); 10] = [
    ("number", Kind::Chart(ChartKind::Number)),
    ("line", Kind::Chart(ChartKind::Line)),
    ("bar", Kind::Chart(ChartKind::Bar)),
    ("area", Kind::Chart(ChartKind::Area)),
    ("heat_map", Kind::Chart(ChartKind::HeatMap)),
    ("table", Kind::Chart(ChartKind::Table)),
    ("pie", Kind::Chart(ChartKind::Pie)),
    ("rows", Kind::Rows),
    ("markdown", Kind::Markdown),
    ("links", Kind::Links),
];

impl Kind {
    /// As the file writes it.
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        let name = String::deserialize(deserializer)?;
        let kind = KINDS.into_iter().find(|(known, _)| *known == name);
        kind.map(|(_, kind)| kind).ok_or_else(|| {
            let known = KINDS.map(|(name, _)| name).join(", ");
            de::Error::custom(format!("unknown variant `{name}`, expected one of {known}"))
        })
    }
}
