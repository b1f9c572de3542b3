//! Putting objects there, and taking them out again.

use std::io::Write;

use anyhow::{Context, Result, bail};
use kumon_shipper::elasticsearch::{Answer, Client, Method};

use super::objects::{Object, ObjectKind};
use super::rollover::roll_over;

/// What became of the objects, counted.
#[derive(Debug, Default)]
struct Summary {
    created: u32,
    changed: u32,
    kept: u32,
}

/// Puts what is missing or changed, and lets data streams begin a new index where their mapping changed.
pub(super) fn install(client: &Client, objects: &[Object], out: &mut impl Write) -> Result<()> {
    let mut summary = Summary::default();
    let ilm = has_ilm(client)?;
    if !ilm {
        writeln!(
            out,
            "this cluster has no ILM: no retention policies are installed, rows stay until you delete them"
        )?;
    }
    for object in objects {
        if object.kind == ObjectKind::Policy && !ilm {
            continue;
        }
        summary.put(client, object, out)?;
    }
    let Summary { created, changed, kept } = summary;
    writeln!(out, "{created} created, {changed} changed, {kept} kept as they were")?;
    for object in objects.iter().filter(|object| object.kind == ObjectKind::Template) {
        roll_over(client, object, objects, out)?;
    }
    Ok(())
}

/// Takes out what [`install`] put in, as far as nothing uses it any more.
pub(super) fn remove(client: &Client, objects: &[Object], out: &mut impl Write) -> Result<()> {
    let mut in_use = false;
    // What refers to others goes first.
    for object in objects.iter().rev().filter(|object| object.kind == ObjectKind::Template) {
        in_use |= !delete(client, object, out)?;
    }
    for object in objects.iter().rev().filter(|object| object.kind != ObjectKind::Template) {
        in_use |= !delete(client, object, out)?;
    }
    writeln!(out, "data streams and their rows stay; DELETE _data_stream/NAME removes one")?;
    if in_use {
        writeln!(
            out,
            "what is in use goes with the data streams that use it: delete those, then repeat this"
        )?;
    }
    Ok(())
}

impl Summary {
    fn put(&mut self, client: &Client, object: &Object, out: &mut impl Write) -> Result<()> {
        let (label, name) = (object.kind.label(), &object.name);
        let answer = client.request(Method::Get, &object.path(), None)?;
        let word = if answer.status == 404 {
            self.created += 1;
            "created"
        } else {
            let installed = object.installed_fingerprint(&client.ok(answer)?.json());
            if installed == *object.fingerprint() {
                self.kept += 1;
                return Ok(());
            }
            if installed.is_null() {
                bail!(
                    "there is an {label} '{name}' that KuMon did not make: rename or delete it, then repeat this"
                );
            }
            self.changed += 1;
            "changed"
        };
        let put = client.request(Method::Put, &object.path(), Some(&object.body))?;
        client.ok(put).with_context(|| format!("the {label} '{name}' was not accepted"))?;
        writeln!(out, "{word} {label} {name}")?;
        Ok(())
    }
}

/// Whether it is gone.
fn delete(client: &Client, object: &Object, out: &mut impl Write) -> Result<bool> {
    let (label, name) = (object.kind.label(), &object.name);
    let answer = client.request(Method::Get, &object.path(), None)?;
    if answer.status == 404 || no_handler(&answer) {
        return Ok(true);
    }
    if object.installed_fingerprint(&client.ok(answer)?.json()).is_null() {
        writeln!(out, "left {label} {name}: KuMon did not make it")?;
        return Ok(true);
    }
    let answer = client.request(Method::Delete, &object.path(), None)?;
    if answer.status == 400 && answer.reason().contains("in use") {
        writeln!(out, "left {label} {name}: in use by a data stream")?;
        return Ok(false);
    }
    client.ok(answer).with_context(|| format!("the {label} '{name}' was not deleted"))?;
    writeln!(out, "removed {label} {name}")?;
    Ok(true)
}

fn has_ilm(client: &Client) -> Result<bool> {
    let answer = client.request(Method::Get, "_ilm/policy", None)?;
    Ok(if no_handler(&answer) {
        false
    } else {
        client.ok(answer)?;
        true
    })
}

/// Whether this cluster does not know the request at all: an API that its distribution lacks.
fn no_handler(answer: &Answer) -> bool {
    matches!(answer.status, 400 | 405 | 410)
        && ["no handler found", "Incorrect HTTP method", "not available"]
            .iter()
            .any(|text| answer.reason().contains(text))
}
