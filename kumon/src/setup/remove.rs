//! `kumon setup --remove`: takes out what setup put in, on whichever node and by whichever version.

use std::io::Write;

use anyhow::Result;

use super::kibana::Target;
use super::object::Object;
use super::records::{self, Records};
use super::report::Report;
use super::{Places, Step, Work, alerting, api_key, install};
use crate::config::Config;

/// Removes the steps' objects: those of this configuration, and those that only the records know, such as pipelines of
/// older schemas and what belongs to inputs of other nodes.
pub(super) fn remove(
    places: &Places,
    config: &Config,
    work: Work,
    records: &Records,
    force: bool,
    report: &mut Report,
    out: &mut impl Write,
) -> Result<()> {
    let keys_too = work.iter().any(|(step, _)| *step == Step::Roles);
    for (step, objects) in work.into_iter().rev() {
        let Some(place) = places.of(step, out)? else { continue };
        let is_unwanted = alerting::why_unwanted(step, config, places.is_first).is_some();
        let objects = if is_unwanted { Vec::new() } else { objects };
        let objects = with_recorded(objects, step, &places.target, records)?;
        report.step(&install::remove(&objects, place, records, force)?, out)?;
    }
    if keys_too {
        api_key::revoke_all(&places.client, out)?;
    }
    report.end(true, out)?;
    writeln!(out, "data streams and their rows stay; DELETE _data_stream/NAME removes one")?;
    records.delete_if_empty()
}

fn with_recorded(
    mut objects: Vec<Object>,
    step: Step,
    target: &Target,
    records: &Records,
) -> Result<Vec<Object>> {
    let recorded = records.of_kinds(step.kinds())?.into_iter().map(|(object, _)| object);
    let is_known = |object: &Object| objects.iter().any(|known| records::id(known) == records::id(object));
    let further: Vec<Object> = recorded.filter(|object| target.has(object) && !is_known(object)).collect();
    objects.extend(further);
    Ok(objects)
}
