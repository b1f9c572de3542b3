//! `kumon`: watches a Linux node with eBPF and ships what it sees.

mod agent;
mod alerts;
mod cli;
mod commands;
mod config;
mod control;
mod dashboards;
mod host;
mod search;
mod setup;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use kumon_shipper::elasticsearch::OptionsError;

use agent::Parts;
use cli::{Cli, Command};
use config::Collected;

/// Exit code for a wrong command line (clap's own), configuration or query.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("KUMON_LOG", "info")).init();
    let config = match config::read(cli.config.as_deref()) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("kumon: {e}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match execute(cli, config) {
        Ok(code) => code,
        // Whoever reads a pipe may have seen enough.
        Err(e)
            if e.downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("kumon: {}", explain(&e));
            let wrong_usage = e.is::<OptionsError>()
                || e.is::<config::OutputChoiceError>()
                || e.is::<dashboards::DashboardsError>()
                || e.is::<alerts::WrongAlerts>();
            if wrong_usage { ExitCode::from(WRONG_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// The error and its causes, without those that an error before them already tells.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told {
        told if told.is_empty() => cause,
        told if told.contains(&cause) => told,
        told => format!("{told}: {cause}"),
    })
}

fn execute(cli: Cli, config: config::Config) -> Result<ExitCode> {
    let run =
        |parts, args: cli::RunArgs| agent::run(parts, config.clone(), cli.config.clone(), args.duration);
    match cli.command {
        Command::Run(args) => run(Parts { collect: Some(Collected::All), ship: true }, args),
        Command::Collect(args) => {
            let collect = if args.network { Collected::Network } else { Collected::WithoutNetwork };
            run(Parts { collect: Some(collect), ship: false }, args.run)
        }
        Command::Ship(args) => run(Parts { collect: None, ship: true }, args),
        Command::Setup(args) => setup::setup(&config, &args),
        Command::Check { json } => Ok(commands::check(&config, json)?),
        Command::Status { json } => commands::status(&config, json),
        Command::Collectors(args) => commands::collectors(&config, &args),
        Command::Query(args) => commands::query(&config, &args),
        Command::Snapshot(args) => commands::snapshot(&config, &args),
        Command::Web => commands::web(&config),
        Command::Alerts(command) => commands::alerts(&config, &command),
        Command::DeadLetters(command) => commands::dead_letters(&config, &command),
    }
}
