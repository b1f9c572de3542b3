//! How Lens draws its columns.

use kumon_schema::Kind;
use serde_json::{Value, json};

use super::column::{Columns, TIME};
use super::lens::LAYER;
use super::search;
use crate::model::{Chart, ChartKind, Panel};

/// The name of the visualization, and its state.
pub(super) fn visualization(panel: &Panel, chart: &Chart, columns: &Columns) -> (&'static str, Value) {
    let first = &columns.values[0];
    match chart.kind {
        ChartKind::Number => ("lnsMetric", number(panel, chart, first)),
        ChartKind::Line => ("lnsXY", xy(chart, columns, "line")),
        ChartKind::Area => ("lnsXY", xy(chart, columns, "area_stacked")),
        ChartKind::Bar if chart.is_over_time() => ("lnsXY", xy(chart, columns, "bar_stacked")),
        // Names stand better beside their bars than below them.
        ChartKind::Bar => ("lnsXY", xy(chart, columns, "bar_horizontal_stacked")),
        ChartKind::HeatMap => ("lnsHeatmap", heat_map(columns)),
        ChartKind::Table => ("lnsDatatable", table(columns)),
        ChartKind::Pie => {
            let layer = json!({
                "layerId": LAYER, "layerType": "data", "primaryGroups": columns.by, "metrics": [first],
                "numberDisplay": "percent", "categoryDisplay": "default", "legendDisplay": "default",
                "nestedLegend": false,
            });
            ("lnsPie", json!({"shape": "donut", "layers": [layer]}))
        }
    }
}

/// A table, the largest of the first value first.
pub(super) fn table(columns: &Columns) -> Value {
    let ids = columns.by.iter().chain(&columns.values);
    json!({
        "layerId": LAYER, "layerType": "data",
        "columns": ids.map(|id| table_column(columns, id)).collect::<Vec<_>>(),
        "paging": {"size": 10, "enabled": true},
        "sorting": {"columnId": columns.values[0], "direction": "desc"},
        "rowHeight": "single",
    })
}

fn xy(chart: &Chart, columns: &Columns, series: &str) -> Value {
    let (x, split) = if chart.is_over_time() {
        (TIME, columns.by.first())
    } else {
        (columns.by[0].as_str(), columns.by.get(1))
    };
    let mut layer = json!({
        "layerId": LAYER, "layerType": "data", "seriesType": series, "position": "top", "showGridlines": false,
        "xAccessor": x, "accessors": columns.values,
    });
    if let Some(split) = split {
        layer["splitAccessor"] = split.as_str().into();
    }
    json!({
        "preferredSeriesType": series,
        "legend": {
            "isVisible": split.is_some() || columns.values.len() > 1, "position": "right", "legendSize": "medium",
            "shouldTruncate": true,
        },
        "valueLabels": "hide",
        "fittingFunction": fitting(chart),
        "emphasizeFitting": true,
        // They would name the first of the series only.
        "axisTitlesVisibilitySettings": {"x": false, "yLeft": false, "yRight": false},
        "tickLabelsVisibilitySettings": {"x": true, "yLeft": true, "yRight": true},
        "gridlinesVisibilitySettings": {"x": true, "yLeft": true, "yRight": true},
        "labelsOrientation": {"x": 0, "yLeft": 0, "yRight": 0},
        "layers": [layer],
    })
}

/// What is drawn where a step has no rows. Summaries come once an interval, so that a step between two rows was like them;
/// no event is none.
fn fitting(chart: &Chart) -> &'static str {
    match chart.metric.kind {
        Kind::Summary => "Linear",
        Kind::Event => "None",
    }
}

/// A tile, which has the panel's title within, and below it what the number is.
fn number(panel: &Panel, chart: &Chart, accessor: &str) -> Value {
    let value = &chart.values[0];
    let mut state = json!({"layerId": LAYER, "layerType": "data", "metricAccessor": accessor});
    if value.label.to_lowercase() != panel.title.to_lowercase() {
        state["subtitle"] = value.label.clone().into();
    }
    if let Some(red_from) = value.red_from {
        state["palette"] = red(red_from);
    }
    state
}

/// Green below a number, red from it on.
fn red(from: f64) -> Value {
    palette("number", &["#209280", "#cc5642"], &[from], from + 1.0)
}

/// Percent of the largest value. Most cells are a small part of it: there the steps are closer.
fn heat() -> Value {
    let colors = ["#e8f1fa", "#c2dcf2", "#86b9e0", "#4a90c9", "#1f6cab", "#0b3f73"];
    palette("percent", &colors, &[0.5, 2.0, 8.0, 25.0, 60.0], 100.0)
}

/// Colours, one more than the bounds between them; the last one goes on beyond its end.
fn palette(range: &str, colors: &[&str], bounds: &[f64], end: f64) -> Value {
    let begins = std::iter::once(Value::Null).chain(bounds.iter().map(|bound| json!(bound)));
    let ends = bounds.iter().copied().chain([end]).map(|end| json!(end));
    let stops = |stops: &mut dyn Iterator<Item = Value>| -> Vec<Value> {
        colors.iter().zip(stops).map(|(color, stop)| json!({"color": color, "stop": stop})).collect()
    };
    json!({"type": "palette", "name": "custom", "params": {
        "name": "custom", "rangeType": range, "rangeMin": null, "rangeMax": null, "continuity": "all",
        "progression": "fixed", "reverse": false, "steps": colors.len(), "maxSteps": colors.len().max(5),
        "colorStops": stops(&mut begins.into_iter()), "stops": stops(&mut ends.into_iter()),
    }})
}

fn table_column(columns: &Columns, id: &str) -> Value {
    match columns.columns[id]["sourceField"].as_str().and_then(search::wide) {
        Some(width) => json!({"columnId": id, "width": width}),
        None => json!({"columnId": id}),
    }
}

fn heat_map(columns: &Columns) -> Value {
    json!({
        "shape": "heatmap",
        "layerId": LAYER,
        "layerType": "data",
        "xAccessor": TIME,
        "yAccessor": columns.by[0],
        "valueAccessor": columns.values[0],
        "palette": heat(),
        "legend": {"isVisible": true, "position": "right", "type": "heatmap_legend"},
        "gridConfig": {
            "type": "heatmap_grid", "isCellLabelVisible": false, "isYAxisLabelVisible": true,
            "isXAxisLabelVisible": true, "isYAxisTitleVisible": false, "isXAxisTitleVisible": false,
        },
    })
}
