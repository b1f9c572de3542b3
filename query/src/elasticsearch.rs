//! Rendering to Elasticsearch's Query DSL.

use std::ops::Bound;

use serde_json::{Map, Value as Json, json};

use crate::condition::{Condition, Term, Value};
use crate::{Fields, SearchError, SearchRequest, full_condition, parse_query};

/// Elasticsearch's `index.max_result_window`: who wants more pages through with `search_after`.
const PAGE: usize = 10_000;

/// The body of a `_search` over the metric's stream: the query, newest first, at most one page of hits.
///
/// # Errors
/// [`SearchError::Query`] when the query can't be understood.
pub fn to_elasticsearch(request: &SearchRequest, fields: &Fields) -> Result<Json, SearchError> {
    let mut body = json!({
        "query": {"bool": {"filter": [render(&full_condition(request, fields)?)]}},
        "sort": [{"@timestamp": {"order": "desc"}}],
        "size": request.limit.unwrap_or(PAGE).min(PAGE),
        "track_total_hits": true,
    });
    if let Some(aggs) = &request.aggs {
        let mut aggs = aggs.clone();
        render_filters(&mut aggs, fields)?;
        body["aggs"] = aggs;
    }
    Ok(body)
}

/// The `query_string` of a `filter` aggregation is a query as everywhere, not Lucene's.
fn render_filters(aggs: &mut Json, fields: &Fields) -> Result<(), SearchError> {
    for aggregation in aggs.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let query = aggregation["filter"]["query_string"]["query"].as_str();
        if let Some(condition) = query.map(|query| parse_query(query, fields)).transpose()? {
            aggregation["filter"] = render(&condition);
        }
        for name in ["aggs", "aggregations"] {
            aggregation.get_mut(name).map_or(Ok(()), |nested| render_filters(nested, fields))?;
        }
    }
    Ok(())
}

fn render(condition: &Condition) -> Json {
    match condition {
        Condition::All => json!({"match_all": {}}),
        Condition::None => json!({"match_none": {}}),
        Condition::And(all) => json!({"bool": {"filter": all.iter().map(render).collect::<Vec<_>>()}}),
        Condition::Or(any) => {
            json!({"bool": {"should": any.iter().map(render).collect::<Vec<_>>(), "minimum_should_match": 1}})
        }
        Condition::Not(not) => json!({"bool": {"must_not": [render(not)]}}),
        Condition::Exists(field) => json!({"exists": {"field": field}}),
        Condition::Equals { field, value } => json!({"term": {field: {"value": plain(value)}}}),
        Condition::Phrase { field, words } => json!({"match_phrase": {field: words.join(" ")}}),
        Condition::Wildcard { field, pattern } => {
            json!({"wildcard": {field: {"value": pattern.to_string()}}})
        }
        Condition::Range { field, lower, upper } => range(field, lower, upper),
        // `lenient`: a text that can't be a value of the field's type is not in it.
        Condition::Foreign { field, text } => json!({"match": {field: {"query": text, "lenient": true}}}),
        Condition::Anywhere(Term::Text(text)) => {
            json!({"multi_match": {"query": text, "type": "phrase", "fields": ["*"], "lenient": true}})
        }
        Condition::Anywhere(Term::Wildcard(pattern)) => {
            json!({"query_string": {"query": escape(&pattern.to_string()), "fields": ["*"], "lenient": true}})
        }
    }
}

fn range(field: &str, lower: &Bound<Value>, upper: &Bound<Value>) -> Json {
    let mut bounds = Map::new();
    for (bound, included, excluded) in [(lower, "gte", "gt"), (upper, "lte", "lt")] {
        match bound {
            Bound::Included(value) => bounds.insert(included.into(), plain(value)),
            Bound::Excluded(value) => bounds.insert(excluded.into(), plain(value)),
            Bound::Unbounded => continue,
        };
        if let Bound::Included(Value::Date(_)) | Bound::Excluded(Value::Date(_)) = bound {
            bounds.insert("format".into(), "epoch_millis".into());
        }
    }
    json!({"range": {field: bounds}})
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Keyword(text) => json!(text),
        Value::Long(whole) => json!(whole),
        Value::Double(number) => json!(number),
        Value::Boolean(truth) => json!(truth),
        Value::Date(milliseconds) => json!(milliseconds),
        Value::Ip(address) => json!(address),
    }
}

/// A wildcard pattern for `query_string`, in which more characters are special.
fn escape(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
            }
            '*' | '?' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => out.extend(['\\', c]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::to_elasticsearch;
    use crate::{Fields, SearchRequest};

    fn query(query: &str) -> serde_json::Value {
        let request = SearchRequest {
            metric: "exec".into(),
            query: query.into(),
            since: None,
            until: None,
            limit: Some(5),
            aggs: None,
        };
        let body = to_elasticsearch(&request, &Fields::of_metric("exec")).unwrap();
        body["query"]["bool"]["filter"][0].clone()
    }

    #[test]
    fn each_kind_of_field_has_its_query() {
        assert_eq!(query(""), json!({"match_all": {}}));
        assert_eq!(query("process.name:bash"), json!({"term": {"process.name": {"value": "bash"}}}));
        assert_eq!(query("process.pid:>5"), json!({"range": {"process.pid": {"gt": 5}}}));
        assert_eq!(query("process.name:ba*"), json!({"wildcard": {"process.name": {"value": "ba*"}}}));
        assert_eq!(query("process.name:*"), json!({"exists": {"field": "process.name"}}));
        assert_eq!(
            query("process.command_line.text:\"/bin/LS -l\""),
            json!({"match_phrase": {"process.command_line.text": "bin ls l"}})
        );
        assert_eq!(
            query("@timestamp:[1970-01-01 TO 1970-01-02}"),
            json!({"range": {"@timestamp": {"gte": 0, "lt": 86_400_000, "format": "epoch_millis"}}})
        );
    }

    #[test]
    fn the_time_range_is_part_of_the_query() {
        let request = SearchRequest {
            metric: "exec".into(),
            query: String::new(),
            since: Some(1_500_000),
            until: Some(2_500_000),
            limit: None,
            aggs: Some(json!({"a": {"avg": {"field": "process.pid"}}})),
        };
        let body = to_elasticsearch(&request, &Fields::of_metric("exec")).unwrap();
        let range = &body["query"]["bool"]["filter"][0]["bool"]["filter"][0];
        assert_eq!(*range, json!({"range": {"@timestamp": {"gte": 1, "lt": 3, "format": "epoch_millis"}}}));
        assert_eq!(body["aggs"]["a"]["avg"]["field"], "process.pid");
        assert_eq!(body["size"], 10_000);
    }
}
