//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use kumon_shipper::elasticsearch::Authentication;

use crate::commands::{AlertsCommand, CollectorsArgs, DeadLettersCommand, QueryArgs, SnapshotArgs};
use crate::setup::Step;

/// Observes this Linux node with eBPF, and stores what it sees where it can be queried.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  kumon check                                   what this kernel allows
  kumon run                                     collect into the embedded store, until Ctrl-C
  kumon query exec 'process.name:bash' --since 15m
  kumon web                                     the address of the dashboards
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
    Collect(CollectArgs),
    /// Ship what is in the spool and in the configured inputs
    Ship(RunArgs),
    /// Install what Elasticsearch needs; safe to repeat, and never overwrites manual changes
    #[command(after_help = "\
Examples:
  kumon setup --dry-run                         every request that would be sent, and what was changed there
  kumon setup --username elastic --password-file /root/elastic --create-api-key /etc/kumon/api_key
  kumon setup --only ilm,templates
  kumon setup --force --only ilm                back to KuMon's own policies
Exit code: 0 everything is there that can be, 1 something was refused.")]
    Setup(SetupArgs),
    /// Show what this kernel allows, and why not
    Check {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show how the running agents are
    Status {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show how each metric is collected, and switch metrics on and off
    #[command(after_help = "\
Examples:
  kumon collectors                              state, rows, losses and cost of each metric
  kumon collectors --format json | jq .
  kumon collectors disable cputime runqlat      at once, until the agent restarts
  kumon collectors enable filelife --save       also after a restart, over the configuration
Exit code: 0 done, 1 no agent collects here, not allowed, or a collector can't start, 2 wrong usage.")]
    Collectors(CollectorsArgs),
    /// Query rows
    #[command(after_help = "\
Examples:
  kumon query exec 'process.name:bash' --since 15m
  kumon query exec 'process.command_line.text:\"apt-get install\" AND NOT user.id:0'
  kumon query exit 'process.exit_code:>0' --format csv
  kumon query agent 'kumon.agent.lost:*'
Exit code: 0 rows, 1 no match or expired, 2 an error in the query.")]
    Query(QueryArgs),
    /// Show the processes or sockets of this moment; needs no agent
    #[command(after_help = "\
Examples:
  kumon snapshot process
  kumon snapshot socket --format json | jq 'select(.\"kumon.snapshot_socket.state\" == \"LISTEN\")'
  kumon snapshot process --format csv > processes.csv
Whose sockets they are is seen of one's own processes only, unless root asks.
Exit code: 0 done, 1 /proc can't be read, 2 wrong usage.")]
    Snapshot(SnapshotArgs),
    /// Show the address of the running agent's web page, with its key
    Web,
    /// Manage rows that the output rejected for good or that could not be decoded
    #[command(
        subcommand,
        after_help = "\
Examples:
  kumon dead-letters list
  kumon dead-letters list --dataset app.events --format json | jq .
  kumon dead-letters replay --reason 'failed to parse field'
  kumon dead-letters drop --id 5f0e…-1a2b
Works whether an agent runs or not.
Exit code: 0 done, 1 no such letter, or one that can't be delivered, 2 wrong usage."
    )]
    DeadLetters(DeadLettersCommand),
    /// Manage alerts: list them, show what fires, test whether messages arrive
    #[command(
        subcommand,
        after_help = "\
Examples:
  kumon alerts list
  kumon alerts test disk-latency                sends a test message through its channels
  kumon alerts status                           what fires now; 1 when something does
  kumon alerts ack disk-latency                 silent until it has recovered
  kumon alerts render disk-latency --as watcher
Exit code: 0 done, 1 something fires or was not delivered, 2 wrong usage or a wrong alert file."
    )]
    Alerts(AlertsCommand),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// End after this time (30s, 5m); with 0 only when everything collected is delivered or counted as lost
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct CollectArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Only the metrics that take CAP_NET_ADMIN, such as flow, which else are left out
    #[arg(long)]
    pub(crate) network: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The Elasticsearch to set up, by its output's name; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) output: Option<String>,
    /// Only these steps, separated by commas
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    pub(crate) only: Vec<Step>,
    /// Print the requests that would be sent and what was changed there, change nothing; with --only kibana the file
    /// that Kibana imports
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also overwrite (or remove) what was changed by hand, created under one of KuMon's names, or set up on another node with
    /// other settings
    #[arg(long)]
    pub(crate) force: bool,
    /// Remove what setup installed, and revoke the API keys that it created; the rows stay
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) remove: bool,
    /// The user who sets up, instead of the one in the configuration
    #[arg(long, requires = "password_file", conflicts_with = "api_key_file")]
    pub(crate) username: Option<String>,
    /// A file with that user's password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// Create an API key that may only ship, and write it to a file that only the shipper reads; '-' prints it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["remove", "dry_run"])]
    pub(crate) create_api_key: Option<PathBuf>,
    /// A file with an API key, instead of a user
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
}

impl SetupArgs {
    /// Who sets up, where it isn't who ships.
    pub(crate) fn authentication(&self) -> Option<Authentication> {
        if let Some(file) = &self.api_key_file {
            return Some(Authentication::ApiKey { file: file.clone() });
        }
        let (username, password_file) = (self.username.clone()?, self.password_file.clone()?);
        Some(Authentication::Basic { username, password_file })
    }
}
