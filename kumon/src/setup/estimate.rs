//! How much disk the rows will take: bytes a row as measured or estimated, times rows a day, times the days that they
//! are kept.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use kumon_schema::{FieldType, Schema};
use kumon_shipper::elasticsearch::{Client, Method};
use serde::Deserialize;
use serde_json::json;

use crate::commands::Table;
use crate::config::Config;

const DAY: f64 = 24.0 * 3600.0;
/// Less says little about a day.
const SHORTEST: f64 = 3600.0;
/// Where nobody said how many a metric has: one a second.
const ROWS_PER_DAY: f64 = DAY;
/// Of 10 s in 10 minutes, in each of which a key has a row.
const INTERVALS: f64 = 60.0;
/// Before a number that was not measured.
const ESTIMATED: &str = "~";

/// `elk/ilm/row_sizes.json`.
#[derive(Deserialize)]
struct Measured {
    /// In an Elasticsearch 9.4.3, merged; `bench/row_sizes` measures it. A metric that isn't there is estimated.
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
        let known = measured()?.rows_per_day;
        let rows = |schema: &Schema| {
            let of_fine = || Some(known.get(schema.coarse_of.as_ref()?)? / INTERVALS);
            known.get(&schema.name).copied().or_else(of_fine).unwrap_or(ROWS_PER_DAY)
        };
        let rows_per_day = kumon_schema::all().iter().map(|schema| (schema.name.clone(), rows(schema)));
        Ok(Rates { rows_per_day: rows_per_day.collect(), source })
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
    print_with(&measured()?, config, rates, prefix, out)
}

fn print_with(
    measured: &Measured,
    config: &Config,
    rates: &Rates,
    prefix: &str,
    out: &mut impl Write,
) -> Result<()> {
    let mut table = Table::new(&["metric", "kept", "rows a day", "bytes a row", "disk"]);
    let (mut sum, mut any_estimated) = (0.0, false);
    for schema in kumon_schema::all() {
        let rows = rates.rows_per_day.get(&schema.name).copied().unwrap_or_default();
        if rows <= 0.0 {
            continue;
        }
        let (bytes, mark) = measured.bytes(schema);
        any_estimated |= !mark.is_empty();
        let days = config.retention.of(&schema.name, schema.kind).as_secs_f64() / DAY;
        let disk = rows * bytes * days;
        sum += disk;
        let [bytes, disk] = [format!("{bytes:.0}"), size(disk)].map(|number| format!("{mark}{number}"));
        table.row([schema.name.clone(), format!("{days:.0}d"), format!("{rows:.0}"), bytes, disk]);
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
    if any_estimated {
        writeln!(
            out,
            "{prefix}  {ESTIMATED} is an estimate by the types of the metric's columns, or by its finer rows; bench/row_sizes \
             measures it"
        )?;
    }
    Ok(())
}

impl Measured {
    /// Bytes of a row, and the mark of what was not measured. A row by 10 minutes has the columns of those that it sums up.
    fn bytes(&self, schema: &Schema) -> (f64, &'static str) {
        let known = |metric: &String| self.bytes_per_row.get(metric).copied();
        match known(&schema.name) {
            Some(bytes) => (bytes, ""),
            None => {
                let of_fine = schema.coarse_of.as_ref().and_then(known);
                (of_fine.unwrap_or_else(|| estimated(schema)), ESTIMATED)
            }
        }
    }
}

/// Bytes a row, by its columns' types; from half to four times of what was measured of every metric. A measure differs
/// from row to row; ids and names repeat and compress; a text that is searched by its words is kept twice.
fn estimated(schema: &Schema) -> f64 {
    const ROW: f64 = 25.0;
    let column = |field: &kumon_schema::Field| match field.r#type {
        _ if field.meaning.metric_type.is_some() => 8.0,
        FieldType::Integer | FieldType::Number | FieldType::Datetime => 5.0,
        FieldType::String if !field.elasticsearch["fields"]["text"].is_null() => 12.0,
        FieldType::String | FieldType::List => 3.0,
        FieldType::Boolean => 1.0,
    };
    ROW + schema.own_fields().iter().map(column).sum::<f64>()
}

fn measured() -> Result<Measured> {
    Ok(serde_json::from_str(include_str!("../../../elk/ilm/row_sizes.json"))?)
}

/// `exec` of the backing index `.ds-logs-kumon.exec-default-2026.11.21-000001`.
fn metric(index: &str) -> Option<&'static str> {
    let dataset = index.trim_start_matches(".ds-").split('-').nth(1)?;
    Some(&kumon_schema::of_dataset(dataset)?.name)
}

fn size(bytes: f64) -> String {
    ByteSize(bytes as u64).display().si().to_string()
}

#[cfg(test)]
mod tests {
    use super::{Rates, estimated, measured, metric, print_with};
    use crate::config::Config;

    #[test]
    fn a_metric_is_found_in_its_index_name() {
        assert_eq!(metric(".ds-metrics-kumon.runqlat_hist-prod-2026.11.21-000007"), Some("runqlat_hist"));
        assert_eq!(metric(".ds-logs-app.events-default-2026.11.21-000001"), None);
    }

    #[test]
    fn what_was_measured_is_the_estimates_proof() {
        let measured = measured().unwrap();
        for schema in kumon_schema::all() {
            let Some(bytes) = measured.bytes_per_row.get(&schema.name) else { continue };
            let ratio = estimated(schema) / bytes;
            assert!((0.5..4.0).contains(&ratio), "{}: {} for {bytes}", schema.name, estimated(schema));
        }
    }

    #[test]
    fn a_metric_that_was_not_measured_is_estimated_and_marked() {
        let config = Config::default();
        let printed = |measured| {
            let mut out = Vec::new();
            print_with(&measured, &config, &Rates::assumed().unwrap(), "# ", &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let mut partly = measured().unwrap();
        partly.bytes_per_row.insert("exec".into(), 130.0);
        partly.bytes_per_row.remove("exit");
        let text = printed(partly);
        let line = |metric: &str| {
            let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            lines.find(|cells| cells.get(1) == Some(&metric)).unwrap()
        };
        assert!(!line("exec").concat().contains('~'), "{text}");
        assert!(line("exit")[4].starts_with('~') && line("exit")[5].starts_with('~'), "{text}");
        assert!(text.contains("bench/row_sizes"), "{text}");
        let mut wholly = measured().unwrap();
        for schema in kumon_schema::all() {
            wholly.bytes_per_row.insert(schema.name.clone(), 100.0);
        }
        assert!(!printed(wholly).contains('~'));
    }
}
