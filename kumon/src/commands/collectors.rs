//! `kumon collectors`: how each metric is collected, and switching metrics while the agent runs.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use kumon_bpf::NETWORK_METRICS;
use serde_json::json;

use super::query::{Format, csv_line};
use super::table::{Table, printable};
use crate::WRONG_USAGE;
use crate::config::Config;
use crate::control::{Client, CollectorsReport, DecidedBy, MetricReport, MetricState, Switch, Switched};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CollectorsArgs {
    #[command(subcommand)]
    command: Option<SwitchCommand>,
    /// table: one line a metric; json: one object a line; csv
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum SwitchCommand {
    /// Collect these metrics, at once
    Enable(SwitchArgs),
    /// Stop collecting these metrics, at once
    Disable(SwitchArgs),
}

#[derive(Debug, Args)]
struct SwitchArgs {
    /// Metrics such as exec
    #[arg(required = true, value_name = "METRIC")]
    metrics: Vec<String>,
    /// Also after a restart of the agent, over the configuration
    #[arg(long)]
    save: bool,
}

/// Shows or switches. The exit code tells done (0), what can't be done now (1) and wrong usage (2) apart.
///
/// # Errors
/// When no agent collects here, or it doesn't answer.
pub(crate) fn collectors(config: &Config, args: &CollectorsArgs) -> Result<ExitCode> {
    let agents = Agents::of(config)?;
    let (args, enable) = match &args.command {
        None => {
            show(&agents.report()?, args.format)?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(SwitchCommand::Enable(args)) => (args, true),
        Some(SwitchCommand::Disable(args)) => (args, false),
    };
    let mut code = ExitCode::SUCCESS;
    for (agent, metrics) in agents.having(&args.metrics) {
        let answer = match agent.switch(&Switch { metrics, enable, save: args.save })? {
            Ok(switched) => report(&switched)?,
            Err(refusal) => {
                eprintln!("kumon: {}", printable(&refusal.reason));
                if refusal.wrong_usage { ExitCode::from(WRONG_USAGE) } else { ExitCode::FAILURE }
            }
        };
        if answer != ExitCode::SUCCESS {
            code = answer;
        }
    }
    Ok(code)
}

/// What collects on this machine.
struct Agents {
    /// The agent, or the one of two that does without CAP_NET_ADMIN.
    collect: Option<Client>,
    network: Option<Client>,
}

impl Agents {
    fn of(config: &Config) -> Result<Agents> {
        let collect = Client::connect(&config.path.collect_socket())?;
        let network = Client::connect(&config.path.network().collect_socket())?;
        if collect.is_none() && network.is_none() {
            let state = config.path.collect();
            bail!(
                "no agent collects with the state folder {}; start one with 'kumon run' or 'kumon collect'",
                state.display()
            );
        }
        Ok(Agents { collect, network })
    }

    /// How each metric is collected, of both processes as one where there are two.
    fn report(&self) -> Result<CollectorsReport> {
        let of = |agent: &Option<Client>| agent.as_ref().map(Client::collectors).transpose();
        match (of(&self.collect)?, of(&self.network)?) {
            (Some(mut all), Some(mut network)) => {
                all.metrics.retain(|metric| !is_of_network(&metric.metric));
                network.metrics.retain(|metric| is_of_network(&metric.metric));
                all.metrics.extend(network.metrics);
                all.notes.extend(network.notes);
                all.memory += network.memory;
                all.cpu_time += network.cpu_time;
                Ok(all)
            }
            (all, network) => all.or(network).context("no agent answers"),
        }
    }

    /// Which of these metrics are whose.
    fn having(&self, metrics: &[String]) -> Vec<(&Client, Vec<String>)> {
        let (mut of_collect, mut of_network) = (metrics.to_vec(), Vec::new());
        if let (Some(_), Some(_)) = (&self.collect, &self.network) {
            (of_network, of_collect) = of_collect.into_iter().partition(|metric| is_of_network(metric));
        } else if self.collect.is_none() {
            std::mem::swap(&mut of_collect, &mut of_network);
        }
        let both = [(&self.collect, of_collect), (&self.network, of_network)];
        both.into_iter()
            .filter(|(_, metrics)| !metrics.is_empty())
            .filter_map(|(agent, metrics)| Some((agent.as_ref()?, metrics)))
            .collect()
    }
}

fn is_of_network(metric: &str) -> bool {
    NETWORK_METRICS.contains(&metric)
}

fn show(report: &CollectorsReport, format: Format) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match format {
        Format::Json => {
            for metric in &report.metrics {
                writeln!(out, "{}", serde_json::to_string(metric)?)?;
            }
            report.notes.iter().for_each(|note| eprintln!("kumon: {}", printable(note)));
        }
        Format::Csv => {
            writeln!(out, "{}", csv_line(&CSV_COLUMNS.map(str::to_owned)))?;
            report.metrics.iter().try_for_each(|metric| writeln!(out, "{}", csv_line(&csv_cells(metric))))?;
            report.notes.iter().for_each(|note| eprintln!("kumon: {}", printable(note)));
        }
        Format::Table => show_table(&mut out, report)?,
    }
    out.flush()
}

fn show_table(out: &mut impl Write, report: &CollectorsReport) -> io::Result<()> {
    let (memory, seconds) = (ByteSize(report.memory), report.cpu_time as f64 / 1e9);
    writeln!(out, "process {}, {memory}, {seconds:.1} s of CPU time", report.pid)?;
    let mut table = Table::new(&[
        "metric",
        "collector",
        "state",
        "decided by",
        "attached",
        "rows",
        "lost",
        "CPU time",
        "BPF time",
        "remarks",
    ]);
    for metric in &report.metrics {
        table.row([
            metric.metric.clone(),
            metric.collector.clone(),
            metric.state.name().to_owned(),
            metric.decided_by.name().to_owned(),
            metric.backends.join(", "),
            metric.rows.to_string(),
            metric.lost.values().sum::<u64>().to_string(),
            format!("{:.2} s", metric.collector_cpu_time as f64 / 1e9),
            bpf_time(metric),
            remarks(metric),
        ]);
    }
    write!(out, "{table}")?;
    for note in &report.notes {
        writeln!(out, "{}", printable(note))?;
    }
    if report.metrics.iter().all(|metric| metric.runs == 0) {
        writeln!(out, "BPF time is counted while kernel.bpf_stats_enabled is 1")?;
    }
    Ok(())
}

/// How long its programs ran; nothing where that isn't counted.
fn bpf_time(metric: &MetricReport) -> String {
    match metric.runs {
        0 => "-".to_owned(),
        runs => format!("{:.1?} in {runs}", Duration::from_nanos(metric.run_time)),
    }
}

/// What is wrong with it, and what it lost by which reason.
fn remarks(metric: &MetricReport) -> String {
    let reason = metric.reason.clone();
    let next = metric.next_try.as_ref().map(|next| format!("it is tried again at {next}"));
    let lost = metric.lost.iter().map(|(reason, count)| format!("{count} lost ({reason})"));
    reason.into_iter().chain(next).chain(lost).collect::<Vec<_>>().join("; ")
}

const CSV_COLUMNS: [&str; 13] = [
    "metric",
    "collector",
    "state",
    "decided_by",
    "reason",
    "next_try",
    "backends",
    "rows",
    "lost",
    "lost_by_reason",
    "collector_cpu_time",
    "runs",
    "run_time",
];

fn csv_cells(metric: &MetricReport) -> Vec<String> {
    vec![
        metric.metric.clone(),
        metric.collector.clone(),
        metric.state.name().to_owned(),
        metric.decided_by.name().to_owned(),
        metric.reason.clone().unwrap_or_default(),
        metric.next_try.clone().unwrap_or_default(),
        metric.backends.join(" "),
        metric.rows.to_string(),
        metric.lost.values().sum::<u64>().to_string(),
        if metric.lost.is_empty() { String::new() } else { json!(metric.lost).to_string() },
        metric.collector_cpu_time.to_string(),
        metric.runs.to_string(),
        metric.run_time.to_string(),
    ]
}

/// Says what became of each; fails where one that is on doesn't work.
fn report(switched: &[Switched]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for Switched { already, now } in switched {
        let already = if *already { "already " } else { "" };
        let is_on = !matches!(now.state, MetricState::Disabled | MetricState::Off);
        let on = if is_on { "enabled" } else { "disabled" };
        let holds = match now.decided_by {
            DecidedBy::Configuration => "as the configuration says",
            DecidedBy::Switch => "until the agent restarts",
            DecidedBy::SavedSwitch => "saved over the configuration",
        };
        writeln!(out, "{}: {already}{on}, {holds}", now.metric)?;
        if now.state != MetricState::Disabled && now.state != MetricState::Running {
            writeln!(out, "  {}: {}", now.state.name(), printable(&remarks(now)))?;
        }
        if matches!(now.state, MetricState::Failed | MetricState::Failing | MetricState::Hanging) {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
