//! `kumon setup`: puts into the cluster what KuMon needs there, step by step, and never over what a user changed.
//!
//! A [`Step`] gives [`Object`]s; a [`place::Place`] reads, writes and deletes them; [`plan`] decides by the
//! [`records`] what is to be done with each. A new step is a variant of [`Step`]; a new kind of object is one of
//! [`object::Kind`].

mod alerting;
mod api_key;
mod difference;
mod estimate;
mod install;
mod kibana;
mod lock;
mod object;
mod pipelines;
mod place;
mod plan;
mod records;
mod remove;
mod report;
mod retention;
mod roles;
mod step;
mod stream;
mod templates;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kumon_shipper::elasticsearch::{Authentication, Client, Options as ClientOptions};

use crate::WRONG_USAGE;
use crate::cli::SetupArgs;
use crate::config::{Config, NamedOutput, Outputs, choose};
use estimate::Rates;
use kibana::{Kibana, Target};
use object::Object;
use place::Place;
use records::{Author, Records};
use report::Report;
pub(crate) use step::Step;

/// A step and what it puts there.
type Work = Vec<(Step, Vec<Object>)>;

/// Puts into the cluster what is missing or older there, or takes it out, and says what it did.
///
/// # Errors
/// When the cluster can't be reached or refuses something. What was done until then stays; a repetition goes on.
pub(crate) fn setup(config: &Config, args: &SetupArgs) -> Result<ExitCode> {
    let work = work(config, args, &Target::unseen())?;
    let mut out = io::stdout().lock();
    if args.dry_run && args.only == [Step::Kibana] {
        for (_, objects) in &work {
            report::file(objects, &mut out)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let outputs = config.outputs()?;
    let Some((output, mut options)) = target(&outputs, args.output.as_deref())? else {
        if args.dry_run && args.output.is_none() {
            let wanted =
                work.iter().filter(|(step, _)| alerting::why_unwanted(*step, config, true).is_none());
            for (step, objects) in wanted {
                for object in objects {
                    report::request(object, &mut out)?;
                }
                if *step == Step::Ilm {
                    estimate::print(config, &Rates::assumed()?, "# ", &mut out)?;
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!(
            "kumon: setup is for Elasticsearch, and {}; the embedded store needs none",
            match &args.output {
                None => "the configuration has no output.elasticsearch".to_owned(),
                Some(name) => format!("'{name}' is none"),
            }
        );
        return Ok(ExitCode::from(WRONG_USAGE));
    };
    let is_first = outputs.elasticsearch().next().is_some_and(|first| first.name == output.name);
    options.authentication = credentials(args, &options)?;
    let section = config.kibana.as_ref().filter(|_| is_first);
    let kibana = section.map(|section| Kibana::new(section, &options.authentication)).transpose()?;
    let asked = kibana.as_ref().filter(|_| work.iter().any(|(step, _)| step.is_of_kibana()));
    let target = asked.map(|kibana| kibana.target(&config.alerts)).transpose()?;
    // Names and rules depend on the space.
    let work = target.as_ref().map(|target| self::work(config, args, target)).transpose()?.unwrap_or(work);
    let target = target.unwrap_or_else(Target::unseen);
    let places = Places { client: Client::new(options)?, kibana, is_first, target };
    if args.dry_run {
        dry_run(&places, config, work, args, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let complete = change(&places, config, work, args, &mut out)
        .context("setup is not complete; it is safe to repeat")?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn work(config: &Config, args: &SetupArgs, target: &Target) -> Result<Work> {
    let steps = Step::ALL.into_iter().filter(|step| args.only.is_empty() || args.only.contains(step));
    steps.map(|step| Ok((step, step.objects(config, target)?))).collect()
}

/// The Elasticsearch output that is to be set up, and how to reach it; none where the output has nothing to set up.
///
/// # Errors
/// When the name is no output's, or none is named and there are several.
fn target<'a>(outputs: &'a Outputs, name: Option<&str>) -> Result<Option<(&'a NamedOutput, ClientOptions)>> {
    let output = match name {
        Some(name) => Some(outputs.named(name)?),
        None if outputs.elasticsearch().nth(1).is_some() => bail!(choose(outputs.elasticsearch())),
        None => outputs.elasticsearch().next(),
    };
    let options = output.map(NamedOutput::client_options).transpose()?.flatten();
    Ok(output.zip(options))
}

/// Who sets up: the command line's, else who ships. Elasticsearch and Kibana are asked as the same one, whose secret may
/// come from a file that can be read once only.
fn credentials(args: &SetupArgs, shipper: &ClientOptions) -> Result<Authentication> {
    match args.authentication() {
        Some(given) => given
            .read("--username and --password-file, or --api-key-file".to_owned())
            .map_err(|e| e.within("the command line's ").into()),
        None => {
            let ClientOptions { section, authentication, .. } = shipper;
            let read = authentication.read(authentication.place(section));
            read.map_err(|e| e.within(&format!("{section}."))).context(
                "who sets up? --username and --password-file say it, and --create-api-key makes the shipper's key",
            )
        }
    }
}

/// Where the steps' objects are kept.
struct Places {
    client: Client,
    kibana: Option<Kibana>,
    /// Whether it is the first Elasticsearch among the outputs, whose Watcher and Kibana are used.
    is_first: bool,
    target: Target,
}

impl Places {
    /// None where there is none: that is said.
    fn of(&self, step: Step, out: &mut impl Write) -> Result<Option<&dyn Place>> {
        match &self.kibana {
            _ if !step.is_of_kibana() => Ok(Some(&self.client)),
            Some(kibana) => Ok(Some(kibana)),
            None => {
                writeln!(out, "{}", kibana::why_not(step, self.is_first))?;
                Ok(None)
            }
        }
    }
}

/// Says what would be done.
fn dry_run(
    places: &Places,
    config: &Config,
    work: Work,
    args: &SetupArgs,
    out: &mut impl Write,
) -> Result<()> {
    let records = Records::new(&places.client, Author::this(crate::host::common()?.host_name));
    for (step, objects) in beside_others(work, &records, args.force)? {
        if let Some(why) = alerting::why_unwanted(step, config, places.is_first) {
            writeln!(out, "{why}")?;
            continue;
        }
        if let Some(place) = places.of(step, out)? {
            report::dry_run(&plan::plan(&objects, place, &records, args.force)?, out)?;
        }
        if step == Step::Ilm {
            estimate::print(config, &Rates::counted(&places.client)?, "# ", out)?;
        }
    }
    Ok(())
}

/// Does it. Answers whether nothing was refused.
fn change(
    places: &Places,
    config: &Config,
    work: Work,
    args: &SetupArgs,
    out: &mut impl Write,
) -> Result<bool> {
    let author = Author::this(crate::host::common()?.host_name);
    let holder = format!("{} (process {})", author.node, std::process::id());
    let records = Records::new(&places.client, author);
    lock::alone(&records, &holder, || {
        let mut report = Report::default();
        if args.remove {
            remove::remove(places, config, work, &records, args.force, &mut report, out)?;
        } else {
            let work = beside_others(work, &records, args.force)?;
            install(places, config, &work, args, &records, &mut report, out)?;
        }
        Ok(report.complete())
    })
}

fn install(
    places: &Places,
    config: &Config,
    work: &Work,
    args: &SetupArgs,
    records: &Records,
    report: &mut Report,
    out: &mut impl Write,
) -> Result<()> {
    let client = &places.client;
    for (step, objects) in work {
        let unwanted = alerting::why_unwanted(*step, config, places.is_first);
        if let Some(why) = unwanted {
            writeln!(out, "{why}")?;
            if step.is_of_kibana() && places.kibana.is_none() {
                continue;
            }
        }
        let Some(place) = places.of(*step, out)? else { continue };
        let objects = if unwanted.is_some() { &[] } else { objects.as_slice() };
        let outcomes = install::install(objects, place, records, args.force)?;
        report.step(&outcomes, out)?;
        match step {
            Step::Ilm => estimate::print(config, &Rates::counted(client)?, "", out)?,
            Step::Templates => templates::roll_over(client, &outcomes, out)?,
            Step::Kibana => kibana::create_streams(client, config, out)?,
            Step::Watches | Step::Rules => {
                let unwanted = alerting::unwanted(*step, objects, &places.target, records)?;
                report.step(&install::remove(&unwanted, place, records, args.force)?, out)?;
            }
            Step::Roles | Step::Pipelines => {}
        }
    }
    report.end(false, out)?;
    match &args.create_api_key {
        Some(path) => api_key::create(client, config, path, args.force, out),
        None => Ok(()),
    }
}

/// What is shared with other nodes is theirs as well, unless this configuration alone is to count.
fn beside_others(mut work: Work, records: &Records, force: bool) -> Result<Work> {
    for (_, objects) in work.iter_mut().filter(|(step, _)| *step == Step::Roles && !force) {
        roles::add_others(objects, records)?;
    }
    Ok(work)
}
