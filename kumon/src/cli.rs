//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::QueryArgs;

/// Watches this Linux node with eBPF, and keeps what it sees where it can be asked for.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  kumon check                                   what this kernel allows
  kumon run                                     collect into the embedded store, until Ctrl-C
  kumon query exec 'process.name:bash' --since 15m
  kumon query exec --format json | jq .         every row, one object a line
  kumon setup --dry-run                         what would be installed in Elasticsearch"
)]
pub(crate) struct Cli {
    /// Configuration file [default: /etc/kumon/kumon.yml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Collect and ship in one process
    Run(RunArgs),
    /// Collect into the spool only
    Collect(RunArgs),
    /// Ship what stands in the spool and in the configured inputs
    Ship(RunArgs),
    /// Install what Elasticsearch needs: index templates and retention policies; safe to repeat
    Setup(SetupArgs),
    /// Show what this kernel allows, and why not
    Check,
    /// Show how the running agents are
    Status {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Ask for rows
    #[command(after_help = "\
Examples:
  kumon query exec 'process.name:bash' --since 15m
  kumon query exec 'process.command_line.text:\"apt-get install\" AND NOT user.id:0'
  kumon query exit 'process.exit_code:>0' --format csv
  kumon query agent 'kumon.agent.lost:*'
Exit code: 0 rows, 1 no match or expired, 2 an error in the query.")]
    Query(QueryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// End after this time (30s, 5m); with 0 only when everything collected is delivered or counted as lost
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Print the requests, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take out what setup put in; the rows stay
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) remove: bool,
}
