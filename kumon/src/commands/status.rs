//! `kumon status`: how the agents of this machine are.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bytesize::ByteSize;
use kumon_spool::is_being_written;
use serde::de::DeserializeOwned;

use crate::agent::{CollectStatus, ShipStatus, read_status};
use crate::config::Config;

/// Prints both sides; fails when one of them isn't running or halted.
pub(crate) fn status(config: &Config, json: bool) -> Result<ExitCode> {
    let collect: Option<CollectStatus> = of_running(&config.path.collect())?;
    let ship: Option<ShipStatus> = of_running(&config.path.ship())?;
    let healthy = collect.as_ref().is_some_and(|c| c.spool_error.is_none() && c.failed.is_empty())
        && ship.as_ref().is_some_and(|s| s.halted.is_none() && s.stuck.is_empty());
    if json {
        println!("{}", serde_json::json!({ "collect": collect, "ship": ship, "healthy": healthy }));
    } else {
        print_collect(collect.as_ref());
        print_ship(ship.as_ref());
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The status of a side that runs: its folder is locked.
fn of_running<T: DeserializeOwned>(folder: &Path) -> Result<Option<T>> {
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

fn print_collect(status: Option<&CollectStatus>) {
    let Some(status) = status else {
        println!("collecting: not running");
        return;
    };
    let (memory, seconds) = (ByteSize(status.memory), status.cpu_time as f64 / 1e9);
    println!(
        "collecting: process {}, {memory}, {seconds:.1} s of CPU time, as of {}",
        status.pid, status.updated
    );
    for (metric, rows) in &status.rows {
        println!("  {metric}: {rows} rows");
    }
    for (metric, reasons) in &status.lost {
        for (reason, count) in reasons {
            println!("  {metric}: {count} lost ({reason})");
        }
    }
    for (collector, reason) in &status.failed {
        println!("  {collector} is left out: {reason}");
    }
    if let Some(error) = &status.spool_error {
        println!("  rows wait in memory: {error}");
    }
}

fn print_ship(status: Option<&ShipStatus>) {
    let Some(status) = status else {
        println!("shipping: not running");
        return;
    };
    println!("shipping: process {}, to the {}, as of {}", status.pid, status.output, status.updated);
    for (dataset, rows) in &status.rows {
        println!("  {dataset}: {rows} rows delivered");
    }
    for (dataset, rows) in &status.dead_letters {
        println!("  {dataset}: {rows} rows in the dead letters");
    }
    for (file, reason) in &status.stuck {
        println!("  {file} is not shipped: {reason}");
    }
    if let (Some(reason), Some(since)) = (&status.halted, &status.halted_since) {
        println!("  halted since {since}: {reason}");
    }
    println!("  {} wait in files", ByteSize(status.lag));
}
