//! `kumon query`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use clap::{Args, ValueEnum};
use kumon_query::{Search, SearchError, SearchRequest, SearchResponse};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::table::Table;
use crate::agent::{CollectStatus, read_status};
use crate::config::Config;
use crate::search;

/// A table is for eyes; json and csv give everything unless told otherwise.
const TABLE_LIMIT: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// A metric such as exec (docs/metrics.md lists them), or the dataset of an input
    metric: String,
    /// Terms, phrases, ranges, * and ?, AND, OR, NOT, parentheses; empty for every row
    #[arg(default_value = "")]
    query: String,
    /// Only rows of the last 15m, 2h, 7d, …
    #[arg(long, value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Only rows older than 15m, 2h, 7d, …
    #[arg(long, value_parser = humantime::parse_duration)]
    until: Option<Duration>,
    /// table: one line a row; json: one flat ECS object a line; csv
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Maximum number of rows, the newest first [default: 50 as a table, all otherwise]
    #[arg(long)]
    limit: Option<usize>,
    /// The output to query, by its name [default: the embedded store, else the first Elasticsearch]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Aggregations in Elasticsearch's JSON; prints their answer instead of rows
    #[arg(long, value_name = "JSON")]
    aggs: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Csv,
}

/// Asks and prints. The exit code tells rows (0), no match or expired (1) and a wrong query (2) apart.
///
/// # Errors
/// When nobody can be asked.
pub(crate) fn query(config: &Config, args: &QueryArgs) -> Result<ExitCode> {
    let aggs = args.aggs.as_deref().map(serde_json::from_str::<Value>).transpose();
    let aggs = match aggs {
        Ok(aggs) => aggs,
        Err(e) => {
            eprintln!("--aggs: not JSON: {e}");
            return Ok(ExitCode::from(2));
        }
    };
    let request = SearchRequest {
        metric: args.metric.clone(),
        query: args.query.clone(),
        since: args.since.and_then(ago),
        until: args.until.map(|until| ago(until).unwrap_or(i64::MIN)),
        limit: match (args.limit, args.format, &aggs) {
            (Some(limit), ..) => Some(limit),
            (None, _, Some(_)) => Some(0),
            (None, Format::Table, None) => Some(TABLE_LIMIT),
            (None, ..) => None,
        },
        aggs,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed =
        print(&mut out, search::open(config, args.output.as_deref())?.as_ref(), &request, args.format);
    out.flush()?;
    match printed {
        Ok(response) => {
            if response.total > 0 {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("no match{}", why_none(config, &args.metric));
            Ok(ExitCode::FAILURE)
        }
        Err(
            e @ (SearchError::Query { .. }
            | SearchError::UnknownMetric { .. }
            | SearchError::Aggregations { .. }),
        ) => {
            eprintln!("{e}");
            Ok(ExitCode::from(2))
        }
        Err(e) => {
            eprintln!("{e}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// So long before now, in nanoseconds since the Unix epoch; `None` where that is before all times.
fn ago(duration: Duration) -> Option<i64> {
    Utc::now().checked_sub_signed(TimeDelta::from_std(duration).ok()?)?.timestamp_nanos_opt()
}

/// Says where the agent of this node doesn't collect the metric; nothing where that isn't known.
fn why_none(config: &Config, metric: &str) -> String {
    let status: Option<CollectStatus> = read_status(&config.path.collect()).ok().flatten();
    let metric = kumon_schema::whole(metric).unwrap_or(metric);
    let switched = status.as_ref().and_then(|status| status.switched.get(metric));
    if switched.is_some_and(|switched| !switched.enabled) {
        return format!(
            "; {metric} is switched off on this node: 'kumon collectors enable {metric}' switches it on"
        );
    }
    if switched.is_none() && config.disabled_metrics().contains(&metric) {
        return format!("; {metric} is disabled on this node: collectors.{metric}.enabled is false");
    }
    let reason = status.and_then(|status| status.off.get(metric).cloned());
    reason.map(|reason| format!("; {metric} is off on this node: {reason}")).unwrap_or_default()
}

/// Asks and prints; rows that no table has to be made of as they come, for there may be more than the memory holds.
pub(super) fn print(
    out: &mut impl Write,
    search: &dyn Search,
    request: &SearchRequest,
    format: Format,
) -> Result<SearchResponse, SearchError> {
    let failed = |e: io::Error| SearchError::Unavailable { message: format!("can't be printed: {e}") };
    let response = match format {
        Format::Json => search.stream(request, &mut |row| writeln!(out, "{row}"))?,
        Format::Csv => stream_csv(out, search, request)?,
        Format::Table => {
            let response = search.search(request)?;
            print_table(out, request, &response).map_err(failed)?;
            response
        }
    };
    if let Some(aggregations) = &response.aggregations {
        writeln!(out, "{aggregations:#}").map_err(failed)?;
    }
    Ok(response)
}

/// The fields of a row, in the schema's order.
fn columns(request: &SearchRequest, foreign: BTreeSet<String>) -> Vec<String> {
    let schema = kumon_schema::builtin(&request.metric);
    let known: Vec<String> = schema.iter().flat_map(|s| &s.fields).map(|field| field.ecs.clone()).collect();
    let foreign: Vec<String> = foreign.into_iter().filter(|key| !known.contains(key)).collect();
    known.into_iter().chain(foreign).collect()
}

fn parse(row: &RawValue) -> io::Result<Map<String, Value>> {
    kumon_query::row(row.get())
        .map_err(|e| io::Error::other(format!("the answer holds a row that is no object: {e}")))
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Only the rows themselves tell which fields those of an input have: they are asked for once more then.
fn stream_csv(
    out: &mut impl Write,
    search: &dyn Search,
    request: &SearchRequest,
) -> Result<SearchResponse, SearchError> {
    let mut foreign = BTreeSet::new();
    if kumon_schema::builtin(&request.metric).is_none() {
        search.stream(request, &mut |row| {
            foreign.extend(parse(row)?.into_iter().map(|(key, _)| key));
            Ok(())
        })?;
    }
    let columns = columns(request, foreign);
    if request.limit != Some(0) {
        let failed = |e: io::Error| SearchError::Unavailable { message: format!("can't be printed: {e}") };
        writeln!(out, "{}", csv_line(&columns)).map_err(failed)?;
    }
    search.stream(request, &mut |row| {
        let row = parse(row)?;
        let cells: Vec<String> = columns.iter().map(|column| text(row.get(column))).collect();
        writeln!(out, "{}", csv_line(&cells))
    })
}

/// A line of CSV, without its end.
pub(super) fn csv_line(cells: &[String]) -> String {
    cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",")
}

/// RFC 4180.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

fn print_table(out: &mut impl Write, request: &SearchRequest, response: &SearchResponse) -> io::Result<()> {
    let rows = response.hits.iter().map(|hit| parse(hit)).collect::<io::Result<Vec<_>>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut columns = columns(request, rows.iter().flat_map(Map::keys).cloned().collect());
    let left_out = kumon_schema::left_out_of_tables();
    columns.retain(|column| {
        !left_out.contains(column.as_str()) && rows.iter().any(|row| row.contains_key(column))
    });
    let mut table = Table::new(&columns);
    for row in &rows {
        table.row(columns.iter().map(|column| text(row.get(column))));
    }
    write!(out, "{table}")?;
    let more = response.total - rows.len() as u64;
    if more > 0 {
        writeln!(out, "… and {more} more; --limit N or --format json shows them")?;
    }
    Ok(())
}
