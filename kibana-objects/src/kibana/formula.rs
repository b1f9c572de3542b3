//! Values that Lens calculates by a formula: quotients.
//!
//! A formula is a column with the formula's text, and one column each for its parts: the aggregations, and on top a
//! `math` column. Without those parts Kibana shows "(empty)".

use serde_json::{Value as Json, json};

use super::column::{aggregation, format, operation};
use super::search;
use crate::catalog::Metric;
use crate::model::{Chart, Operation, Per, Value};

/// The formula under its id, and its parts.
pub(super) fn columns(chart: &Chart, id: &str, value: &Value) -> Vec<(String, Json)> {
    let metric = &chart.metric;
    let part = |number: usize| format!("{id}X{number}");
    let text = text(metric, value);
    let mut parts = vec![operation(metric, value)];
    let arguments = match &value.per {
        Some(Per::Second) => {
            parts.push(json!({
                "dataType": "number", "operationType": "normalize_by_unit", "isBucketed": false,
                "scale": "ratio", "references": [part(0)], "params": {"unit": "s"},
            }));
            vec![json!(part(1)), json!(NANOSECONDS)]
        }
        per => {
            let divisor = match per {
                Some(Per::Field(field)) => aggregation(Operation::Sum, Some(field)),
                _ => aggregation(Operation::Count, None),
            };
            parts.push(divisor);
            vec![json!(part(0)), json!(part(1))]
        }
    };
    let references: Vec<&Json> = arguments.iter().filter(|argument| argument.is_string()).collect();
    parts.push(json!({
        "dataType": "number", "operationType": "math", "isBucketed": false, "scale": "ratio",
        "references": references,
        "params": {"tinymathAst": {
            "type": "function", "name": "divide", "args": arguments, "text": text,
            "location": {"min": 0, "max": text.len()},
        }},
    }));
    let formula = json!({
        "label": value.label, "customLabel": true, "dataType": "number", "operationType": "formula",
        "isBucketed": false, "scale": "ratio", "references": [part(parts.len() - 1)],
        "params": {"formula": text, "isFormulaBroken": false, "format": format(chart, value)},
    });
    let parts = parts.into_iter().enumerate().map(|(number, mut column)| {
        column["label"] = format!("Part of {}", value.label).into();
        column["customLabel"] = true.into();
        (part(number), column)
    });
    std::iter::once((id.to_owned(), formula)).chain(parts).collect()
}

/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

fn text(metric: &Metric, value: &Value) -> String {
    let dividend = call(value.operation, value.field.as_deref(), &search::in_formula(metric, &value.query));
    match &value.per {
        Some(Per::Second) if value.is_time_by_time() => {
            format!("normalize_by_unit({dividend}, unit='s') / {NANOSECONDS}")
        }
        Some(Per::Second) => format!("normalize_by_unit({dividend}, unit='s')"),
        Some(Per::Field(field)) => format!("{dividend} / {}", call(Operation::Sum, Some(field), "")),
        Some(Per::Row) => format!("{dividend} / {}", call(Operation::Count, None, "")),
        None => dividend,
    }
}

/// Only counts and sums have a divisor.
fn call(operation: Operation, field: Option<&str>, query: &str) -> String {
    let name = if operation == Operation::Count { "count" } else { "sum" };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    let field =
        field.map(|field| if field.chars().all(plain) { field.into() } else { format!("\"{field}\"") });
    let query = (!query.is_empty()).then(|| format!("lucene='{}'", query.replace('\'', "\\'")));
    format!("{name}({})", Vec::from_iter(field.into_iter().chain(query)).join(", "))
}
