//! Aggregations, in Elasticsearch's JSON.

use kumon_query::{FieldKind, Fields, SearchError};
use serde_json::{Map, Value};
use tantivy::Index;
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::aggregation::intermediate_agg_result::IntermediateAggregationResults;
use tantivy::aggregation::{AggContextParams, AggregationLimitsGuard, DistributedAggregationCollector};

use crate::filter;
use crate::layout::{FOREIGN, TIMESTAMP};
use crate::like_elasticsearch;

/// Elasticsearch's `search.max_buckets`.
const MOST_BUCKETS: u32 = 65_536;

/// An agent is to stay small: a question that needs more than this is refused.
const MEMORY: u64 = 64_000_000;

/// Aggregations that tantivy answers in nanoseconds or not at all when their field is a date.
const NOT_OF_DATES: &[&str] =
    &["terms", "range", "histogram", "percentiles", "stats", "extended_stats", "sum"];

/// Aggregations that calculate; of a text tantivy would answer nothing instead of an error.
const OF_NUMBERS: &[&str] = &[
    "avg",
    "min",
    "max",
    "sum",
    "stats",
    "extended_stats",
    "percentiles",
    "histogram",
    "date_histogram",
    "range",
];

/// The aggregations of one request.
pub(crate) struct Aggregating<'a> {
    asked: Value,
    request: Aggregations,
    fields: &'a Fields,
}

impl Aggregating<'_> {
    pub(crate) fn new<'a>(
        aggs: &Value,
        metric: &str,
        fields: &'a Fields,
    ) -> Result<Aggregating<'a>, SearchError> {
        let mut asked = aggs.clone();
        use_one_name(&mut asked);
        let mut aggs = asked.clone();
        prepare(&mut aggs, metric, fields).map_err(refused)?;
        let request = serde_json::from_value(aggs).map_err(|e| refused(e.to_string()))?;
        Ok(Aggregating { asked, request, fields })
    }

    /// Gathers one index's part of the answer.
    pub(crate) fn collector(&self, index: &Index) -> DistributedAggregationCollector {
        let context = AggContextParams::new(limits(), index.tokenizers().clone());
        DistributedAggregationCollector::from_aggs(self.request.clone(), context)
    }

    /// The answer from all the parts.
    pub(crate) fn finish(self, parts: Vec<IntermediateAggregationResults>) -> Result<Value, SearchError> {
        let mut parts = parts.into_iter();
        let mut merged = parts.next().unwrap_or_default();
        for part in parts {
            merged.merge_fruits(part).map_err(|e| refused(e.to_string()))?;
        }
        let answer = merged.into_final_result(self.request, limits()).map_err(|e| refused(e.to_string()))?;
        let mut answer = serde_json::to_value(answer).map_err(|e| refused(e.to_string()))?;
        like_elasticsearch::rewrite(&self.asked, &mut answer, self.fields);
        Ok(answer)
    }
}

fn limits() -> AggregationLimitsGuard {
    AggregationLimitsGuard::new(Some(MEMORY), Some(MOST_BUCKETS))
}

fn refused(message: String) -> SearchError {
    SearchError::Aggregations { message }
}

/// Elasticsearch takes `aggregations` for `aggs`.
fn use_one_name(aggs: &mut Value) {
    for aggregation in aggs.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(aggregation) = aggregation.as_object_mut() {
            if let Some(nested) = aggregation.remove("aggregations") {
                aggregation.insert("aggs".into(), nested);
            }
            aggregation.get_mut("aggs").into_iter().for_each(use_one_name);
        }
    }
}

/// Checks the fields' names (tantivy would answer as if a wrong one were merely empty), and finds foreign fields
/// where the store keeps them.
fn prepare(aggs: &mut Value, metric: &str, fields: &Fields) -> Result<(), String> {
    let aggs = aggs.as_object_mut().ok_or("aggregations are an object of named aggregations")?;
    for (name, aggregation) in aggs {
        let aggregation = aggregation
            .as_object_mut()
            .ok_or_else(|| format!("the aggregation '{name}' is not an object"))?;
        for (kind, body) in aggregation {
            match body {
                nested if kind == "aggs" => prepare(nested, metric, fields)?,
                Value::Object(body) if kind == "filter" => {
                    filter::prepare(body, metric, fields)
                        .map_err(|message| format!("'{name}': {message}"))?;
                }
                Value::Object(body) => {
                    like_elasticsearch::fix_interval(body);
                    prepare_field(kind, body, fields).map_err(|message| format!("'{name}': {message}"))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn prepare_field(kind: &str, body: &mut Map<String, Value>, fields: &Fields) -> Result<(), String> {
    let Some(Value::String(field)) = body.get_mut("field") else { return Ok(()) };
    match fields.kind(field) {
        None => Err(match fields.did_you_mean(field) {
            Some(hint) => format!("there is no field '{field}'; {hint}"),
            None => format!("there is no field '{field}'"),
        }),
        Some(FieldKind::Words) => Err(format!("'{field}' has words, not values")),
        Some(FieldKind::Date) if NOT_OF_DATES.contains(&kind) => {
            Err(format!("the embedded store has no {kind} of a date; use date_histogram, min, max or avg"))
        }
        Some(known @ (FieldKind::Keyword | FieldKind::Ip)) if OF_NUMBERS.contains(&kind) => {
            Err(format!("there is no {kind} of '{field}', which is a {}", known.name()))
        }
        Some(_) => {
            if fields.is_open() && field != TIMESTAMP {
                *field = format!("{FOREIGN}.{field}");
            }
            Ok(())
        }
    }
}
