//! `kumon snapshot`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use kumon_collect::capture::Capture;
use kumon_query::{OnRow, Search, SearchError, SearchRequest, SearchResponse, hand_over};
use kumon_schema::Format as RowFormat;
use kumon_spool::{Formats, RowBatch};
use serde_json::value::RawValue;

use super::query::{Format, print};
use crate::config::Config;
use crate::host;

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// What is to be shown
    #[arg(value_enum)]
    of: Of,
    /// table: one line a row; json: one flat ECS object a line; csv
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    /// Every process, with its parent, user, command line, state and start
    Process,
    /// Every TCP and UDP socket, with its addresses, state, queues and process
    Socket,
}

impl Of {
    fn metric(self) -> &'static str {
        match self {
            Of::Process => "snapshot_process",
            Of::Socket => "snapshot_socket",
        }
    }
}

/// Looks at what stands now, and prints it. No agent is asked.
///
/// # Errors
/// When /proc can't be read, or nobody reads the output.
pub(crate) fn snapshot(config: &Config, args: &SnapshotArgs) -> Result<ExitCode> {
    let metric = args.of.metric();
    let rows = Rows(rows(config, metric)?);
    let request = SearchRequest {
        metric: metric.into(),
        query: String::new(),
        since: None,
        until: None,
        limit: None,
        aggs: None,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = print(&mut out, &rows, &request, args.format);
    // It fails too where whoever reads a pipe has seen enough, which is no failure of this command.
    out.flush()?;
    printed?;
    Ok(ExitCode::SUCCESS)
}

/// The rows that the metric's collector makes of this moment.
fn rows(config: &Config, metric: &str) -> Result<Vec<Box<RawValue>>> {
    let mut settings = config.collectors.proc.clone();
    settings.snapshot_process.enabled = true;
    settings.snapshot_socket.enabled = true;
    let collectors = kumon_proc::collectors(&settings);
    let collector = collectors.iter().find(|collector| collector.metrics() == [metric]);
    let collector = collector.ok_or_else(|| anyhow!("nothing collects {metric}"))?;
    let mut active = collector.start()?;
    let formats = Formats { default: RowFormat::Ndjson, ..Formats::default() };
    let mut capture = Capture::of(RowBatch::new(Arc::new(host::common()?)).with_formats(formats));
    capture.poll(true, |context| active.poll(context))?;
    let records = std::str::from_utf8(capture.records(metric)).context("rows are UTF-8")?;
    records.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Rows that are there already, to be printed as those that are found.
struct Rows(Vec<Box<RawValue>>);

impl Search for Rows {
    fn stream(&self, _: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        hand_over(&self.0, row)?;
        Ok(SearchResponse { total: self.0.len() as u64, ..SearchResponse::default() })
    }
}
