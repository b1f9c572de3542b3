//! The shipper's API key: made by who sets up, and written where only the shipper reads it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use anyhow::{Context, Result};
use kumon_shipper::elasticsearch::{Client, Method};
use kumon_spool::NewFile;
use serde_json::{Value, json};

use super::place::{Missing, missing};
use super::roles;
use crate::config::Config;

/// Makes a key of this node and writes it to `path`; `-` prints it. An existing file is kept unless `force`d.
///
/// The key carries the privileges of the role `kumon_shipper` itself, so that the role may be removed or changed
/// without touching what ships.
pub(super) fn create(
    client: &Client,
    config: &Config,
    path: &Path,
    force: bool,
    out: &mut impl Write,
) -> Result<()> {
    let to_stdout = path == Path::new("-");
    if !to_stdout && !force && path.try_exists()? {
        writeln!(out, "kept the API key in {}; --force makes another one", path.display())?;
        return Ok(());
    }
    // Before the key is made: one that can't be written would stay in the cluster, used by nobody.
    let file = if to_stdout { None } else { Some(begin(path, config)?) };
    let host = crate::host::common()?.host_name;
    let body = json!({
        "name": format!("kumon-{host}"),
        "role_descriptors": {"kumon_shipper": roles::shipper(config)?},
        "metadata": {"managed_by": "kumon", "host": host},
    });
    let answer = client.request(Method::POST, "_security/api_key", Some(&body))?;
    let answer = client.ok(answer).context("the API key was not made")?.json();
    let (id, key) = (answer["id"].as_str(), answer["encoded"].as_str());
    let (Some(id), Some(key)) = (id, key) else {
        anyhow::bail!("the cluster made an API key but did not tell it");
    };
    match file {
        None => writeln!(out, "{key}")?,
        Some(mut file) => {
            let written = writeln!(file, "{key}").and_then(|()| file.finish());
            written.with_context(|| format!("{}: the API key can't be written there", path.display()))?;
            writeln!(out, "created API key {id} of the shipper, in {}", path.display())?;
        }
    }
    Ok(())
}

/// Revokes the keys that setup made, of all nodes: those that carry its mark. Who may only manage own keys revokes those.
pub(super) fn revoke_all(client: &Client, out: &mut impl Write) -> Result<()> {
    let (revoked, refused) = match revoke(client, false)? {
        Err(Missing::Privilege(reason)) => (revoke(client, true)?, Some(reason)),
        revoked => (revoked, None),
    };
    match revoked {
        Ok(keys) => keys.iter().try_for_each(|key| writeln!(out, "revoked API key {key}"))?,
        Err(missing) => writeln!(out, "skipped API keys: {missing}")?,
    }
    if let Some(reason) = refused {
        writeln!(out, "skipped API keys that others made: {}", Missing::Privilege(reason))?;
    }
    Ok(())
}

/// Revokes the marked keys that may be seen, or one's own; names and ids of them.
fn revoke(client: &Client, own: bool) -> Result<Result<Vec<String>, Missing>> {
    let path = format!("_security/api_key?name=kumon-*&owner={own}");
    let answer = client.request(Method::GET, &path, None)?;
    if let Some(missing) = missing(answer.status, &answer.reason()) {
        return Ok(Err(missing));
    }
    let keys = client.ok(answer).context("the API keys can't be listed")?.json();
    let is_ours = |key: &&Value| key["invalidated"] == false && key["metadata"]["managed_by"] == "kumon";
    let ours: Vec<&Value> = keys["api_keys"].as_array().into_iter().flatten().filter(is_ours).collect();
    if ours.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let ids: Vec<&Value> = ours.iter().map(|key| &key["id"]).collect();
    let answer =
        client.request(Method::DELETE, "_security/api_key", Some(&json!({"ids": ids, "owner": own})))?;
    if let Some(missing) = missing(answer.status, &answer.reason()) {
        return Ok(Err(missing));
    }
    let answer = client.ok(answer).context("the API keys were not revoked")?.json();
    anyhow::ensure!(
        answer["error_count"] == 0,
        "some API keys were not revoked: {}",
        answer["error_details"]
    );
    let text = |key: &Value, field: &str| key[field].as_str().unwrap_or_default().to_owned();
    Ok(Ok(ours.into_iter().map(|key| format!("{} ({})", text(key, "name"), text(key, "id"))).collect()))
}

/// Begins the key's file. It can be read by its owner alone, who is the one that ships: the owner of the shipper's state
/// folder.
fn begin(path: &Path, config: &Config) -> Result<NewFile> {
    let new = NewFile::create(path, 0o600)
        .with_context(|| format!("{}: the API key can't be written there", path.display()))?;
    if let Ok(state) = fs::metadata(config.path.ship()) {
        fchown(new.file(), Some(state.uid()), Some(state.gid()))
            .with_context(|| format!("{}: can't be given to who ships", path.display()))?;
    }
    Ok(new)
}
