//! Lens panels, by value: the chart is part of its dashboard.

use serde_json::{Value, json};

use super::chart::{table, visualization};
use super::column::Columns;
use super::data_view;
use super::object::{self, Reference, SavedObjectType};
use super::search;
use crate::model::{Chart, ChartKind, Panel};

/// The only layer.
pub(super) const LAYER: &str = "layer1";

/// The panel's `embeddableConfig`, and what it refers to.
pub(super) fn render(panel: &Panel, chart: &Chart) -> (Value, Vec<Reference>) {
    let mut columns = Columns::of(chart);
    if chart.kind == ChartKind::Number {
        // A tile shows the column's label as its title.
        let only = columns.values[0].clone();
        columns.columns[&only]["label"] = panel.title.clone().into();
    }
    let query = search::query(&chart.metric, &chart.query);
    config(panel, data_view::id(&chart.metric), &query, visualization(panel, chart, &columns), &columns)
}

/// The same of a table of several metrics, whose rows that data view has.
pub(super) fn render_joined(panel: &Panel, parts: &[Chart], data_view: String) -> (Value, Vec<Reference>) {
    let columns = Columns::of_joined(parts);
    config(panel, data_view, &object::in_kql(""), ("lnsDatatable", table(&columns)), &columns)
}

fn config(
    panel: &Panel,
    data_view: String,
    query: &Value,
    (r#type, visualization): (&str, Value),
    columns: &Columns,
) -> (Value, Vec<Reference>) {
    let name = format!("indexpattern-datasource-layer-{LAYER}");
    let references = vec![Reference::new(SavedObjectType::DataView, data_view, name)];
    let state = json!({
        "adHocDataViews": {},
        "internalReferences": [],
        "filters": [],
        "query": query,
        "datasourceStates": {
            "formBased": {"layers": {LAYER: {
                "columnOrder": columns.order, "columns": columns.columns, "incompleteColumns": {}, "sampling": 1,
            }}},
            "textBased": {"layers": {}},
        },
        "visualization": visualization,
    });
    let attributes = json!({
        "title": panel.title,
        "description": "",
        "type": "lens",
        "visualizationType": r#type,
        "references": references.iter().map(Reference::to_json).collect::<Vec<_>>(),
        "state": state,
    });
    (json!({"attributes": attributes, "enhancements": {}}), references)
}
