//! Rules for Lens charts: columns, formulas, fields.

use serde_json::{Map, Value};

use crate::objects;

const VISUALIZATIONS: &[&str] = &["lnsMetric", "lnsXY", "lnsDatatable", "lnsPie", "lnsHeatmap"];
const OPERATIONS: &[&str] = &[
    "count",
    "unique_count",
    "sum",
    "average",
    "min",
    "max",
    "median",
    "percentile",
    "date_histogram",
    "terms",
    "formula",
    "math",
    "normalize_by_unit",
];
const RECORDS: &str = "___records___";

/// Answers the names of the references that the chart needs in its dashboard.
pub(crate) fn lint(attributes: &Value, objects: &[Value], findings: &mut Vec<String>) -> Vec<String> {
    if !VISUALIZATIONS.contains(&attributes["visualizationType"].as_str().unwrap_or_default()) {
        findings.push(format!("an unknown visualization {}", attributes["visualizationType"]));
    }
    let state = &attributes["state"];
    for key in ["datasourceStates", "visualization", "query", "filters"] {
        if state[key].is_null() {
            findings.push(format!("state.{key} is missing"));
        }
    }
    let layer = &state["datasourceStates"]["formBased"]["layers"]["layer1"];
    let Some(columns) = layer["columns"].as_object() else {
        findings.push("there is no formBased layer layer1".into());
        return Vec::new();
    };
    let name = "indexpattern-datasource-layer-layer1";
    let references = attributes["references"].as_array().cloned().unwrap_or_default();
    let reference = references.iter().find(|reference| reference["name"] == name);
    let fields = reference.and_then(|view| objects::fields(view["id"].as_str()?, objects));
    let Some(fields) = fields else {
        findings.push("the layer has no data view".into());
        return vec![name.into()];
    };
    let mut ordered: Vec<&str> =
        layer["columnOrder"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ordered.sort_unstable();
    if ordered != columns.keys().map(String::as_str).collect::<Vec<_>>() {
        findings.push("columnOrder and columns differ".into());
    }
    let types = objects::field_types();
    for (id, column) in columns {
        let mut find = |what: String| findings.push(format!("column {id}: {what}"));
        if let Some(field) = column["sourceField"].as_str().filter(|field| *field != RECORDS) {
            if !fields.contains(field) {
                find(format!("the field {field} is in no schema of the data view"));
            } else {
                lint_type(column, types[field].as_str(), &mut find);
            }
        }
        lint_column(column, columns, &mut find);
    }
    for accessor in accessors(&state["visualization"]) {
        if !columns.contains_key(accessor) {
            findings.push(format!("the visualization shows {accessor}, which is no column"));
        }
    }
    vec![name.into()]
}

fn lint_column(column: &Value, columns: &Map<String, Value>, find: &mut impl FnMut(String)) {
    let operation = column["operationType"].as_str().unwrap_or_default();
    if !OPERATIONS.contains(&operation) {
        find(format!("an unknown operation '{operation}'"));
    }
    for key in ["label", "dataType", "isBucketed"] {
        if column[key].is_null() {
            find(format!("{key} is missing"));
        }
    }
    let references: Vec<&str> =
        column["references"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for missing in references.iter().filter(|id| !columns.contains_key(**id)) {
        find(format!("refers to the column {missing}, which is missing"));
    }
    if operation == "formula" {
        let last = references.first().and_then(|id| columns.get(*id));
        if last.is_none_or(|last| last["operationType"] != "math") {
            find("a formula without its math column".into());
        }
        if column["params"]["isFormulaBroken"] != false {
            find("a broken formula".into());
        }
    }
    if operation == "math" {
        let ast = &column["params"]["tinymathAst"];
        let arguments = ast["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if arguments.collect::<Vec<_>>() != references {
            find("the math column calculates with other columns than it refers to".into());
        }
    }
    let order = &column["params"]["orderBy"];
    if order["type"] == "column" && !order["columnId"].as_str().is_some_and(|id| columns.contains_key(id)) {
        find("is ordered by a column that is missing".into());
    }
    if order["type"] == "custom" && column["params"]["orderAgg"].is_null() {
        find("is ordered by an aggregation that is missing".into());
    }
}

/// Whether the column says of the field what Elasticsearch does, and whether the operation can be done with it.
fn lint_type(column: &Value, field: &str, find: &mut impl FnMut(String)) {
    let operation = column["operationType"].as_str().unwrap_or_default();
    let expected = match (operation, field) {
        ("terms", "long" | "double") => "number",
        ("terms", "keyword") => "string",
        ("terms", other) => other,
        ("date_histogram", _) | ("min" | "max", "date") => "date",
        _ => "number",
    };
    if column["dataType"] != expected {
        find(format!("dataType is {}, not {expected}", column["dataType"]));
    }
    let calculates = matches!(operation, "sum" | "average" | "min" | "max" | "median" | "percentile");
    let is_time = field == "date" && matches!(operation, "min" | "max");
    if calculates && !is_time && !matches!(field, "long" | "double") {
        find(format!("a {operation} of a {field}"));
    }
}

/// The columns that a visualization shows.
fn accessors(visualization: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    match visualization {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(id) if key.ends_with("Accessor") || key == "columnId" => {
                        found.push(id.as_str())
                    }
                    Value::Array(ids)
                        if ["accessors", "primaryGroups", "metrics"].contains(&key.as_str()) =>
                    {
                        found.extend(ids.iter().filter_map(Value::as_str));
                    }
                    value => found.extend(accessors(value)),
                }
            }
        }
        Value::Array(items) => found.extend(items.iter().flat_map(accessors)),
        _ => {}
    }
    found
}
