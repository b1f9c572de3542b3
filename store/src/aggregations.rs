//! Aggregations, in Elasticsearch's JSON.

use kumon_query::{FieldKind, Fields, SearchError};
use serde_json::{Map, Value};
use tantivy::Index;
use tantivy::aggregation::agg_req::Aggregations;
use tantivy::aggregation::intermediate_agg_result::IntermediateAggregationResults;
use tantivy::aggregation::{AggContextParams, AggregationLimitsGuard, DistributedAggregationCollector};

use crate::layout::{FOREIGN, TIMESTAMP};

/// Elasticsearch's `search.max_buckets`.
const MOST_BUCKETS: u32 = 65_536;

/// An agent is to stay small: a question that needs more than this is refused.
const MEMORY: u64 = 64_000_000;

/// The aggregations of one request.
pub(crate) struct Aggregating {
    request: Aggregations,
}

impl Aggregating {
    pub(crate) fn new(aggs: &Value, fields: &Fields) -> Result<Aggregating, SearchError> {
        let mut aggs = aggs.clone();
        prepare(&mut aggs, fields).map_err(refused)?;
        let request = serde_json::from_value(aggs).map_err(|e| refused(e.to_string()))?;
        Ok(Aggregating { request })
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
        serde_json::to_value(answer).map_err(|e| refused(e.to_string()))
    }
}

fn limits() -> AggregationLimitsGuard {
    AggregationLimitsGuard::new(Some(MEMORY), Some(MOST_BUCKETS))
}

fn refused(message: String) -> SearchError {
    SearchError::Aggregations { message }
}

/// Checks the fields' names (tantivy would answer as if a wrong one were merely empty), and finds foreign fields
/// where the store keeps them.
fn prepare(aggs: &mut Value, fields: &Fields) -> Result<(), String> {
    let aggs = aggs.as_object_mut().ok_or("aggregations are an object of named aggregations")?;
    for (name, aggregation) in aggs {
        let aggregation = aggregation
            .as_object_mut()
            .ok_or_else(|| format!("the aggregation '{name}' is not an object"))?;
        if let Some(nested) = aggregation.remove("aggregations") {
            aggregation.insert("aggs".into(), nested);
        }
        for (kind, body) in aggregation {
            match (kind.as_str(), body) {
                ("aggs", nested) => prepare(nested, fields)?,
                (_, Value::Object(body)) => prepare_field(name, body, fields)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn prepare_field(name: &str, body: &mut Map<String, Value>, fields: &Fields) -> Result<(), String> {
    let Some(Value::String(field)) = body.get_mut("field") else { return Ok(()) };
    match fields.kind(field) {
        None => Err(match fields.nearest(field) {
            Some(near) => format!("'{name}': there is no field '{field}'; did you mean '{near}'?"),
            None => format!("'{name}': there is no field '{field}'"),
        }),
        Some(FieldKind::Words) => Err(format!("'{name}': '{field}' has words, not values")),
        Some(_) => {
            if fields.is_open() && field != TIMESTAMP {
                *field = format!("{FOREIGN}.{field}");
            }
            Ok(())
        }
    }
}
