//! The metrics of summaries by 10 minutes: each summary has one, whose schema follows from its own.

use serde_json::{Value, json};

/// The text of the schema of the rows by 10 minutes; none of a metric that has no such rows: single events, what has no
/// interval, and summaries that say so.
pub(crate) fn of(text: &str) -> serde_json::Result<Option<String>> {
    let mut schema: Value = serde_json::from_str(text)?;
    let Some(fields) = schema["fields"].as_array_mut() else { return Ok(None) };
    if !fields.iter().any(|field| field["ecs"] == "kumon.interval") {
        return Ok(None);
    }
    fields.retain(|field| !is_for_kibana_alone(field));
    fields.iter_mut().for_each(column);
    if schema["kind"] != "summary" || schema["hasCoarse"] == false {
        return Ok(None);
    }
    let fine = schema["name"].as_str().unwrap_or_default().to_owned();
    schema["name"] = coarse(&fine).into();
    schema["title"] = format!("{} (10 minutes)", schema["title"].as_str().unwrap_or_default()).into();
    let description = format!("The rows of `{fine}`, summed up by 10 minutes, which are kept for longer.");
    schema["description"] = description.into();
    schema["interval"] = 600.into();
    if let Some(whole) = schema["histogramOf"].as_str() {
        schema["histogramOf"] = coarse(whole).into();
    }
    schema["coarseOf"] = fine.into();
    schema.as_object_mut().map(|schema| schema.remove("top"));
    serde_json::to_string_pretty(&schema).map(Some)
}

fn coarse(metric: &str) -> String {
    format!("{metric}_10m")
}

/// Kibana's own views look at all of `metrics-*` and take what calls itself a row of Elastic's system module: they would count
/// everything twice.
fn is_for_kibana_alone(field: &Value) -> bool {
    let one_value = field["constraints"]["enum"].as_array().is_some_and(|values| values.len() == 1);
    one_value || field["ecs"].as_str().is_some_and(|ecs| ecs.starts_with("metricset."))
}

fn column(field: &mut Value) {
    let is_percentile =
        field["statistic"]["function"].as_str().is_some_and(|function| function.starts_with('p'));
    if field["ecs"] == "kumon.interval" {
        field["description"] = json!("How much of the 10 minutes the rows cover that are summed up here");
    }
    let Some(field) = field.as_object_mut() else { return };
    field.remove("coarse");
    // It comes from the histogram's rows.
    if is_percentile && let Some(constraints) = field.get_mut("constraints").and_then(Value::as_object_mut) {
        constraints.remove("required");
    }
}
