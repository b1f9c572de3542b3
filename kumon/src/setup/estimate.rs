//! How much disk the rows will take: bytes a row as measured, times rows a day, times the days that they are kept.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use kumon_shipper::elasticsearch::{Client, Method};
use serde::Deserialize;
use serde_json::json;

use crate::commands::Table;
use crate::config::Config;

const DAY: f64 = 24.0 * 3600.0;
/// Less says little about a day.
const SHORTEST: f64 = 3600.0;

/// `elk/ilm/row_sizes.json`.
#[derive(Deserialize)]
struct Measured {
    /// In an Elasticsearch 9.4.3, merged; `bench/row_sizes` measures it.
    bytes_per_row: BTreeMap<String, f64>,
    /// Assumed, of one node: docs/elasticsearch.md says by what.
    rows_per_day: BTreeMap<String, f64>,
}

/// Rows a day, by metric, and where that is known from.
pub(super) struct Rates {
    rows_per_day: BTreeMap<String, f64>,
    source: String,
}

impl Rates {
    /// Of a node nobody knows yet.
    pub(super) fn assumed() -> Result<Rates> {
        let source = "of one node, at rates assumed in docs/elasticsearch.md".into();
        Ok(Rates { rows_per_day: measured()?.rows_per_day, source })
    }

    /// Of all nodes that ship to the cluster, by the rows of the last day; assumed where there are too few of them.
    pub(super) fn counted(client: &Client) -> Result<Rates> {
        let search = json!({
            "size": 0,
            "query": {"range": {"@timestamp": {"gte": "now-1d"}}},
            "aggs": {
                "since": {"min": {"field": "@timestamp"}},
                "indices": {"terms": {"field": "_index", "size": 1000}},
                "nodes": {"cardinality": {"field": "host.id"}},
            },
        });
        let streams = "logs-kumon.*,metrics-kumon.*/_search?ignore_unavailable=true&allow_no_indices=true";
        let answer = client.request(Method::POST, streams, Some(&search))?;
        if answer.status == 403 {
            return Rates::assumed();
        }
        let answer = client.ok(answer)?.json();
        let since = answer["aggregations"]["since"]["value"].as_f64();
        let since = since.and_then(|ms| DateTime::from_timestamp_millis(ms as i64));
        let seconds = since.map_or(0.0, |since| (Utc::now() - since).as_seconds_f64());
        if seconds < SHORTEST {
            return Rates::assumed();
        }
        let mut rows_per_day = BTreeMap::new();
        for bucket in answer["aggregations"]["indices"]["buckets"].as_array().into_iter().flatten() {
            let metric = bucket["key"].as_str().and_then(metric);
            if let (Some(metric), Some(rows)) = (metric, bucket["doc_count"].as_f64()) {
                *rows_per_day.entry(metric.to_owned()).or_default() += rows / seconds * DAY;
            }
        }
        let nodes = &answer["aggregations"]["nodes"]["value"];
        let source = format!(
            "of {nodes} node(s), at the rate of the last {:.0} hours in this cluster",
            seconds / 3600.0
        );
        Ok(Rates { rows_per_day, source })
    }
}

/// Says what the retention of the configuration comes to.
pub(super) fn print(config: &Config, rates: &Rates, prefix: &str, out: &mut impl Write) -> Result<()> {
    let measured = measured()?;
    let mut table = Table::new(&["metric", "kept", "rows a day", "bytes a row", "disk"]);
    let mut sum = 0.0;
    for schema in kumon_schema::all() {
        let rows = rates.rows_per_day.get(&schema.name).copied().unwrap_or_default();
        let Some(bytes) = measured.bytes_per_row.get(&schema.name).filter(|_| rows > 0.0) else { continue };
        let days = config.retention.of(&schema.name, schema.kind).as_secs_f64() / DAY;
        let disk = rows * bytes * days;
        sum += disk;
        let cells = [format!("{days:.0}d"), format!("{rows:.0}"), format!("{bytes:.0}"), size(disk)];
        table.row(std::iter::once(schema.name.clone()).chain(cells));
    }
    writeln!(
        out,
        "{prefix}disk for the rows {}: {} in the end, times the number of copies",
        rates.source,
        size(sum)
    )?;
    for line in table.to_string().lines() {
        writeln!(out, "{prefix}  {line}")?;
    }
    Ok(())
}

fn measured() -> Result<Measured> {
    Ok(serde_json::from_str(include_str!("../../../elk/ilm/row_sizes.json"))?)
}

/// `exec` of the backing index `.ds-logs-kumon.exec-default-2026.11.21-000001`.
fn metric(index: &str) -> Option<&str> {
    index.trim_start_matches(".ds-").split('-').nth(1)?.strip_prefix("kumon.")
}

fn size(bytes: f64) -> String {
    ByteSize(bytes as u64).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::{measured, metric};

    #[test]
    fn every_metric_is_measured_and_found_in_its_index_name() {
        let measured = measured().unwrap();
        for schema in kumon_schema::all() {
            assert!(
                measured.bytes_per_row.contains_key(&schema.name),
                "{}: run bench/row_sizes",
                schema.name
            );
            assert!(measured.rows_per_day.contains_key(&schema.name), "{}", schema.name);
        }
        assert_eq!(metric(".ds-metrics-kumon.runqlat_hist-prod-2026.11.21-000007"), Some("runqlat_hist"));
        assert_eq!(metric(".ds-logs-app.events-default-2026.11.21-000001"), None);
    }
}
