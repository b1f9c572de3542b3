//! Saved searches: what Discover opens.

use std::sync::Arc;

use kumon_query::{Condition, parse_query};
use serde_json::{Map, Value, json};

use super::data_view;
use super::kql::kql;
use super::lucene::lucene;
use super::object::{Reference, SavedObject, SavedObjectType, in_kql, in_lucene, search_source};
use crate::catalog::Metric;
use crate::check::usual_columns;
use crate::model::{Content, Dashboard, Rows};
use crate::resolve::id_of;

const INDEX: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";

/// The usual search of a metric.
pub(super) fn of_metric(metric: &Arc<Metric>) -> SavedObject {
    let rows =
        Rows { metric: metric.clone(), query: String::new(), columns: usual_columns(metric), usual: true };
    let title = format!("[KuMon] {}: {}", metric.name, metric.title);
    search(id_of_metric(metric), &title, &rows)
}

/// The searches of those panels that show something else than the usual.
pub(super) fn of_panels(dashboard: &Dashboard) -> Vec<SavedObject> {
    let searches = dashboard.panels.iter().filter_map(|panel| match &panel.content {
        Content::Rows(rows) if !rows.usual => {
            let title = format!("[KuMon] {}: {}", dashboard.title, panel.title);
            Some(search(id_of_panel(dashboard, &panel.id), &title, rows))
        }
        _ => None,
    });
    searches.collect()
}

/// The search that a panel of raw rows shows.
pub(super) fn id(dashboard: &Dashboard, panel: &str, rows: &Rows) -> String {
    if rows.usual { id_of_metric(&rows.metric) } else { id_of_panel(dashboard, panel) }
}

/// The search for all rows of a metric.
pub(crate) fn id_of_metric(metric: &Metric) -> String {
    format!("kumon-search-{}", id_of(&metric.name))
}

fn id_of_panel(dashboard: &Dashboard, panel: &str) -> String {
    format!("kumon-search-{}-{panel}", dashboard.name)
}

fn search(id: String, title: &str, rows: &Rows) -> SavedObject {
    let query = query(&rows.metric, &rows.query);
    SavedObject {
        r#type: SavedObjectType::Search,
        id,
        attributes: json!({
            "title": title,
            "description": "",
            "columns": rows.columns,
            "sort": [["@timestamp", "desc"]],
            "grid": {"columns": widths(&rows.columns)},
            "rowHeight": 1,
            "rowsPerPage": 50,
            "hideChart": false,
            "isTextBasedQuery": false,
            "timeRestore": false,
            "kibanaSavedObjectMeta": search_source(&query, Some(INDEX)),
        }),
        references: vec![
            Reference::new(SavedObjectType::DataView, data_view::id(&rows.metric), INDEX),
            Reference::to_tag(),
        ],
    }
}

/// Fields with long texts, and how wide they are in pixels.
const WIDE: &[(&str, u32)] = &[
    ("process.command_line", 620),
    ("kumon.dbslower.statement", 700),
    ("file.path", 560),
    ("kumon.filegone.new_path", 380),
    ("process.executable", 260),
];
/// Of the time with its milliseconds.
const TIME_WIDTH: u32 = 235;
/// Of the others beside a long text, which would get no more room than they do.
const NARROW: u32 = 110;

/// How wide a field with long texts is, in pixels.
pub(super) fn wide(field: &str) -> Option<u32> {
    WIDE.iter().find_map(|(wide, width)| (*wide == field).then_some(*width))
}

fn widths(columns: &[String]) -> Value {
    let has_wide = columns.iter().any(|column| wide(column).is_some());
    let narrow = has_wide.then_some(NARROW);
    let widths = columns.iter().filter_map(|column| Some((column.as_str(), wide(column).or(narrow)?)));
    let widths = std::iter::once(("@timestamp", TIME_WIDTH)).chain(widths);
    widths.map(|(column, width)| (column.to_owned(), json!({"width": width}))).collect::<Map<_, _>>().into()
}

/// A query of the model: in KQL where that can say it, as this is what people go on typing in the bar.
pub(super) fn query(metric: &Metric, text: &str) -> Value {
    let condition = condition(metric, text);
    kql(&condition).map_or_else(|| in_lucene(&lucene(&condition)), |query| in_kql(&query))
}

/// A query of the model for a formula, in Lucene's language.
pub(super) fn in_formula(metric: &Metric, text: &str) -> String {
    if text.is_empty() { String::new() } else { lucene(&condition(metric, text)) }
}

/// The query for a metric's rows among those of others. KQL takes no wildcard in the name of an index.
pub(super) fn query_of_one(metric: &Metric, text: &str) -> Value {
    let streams = format!("_index:*{}", metric.pattern);
    let query = in_formula(metric, text);
    in_lucene(&if query.is_empty() { streams } else { format!("{streams} AND ({query})") })
}

fn condition(metric: &Metric, text: &str) -> Condition {
    // Whoever reads a dashboard's file has understood its queries; one that isn't understood finds nothing.
    parse_query(text, &metric.fields).unwrap_or(Condition::None)
}
