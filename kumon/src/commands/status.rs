//! `kumon status`: how the agents of this machine are.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use kumon_spool::is_being_written;

use super::table::printable;
use crate::agent::{CollectStatus, OutputFault, OutputStatus, ShipStatus, Status, read_status};
use crate::config::Config;

/// A busy machine may delay a status, but not for so long.
const MAX_AGE: TimeDelta = TimeDelta::seconds(30);

/// Prints both sides; fails when one of them isn't running or halted.
pub(crate) fn status(config: &Config, json: bool) -> Result<ExitCode> {
    let collect: Option<CollectStatus> = of_running(&config.path.collect())?;
    let network_folder = config.path.network().collect();
    let network: Option<CollectStatus> = of_running(&network_folder)?;
    let ship: Option<ShipStatus> = of_running(&config.path.ship())?;
    let collects =
        |c: &CollectStatus| c.spool_error.is_none() && c.failed.is_empty() && !is_stale(&c.updated);
    let healthy = collect.as_ref().is_some_and(collects)
        && network.as_ref().is_none_or(collects)
        && ship.as_ref().is_some_and(|s| {
            s.each().all(|(_, output)| output.is_healthy())
                && s.alerts_left_out.is_empty()
                && !is_stale(&s.updated)
        });
    let mut out = io::stdout().lock();
    if json {
        let mut all = serde_json::json!({ "collect": collect, "ship": ship, "healthy": healthy });
        if let Some(network) = network {
            all["network"] = serde_json::json!(network);
        }
        writeln!(out, "{all}")?;
    } else {
        print_collect(&mut out, "collecting", collect.as_ref(), &config.path.collect())?;
        if network.is_some() {
            print_collect(&mut out, "collecting from the network", network.as_ref(), &network_folder)?;
        }
        print_ship(&mut out, ship.as_ref(), &config.path.ship())?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The status of a side that runs: its folder is locked.
fn of_running<T: Status>(folder: &Path) -> Result<Option<T>> {
    let lock = folder.join("lock");
    let looked = match File::open(&lock) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.and_then(|file| is_being_written(&file)),
    };
    if !looked.with_context(|| format!("{}: can't be looked at", lock.display()))? {
        return Ok(None);
    }
    read_status(folder).with_context(|| format!("{}: the status can't be read", folder.display()))
}

fn print_collect(
    out: &mut impl Write,
    what: &str,
    status: Option<&CollectStatus>,
    state: &Path,
) -> io::Result<()> {
    let Some(status) = status else {
        writeln!(out, "{what}: not running (state folder {})", state.display())?;
        return Ok(());
    };
    let (memory, seconds) = (ByteSize(status.memory), status.cpu_time as f64 / 1e9);
    writeln!(
        out,
        "{what}: process {}, {memory}, {seconds:.1} s of CPU time, as of {}",
        status.pid, status.updated
    )?;
    for (metric, rows) in &status.rows {
        writeln!(out, "  {metric}: {rows} rows")?;
    }
    for (metric, reasons) in &status.lost {
        for (reason, count) in reasons {
            writeln!(out, "  {metric}: {count} lost ({reason})")?;
        }
        for (by, rows) in status.rate_limited.get(metric).into_iter().flatten() {
            writeln!(out, "    {rows} over its budget were of {}", printable(by))?;
        }
    }
    for (collector, fault) in &status.failed {
        writeln!(out, "  {collector} {fault}")?;
    }
    for (metric, reason) in &status.off {
        writeln!(out, "  {metric} is off: {}", printable(reason))?;
    }
    for (metric, switched) in &status.switched {
        let on = if switched.enabled { "on" } else { "off" };
        let until = if switched.saved { "saved" } else { "until it restarts" };
        writeln!(out, "  {metric} is switched {on}, {until}, over the configuration")?;
    }
    if let Some(error) = &status.spool_error {
        writeln!(out, "  the spool: {}", printable(error))?;
    }
    print_stale(out, &status.updated)
}

fn print_ship(out: &mut impl Write, status: Option<&ShipStatus>, state: &Path) -> io::Result<()> {
    let Some(status) = status else {
        writeln!(out, "shipping: not running (state folder {})", state.display())?;
        return Ok(());
    };
    match &status.single {
        Some(output) => {
            writeln!(
                out,
                "shipping: process {}, to the {}, as of {}",
                status.pid, output.output, status.updated
            )?;
            print_output(out, output, "  ")?;
        }
        None => writeln!(out, "shipping: process {}, as of {}", status.pid, status.updated)?,
    }
    for (name, output) in &status.outputs {
        writeln!(out, "  {name}, to the {}:", output.output)?;
        print_output(out, output, "    ")?;
    }
    for what in &status.alerts_left_out {
        writeln!(out, "  alerts: {}", printable(what))?;
    }
    print_stale(out, &status.updated)
}

/// Prints how shipping to one output is, each line behind `indent`.
fn print_output(out: &mut impl Write, status: &OutputStatus, indent: &str) -> io::Result<()> {
    if let Some(OutputFault { reason, next_try }) = &status.failed {
        return writeln!(out, "{indent}failed: {}; it is tried again at {next_try}", printable(reason));
    }
    for (dataset, rows) in &status.rows {
        writeln!(out, "{indent}{}: {rows} rows delivered", printable(dataset))?;
    }
    for (dataset, rows) in &status.dead_letters {
        writeln!(out, "{indent}{}: {rows} rows in the dead letters", printable(dataset))?;
        if let Some(last) = status.last_letters.get(dataset) {
            writeln!(out, "{indent}  the last one is of {}", printable(last))?;
        }
    }
    if status.dead_letters_dropped > 0 {
        let dropped = status.dead_letters_dropped;
        writeln!(
            out,
            "{indent}{dropped} dead letters dropped, the oldest, at the limit dead_letters.max_bytes"
        )?;
    }
    for (file, reason) in &status.stuck {
        writeln!(out, "{indent}{} is not shipped: {}", printable(file), printable(reason))?;
    }
    for (what, note) in &status.notes {
        writeln!(out, "{indent}{}: {}", printable(what), printable(note))?;
    }
    if let (Some(reason), Some(since)) = (&status.halted, &status.halted_since) {
        writeln!(out, "{indent}halted since {since}: {}", printable(reason))?;
    }
    for (stream, (since, reason)) in &status.held {
        writeln!(
            out,
            "{indent}{}: halted since {since}, other streams go on: {}",
            printable(stream),
            printable(reason)
        )?;
    }
    writeln!(out, "{indent}{} wait in files", ByteSize(status.lag))
}

fn print_stale(out: &mut impl Write, updated: &str) -> io::Result<()> {
    if is_stale(updated) {
        writeln!(out, "  no news since then: it hangs, or can't write its state folder; its log says which")?;
    }
    Ok(())
}

/// Running agents renew their status at least every 10 s.
fn is_stale(updated: &str) -> bool {
    let updated = DateTime::parse_from_rfc3339(updated);
    updated.map_or(true, |updated| Utc::now().signed_duration_since(updated) > MAX_AGE)
}
