//! The form of a dashboard's file.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::model::Operation;

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

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValueSource {
    pub(crate) operation: Spanned<Operation>,
    pub(crate) field: Option<Spanned<String>>,
    /// `second`, `row`, or a field.
    pub(crate) per: Option<Spanned<String>>,
    pub(crate) query: Option<Spanned<String>>,
    pub(crate) label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Number,
    Line,
    Bar,
    Area,
    HeatMap,
    Table,
    Pie,
    Rows,
    Markdown,
    Links,
}

impl Kind {
    /// As the file writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Line => "line",
            Kind::Bar => "bar",
            Kind::Area => "area",
            Kind::HeatMap => "heat_map",
            Kind::Table => "table",
            Kind::Pie => "pie",
            Kind::Rows => "rows",
            Kind::Markdown => "markdown",
            Kind::Links => "links",
        }
    }
}
