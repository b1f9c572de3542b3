//! The aggregation `filter`: `{"filter": {"query_string": {"query": "…"}}}`, with a query as everywhere.

use kumon_query::{Fields, parse_query};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tantivy::TantivyError;
use tantivy::aggregation::bucket::QueryBuilder;
use tantivy::query::Query;
use tantivy::schema::Schema;
use tantivy::tokenizer::TokenizerManager;

use crate::query::Rendering;

/// The query of a filter, as tantivy wants it: made for each index from a text.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct QueryFilter {
    query: String,
    metric: String,
}

#[typetag::serde]
impl QueryBuilder for QueryFilter {
    fn build_query(&self, schema: &Schema, _: &TokenizerManager) -> tantivy::Result<Box<dyn Query>> {
        let fields = Fields::of_metric(&self.metric);
        let condition = parse_query(&self.query, &fields)
            .map_err(|error| TantivyError::InvalidArgument(error.to_string()))?;
        Rendering { schema, foreign: fields.is_open() }.render(&condition)
    }

    fn box_clone(&self) -> Box<dyn QueryBuilder> {
        Box::new(self.clone())
    }
}

/// Makes the body of a `filter` one that tantivy reads.
pub(crate) fn prepare(body: &mut Map<String, Value>, metric: &str, fields: &Fields) -> Result<(), String> {
    let query = body.get("query_string").and_then(|filter| filter["query"].as_str());
    let query = query.ok_or(r#"the embedded store filters by {"query_string": {"query": "…"}} only"#)?;
    parse_query(query, fields).map_err(|error| error.to_string())?;
    let filter = json!({"type": "QueryFilter", "query": query, "metric": metric});
    if let Value::Object(filter) = filter {
        *body = filter;
    }
    Ok(())
}
