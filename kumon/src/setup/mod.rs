//! `kumon setup`: puts index templates and retention policies into Elasticsearch.

mod install;
mod objects;
mod rollover;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use kumon_shipper::elasticsearch::Client;

use crate::WRONG_USAGE;
use crate::cli::SetupArgs;
use crate::config::Config;
use objects::{Object, objects};

/// Puts into the cluster what is missing or changed there, or takes it out, and says what it did.
///
/// # Errors
/// When the cluster can't be reached or refuses something. What was done until then stays; a repetition goes on.
pub(crate) fn setup(config: &Config, args: &SetupArgs) -> Result<ExitCode> {
    let objects = objects(&config.shipper_inputs()?);
    let mut out = io::stdout().lock();
    if args.dry_run {
        print(&objects, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(output) = &config.output.elasticsearch else {
        eprintln!(
            "kumon: setup is for Elasticsearch, and the configuration has no output.elasticsearch; the embedded store needs none"
        );
        return Ok(ExitCode::from(WRONG_USAGE));
    };
    let client = Client::new(output.client_options()?)?;
    let done = if args.remove {
        install::remove(&client, &objects, &mut out)
    } else {
        install::install(&client, &objects, &mut out)
    };
    done.context("setup is not complete; it is safe to repeat")?;
    Ok(ExitCode::SUCCESS)
}

/// What would be sent, as Kibana's Dev Tools take it.
fn print(objects: &[Object], out: &mut impl Write) -> Result<()> {
    for object in objects {
        writeln!(out, "PUT {}\n{}\n", object.path(), serde_json::to_string_pretty(&object.body)?)?;
    }
    Ok(())
}
