//! How Lens draws its columns.

use serde_json::{Value, json};

use super::column::{Columns, TIME};
use super::lens::LAYER;
use crate::model::{Chart, ChartKind};

/// The name of the visualization, and its state.
pub(super) fn visualization(chart: &Chart, columns: &Columns) -> (&'static str, Value) {
    let first = &columns.values[0];
    match chart.kind {
        ChartKind::Number => {
            ("lnsMetric", json!({"layerId": LAYER, "layerType": "data", "metricAccessor": first}))
        }
        ChartKind::Line => ("lnsXY", xy(chart, columns, "line")),
        ChartKind::Area => ("lnsXY", xy(chart, columns, "area_stacked")),
        ChartKind::Bar if chart.is_over_time() => ("lnsXY", xy(chart, columns, "bar_stacked")),
        // Names stand better beside their bars than below them.
        ChartKind::Bar => ("lnsXY", xy(chart, columns, "bar_horizontal_stacked")),
        ChartKind::HeatMap => ("lnsHeatmap", heat_map(columns)),
        ChartKind::Table => {
            let ids = columns.by.iter().chain(&columns.values);
            let state = json!({
                "layerId": LAYER, "layerType": "data",
                "columns": ids.map(|id| json!({"columnId": id})).collect::<Vec<_>>(),
                "paging": {"size": 10, "enabled": true},
            });
            ("lnsDatatable", state)
        }
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
        "legend": {"isVisible": split.is_some() || columns.values.len() > 1, "position": "right"},
        "valueLabels": "hide",
        "fittingFunction": "None",
        "axisTitlesVisibilitySettings": {"x": false, "yLeft": true, "yRight": true},
        "tickLabelsVisibilitySettings": {"x": true, "yLeft": true, "yRight": true},
        "gridlinesVisibilitySettings": {"x": true, "yLeft": true, "yRight": true},
        "labelsOrientation": {"x": 0, "yLeft": 0, "yRight": 0},
        "layers": [layer],
    })
}

fn heat_map(columns: &Columns) -> Value {
    json!({
        "shape": "heatmap",
        "layerId": LAYER,
        "layerType": "data",
        "xAccessor": TIME,
        "yAccessor": columns.by[0],
        "valueAccessor": columns.values[0],
        "legend": {"isVisible": true, "position": "right", "type": "heatmap_legend"},
        "gridConfig": {
            "type": "heatmap_grid", "isCellLabelVisible": false, "isYAxisLabelVisible": true,
            "isXAxisLabelVisible": true, "isYAxisTitleVisible": false, "isXAxisTitleVisible": false,
        },
    })
}
