//! `kumon dead-letters`: rows that were refused for good, or that could not be decoded.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use kumon_shipper::{DeadLetter, DeadLetterFolder, LetterFilter, Replayed, replay};
use serde_json::json;

use super::query::{Format, csv_line};
use super::table::{Table, printable};
use crate::agent::{open_sink, output_folder};
use crate::config::{Config, NamedOutput};
use crate::control::Client;

/// Nothing is wrong with what was to be sent, but it has to wait.
const WAITING: u8 = 3;
/// A table is for eyes; json and csv give everything unless told otherwise.
const TABLE_LIMIT: usize = 50;
/// How much of a long document a table shows, in characters.
const TABLE_DOCUMENT: usize = 120;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Show them, the newest first
    List(ListArgs),
    /// Send them again; only what the output has acknowledged is removed
    Replay(FilterArgs),
    /// Remove them for good
    Drop(DropArgs),
}

/// Which letters; without any of these all of them.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// The output that rejected them, by its name; needed where there are several
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Those of a metric such as exec, or of the dataset of an input
    #[arg(long)]
    dataset: Option<String>,
    /// Those whose reason contains this text, case-insensitive
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those with one of these ids, as list shows them; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// table: one line a letter; json: one flat ECS object a line; csv
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// At most so many, the newest [default: 50 as a table, all otherwise]
    #[arg(long)]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// All of them
    #[arg(long, conflicts_with_all = ["dataset", "reason", "ids"])]
    all: bool,
}

impl FilterArgs {
    fn filter(&self) -> LetterFilter {
        LetterFilter { dataset: self.dataset.clone(), reason: self.reason.clone(), ids: self.ids.clone() }
    }
}

/// Lists, sends once more or removes. The exit code tells done (0), no such letter, or some that can't be delivered
/// (1), wrong usage (2), and some that wait until the output takes them (3) apart.
///
/// # Errors
/// When the letters can't be read or changed, or the output can't take them now.
pub(crate) fn dead_letters(config: &Config, command: &DeadLettersCommand) -> Result<ExitCode> {
    let filter = match command {
        DeadLettersCommand::List(args) => &args.filter,
        DeadLettersCommand::Replay(filter) => filter,
        DeadLettersCommand::Drop(args) => &args.filter,
    };
    let outputs = config.outputs()?;
    let output = outputs.chosen(filter.output.as_deref())?;
    let folder = DeadLetterFolder::of(&output_folder(config, output)?);
    match command {
        DeadLettersCommand::List(args) => list(&folder, args),
        DeadLettersCommand::Replay(args) => send_again(config, output, &folder, &args.filter()),
        DeadLettersCommand::Drop(args) => drop_letters(&folder, args),
    }
}

fn list(folder: &DeadLetterFolder, args: &ListArgs) -> Result<ExitCode> {
    let filter = args.filter.filter();
    let limit = args.limit.or((args.format == Format::Table).then_some(TABLE_LIMIT)).unwrap_or(usize::MAX);
    // Rendered at once, so that of a million letters only the text of those shown stands in memory.
    let (mut shown, mut total) = (VecDeque::new(), 0_u64);
    folder
        .read(|letter| {
            if !filter.matches(letter) {
                return;
            }
            total += 1;
            shown.push_front(cells(letter, args.format));
            shown.truncate(limit);
        })
        .with_context(|| unreadable(folder))?;
    if total == 0 {
        return Ok(no_match());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    match args.format {
        Format::Json => shown.iter().try_for_each(|cells| writeln!(out, "{}", cells[0]))?,
        Format::Csv => {
            writeln!(out, "{}", csv_line(&CSV_COLUMNS.map(str::to_owned)))?;
            shown.iter().try_for_each(|cells| writeln!(out, "{}", csv_line(cells)))?;
        }
        Format::Table => {
            let mut table = Table::new(&["time", "id", "dataset", "reason", "file", "offset", "document"]);
            let more = total - shown.len() as u64;
            shown.into_iter().for_each(|cells| table.row(cells));
            write!(out, "{table}")?;
            if more > 0 {
                writeln!(out, "… and {more} more; --limit N or --format json shows them")?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

const CSV_COLUMNS: [&str; 7] = [
    "@timestamp",
    "event.id",
    "data_stream.dataset",
    "error.message",
    "log.file.path",
    "log.offset",
    "event.original",
];

/// One cell for JSON, one per column otherwise.
fn cells(letter: &DeadLetter, format: Format) -> Vec<String> {
    if format == Format::Json {
        let object = json!({
            "@timestamp": letter.timestamp,
            "event.id": letter.id(),
            "data_stream.dataset": letter.dataset(),
            "error.message": letter.reason,
            "log.file.path": letter.file,
            "log.offset": letter.offset,
            "event.original": letter.document,
            "kumon.dead_letter.kind": letter.kind,
        });
        return vec![object.to_string()];
    }
    let document = match format {
        Format::Table => letter.document.chars().take(TABLE_DOCUMENT).collect(),
        _ => letter.document.to_string(),
    };
    vec![
        letter.timestamp.to_string(),
        letter.id(),
        letter.dataset().to_owned(),
        letter.reason.to_string(),
        letter.file.to_string(),
        letter.offset.to_string(),
        document,
    ]
}

fn send_again(
    config: &Config,
    output: &NamedOutput,
    folder: &DeadLetterFolder,
    filter: &LetterFilter,
) -> Result<ExitCode> {
    // Elasticsearch tells by the id what is sent twice, so a running agent need not be asked. The store has one writer.
    let agent = if output.is_store() { Client::connect(&config.path.ship_socket())? } else { None };
    let replayed = match agent {
        Some(agent) => agent.replay(filter)?,
        None => replay(folder, filter, &mut open_sink(config, output)?),
    };
    let replayed = replayed.map_err(|e| anyhow!("the dead letters stay that were not delivered yet: {e}"))?;
    report(&replayed)?;
    let (waiting, stay) = (replayed.waits(), replayed.refused + replayed.records);
    Ok(match replayed.delivered {
        _ if waiting > 0 => ExitCode::from(WAITING),
        _ if stay > 0 => ExitCode::FAILURE,
        0 => no_match(),
        _ => ExitCode::SUCCESS,
    })
}

fn report(replayed: &Replayed) -> Result<()> {
    let mut out = io::stdout().lock();
    if replayed.delivered > 0 {
        let had = match replayed.duplicates {
            0 => String::new(),
            had => format!(" ({had} of them the output had already)"),
        };
        writeln!(out, "{} delivered and removed{had}", replayed.delivered)?;
    }
    if replayed.refused > 0 {
        writeln!(out, "{} refused again, they stay:", replayed.refused)?;
        for refused in &replayed.refusals {
            writeln!(out, "  {}: {}", printable(&refused.id), printable(&refused.reason))?;
        }
        let more = replayed.refused - replayed.refusals.len() as u64;
        if more > 0 {
            writeln!(out, "  … and {more} more")?;
        }
    }
    if !replayed.waiting.is_empty() {
        writeln!(
            out,
            "{} still waiting, nothing is wrong with them; replay them again later:",
            replayed.waits()
        )?;
        for (stream, waiting) in &replayed.waiting {
            writeln!(out, "  {} of {}: {}", waiting.letters, printable(stream), printable(&waiting.reason))?;
        }
    }
    if replayed.records > 0 {
        writeln!(
            out,
            "{} could not be decoded, so there is no document to send; they stay: 'kumon dead-letters list --format \
             json' shows them",
            replayed.records
        )?;
    }
    Ok(())
}

fn drop_letters(folder: &DeadLetterFolder, args: &DropArgs) -> Result<ExitCode> {
    let filter = args.filter.filter();
    if !args.all && filter == LetterFilter::default() {
        eprintln!("kumon: say which: --dataset, --reason or --id, or --all");
        return Ok(ExitCode::from(2));
    }
    let dropped = folder.remove(|letter| filter.matches(letter)).with_context(|| unreadable(folder))?;
    if dropped == 0 {
        return Ok(no_match());
    }
    println!("{dropped} dropped");
    Ok(ExitCode::SUCCESS)
}

fn no_match() -> ExitCode {
    eprintln!("no match");
    ExitCode::FAILURE
}

fn unreadable(folder: &DeadLetterFolder) -> String {
    format!("{}: run it as root or as the user that ships", folder.path().display())
}
