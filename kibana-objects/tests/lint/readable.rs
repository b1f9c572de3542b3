//! Rules for what Kibana draws without complaint, and people can't read or misread.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::{decoded, objects};

/// Fields whose texts are longer than a column of usual width.
const WIDE: &[&str] = &["process.command_line", "kumon.dbslower.statement", "file.path"];

/// The language of a query bar that is empty is the one that people will type in: Lucene takes KQL, and finds nearly
/// everything.
pub(crate) fn query_bar(query: &Value, find: &mut impl FnMut(String)) {
    if query["query"] == "" && query["language"] != "kuery" {
        find("the empty query bar is not in KQL".into());
    }
}

/// Labels and formats of a data view.
pub(crate) fn data_view(view: &Value, objects: &[Value], find: &mut impl FnMut(String)) {
    let attributes = &view["attributes"];
    let labels = decoded(&attributes["fieldAttrs"]).unwrap_or_default();
    let formats = decoded(&attributes["fieldFormatMap"]).unwrap_or_default();
    let fields = objects::fields(view["id"].as_str().unwrap_or_default(), objects).unwrap_or_default();
    let mut fields: Vec<&String> = fields.iter().filter(|field| *field != "@timestamp").collect();
    fields.sort();
    for field in fields {
        if labels[field]["customLabel"].as_str().is_none_or(str::is_empty) {
            find(format!("the field {field} has no label"));
        }
        let format = &formats[field];
        match field.as_str() {
            "container.id" if format["params"]["fieldLength"] != 12 => {
                find(format!("{field} is not cut to 12"))
            }
            "kumon.exit.signal" | "kumon.exec.return_value" if format["id"] != "static_lookup" => {
                find(format!("{field} has numbers without names"));
            }
            _ => {}
        }
        if format["id"] == "duration" && format["params"]["outputPrecision"].as_u64() < Some(2) {
            find(format!("{field}: short times are written as 0.0 ms"));
        }
    }
}

/// How Discover shows a search's rows.
pub(crate) fn search(search: &Value, find: &mut impl FnMut(String)) {
    let attributes = &search["attributes"];
    let source = decoded(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]).unwrap_or_default();
    if source["query"]["language"] != "kuery" {
        find("its query bar is not in KQL".into());
    }
    if attributes["rowHeight"] != 1 {
        find("a row takes more than one line".into());
    }
    let columns = attributes["columns"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for column in columns.filter(|column| WIDE.contains(column)).chain(["@timestamp"]) {
        if attributes["grid"]["columns"][column]["width"].is_null() {
            find(format!("the column {column} has no width"));
        }
    }
}

/// A chart's columns and how it draws them.
pub(crate) fn chart(config: &Value, is_summary: bool, find: &mut impl FnMut(String)) {
    let attributes = &config["attributes"];
    let (state, kind) = (&attributes["state"], attributes["visualizationType"].as_str().unwrap_or_default());
    query_bar(&state["query"], find);
    let layer = &state["datasourceStates"]["formBased"]["layers"]["layer1"];
    let empty = Map::new();
    for (id, column) in layer["columns"].as_object().unwrap_or(&empty) {
        let find = &mut |what| find(format!("column {id}: {what}"));
        if is_summary && column["operationType"] == "date_histogram" && column["params"]["interval"] == "auto"
        {
            find("a step may be shorter than what a row covers".into());
        }
        self::column(column, find);
        let is_shown = state["visualization"]["metricAccessor"] == id.as_str();
        let is_zero =
            ["count", "unique_count", "sum"].contains(&column["operationType"].as_str().unwrap_or_default());
        if is_shown && is_zero && column["params"]["emptyAsNull"] != false {
            find("no rows are N/A instead of 0".into());
        }
    }
    let visualization = &state["visualization"];
    match kind {
        "lnsMetric" if config["hidePanelTitles"] != true => find("the tile has two titles".into()),
        "lnsDatatable" if visualization["sorting"].is_null() => find("the table has no order".into()),
        "lnsHeatmap" if visualization["palette"]["params"]["rangeType"] != "percent" => {
            find("the heat map's colours have no order".into());
        }
        "lnsXY" => {
            if visualization["axisTitlesVisibilitySettings"]["yLeft"] != false {
                find("the axis is named by the first of the series".into());
            }
            if is_summary
                && (visualization["fittingFunction"] != "Linear" || visualization["emphasizeFitting"] != true)
            {
                find("the line falls apart into dots".into());
            }
        }
        _ => {}
    }
}

fn column(column: &Value, find: &mut impl FnMut(String)) {
    let operation = column["operationType"].as_str().unwrap_or_default();
    let (params, format) = (&column["params"], &column["params"]["format"]);
    if !column["timeScale"].is_null() && !format["params"]["suffix"].is_null() {
        find("the rate is written per second twice".into());
    }
    if operation == "date_histogram" && params["dropPartials"] != true {
        find("the first and last step look like a drop".into());
    }
    let is_counted = ["count", "unique_count"].contains(&operation);
    if is_counted
        && column["timeScale"].is_null()
        && format["id"] == "number"
        && format["params"]["decimals"] != 0
    {
        find("a count has decimals".into());
    }
    if format["id"] == "duration" && format["params"]["decimals"].as_u64() < Some(2) {
        find("short times are written as 0.0 ms".into());
    }
    if operation == "terms" {
        let field = column["sourceField"].as_str().unwrap_or_default();
        if column["label"] == field {
            find(format!("{field} has no label"));
        }
        if numbered_labels().contains(field) {
            find(format!("{field} shows the numbers that sort its texts"));
        }
    }
}

fn numbered_labels() -> HashSet<&'static str> {
    let fields = kumon_schema::all().iter().flat_map(|schema| &schema.fields);
    fields.filter(|field| field.meaning.label_of.is_some()).map(|field| field.ecs.as_str()).collect()
}
