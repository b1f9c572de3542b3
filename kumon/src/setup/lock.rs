//! One setup at a time: the document `lock` of the index `kumon-setup`.
//!
//! Every step gives the same result when several nodes do it at once, but the report of each would be about the
//! others' work, and each would roll the data streams over. So the later ones wait, and find everything done.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kumon_shipper::elasticsearch::{Answer, Client, Method};
use serde_json::{Value, json};

use super::records::{INDEX, Records};

/// How often the holder shows that it is alive.
const RENEWAL: Duration = Duration::from_secs(3);
/// Who did not show it for so long has died.
const LEASE: Duration = Duration::from_secs(15);
/// How often a waiting one looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Nothing that setup does takes longer; whoever waits so long should be told.
const PATIENCE: Duration = Duration::from_secs(300);

/// A version of the document, as optimistic concurrency control names it.
#[derive(Debug, Clone, PartialEq)]
struct Version {
    number: Value,
    term: Value,
}

/// Does `work` while no other setup of this cluster does any.
///
/// # Errors
/// The work's own; and when the lock can't be had.
pub(super) fn alone<T>(records: &Records, holder: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let client = records.client();
    let version = acquire(records, holder)?;
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel();
        let renewal = scope.spawn(move || {
            let mut version = version;
            while stopped.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                match put(client, holder, Some(&version)) {
                    Ok(Some(renewed)) => version = renewed,
                    // The cluster answers late or not at all. The work hears of that itself.
                    Ok(None) | Err(_) => break,
                }
            }
            version
        });
        let done = work();
        release(client, stop, renewal);
        done
    })
}

fn acquire(records: &Records, holder: &str) -> Result<Version> {
    let client = records.client();
    let start = Instant::now();
    let mut seen: Option<(Version, Instant)> = None;
    loop {
        // Each time: whoever holds the lock may be removing everything, this index too.
        records.create_index()?;
        if let Some(version) = put(client, holder, None)? {
            return Ok(version);
        }
        // No clock of another machine is trusted: dead is who did not renew while this one looked on.
        if let Some((version, other)) = read(client)? {
            match &seen {
                Some((known, since)) if *known == version => {
                    if since.elapsed() > LEASE
                        && let Some(version) = put(client, holder, Some(&version))?
                    {
                        return Ok(version);
                    }
                }
                _ => {
                    if seen.is_none() {
                        log::info!("setup runs on {other} as well; waiting until it is done");
                    }
                    seen = Some((version, Instant::now()));
                }
            }
            if start.elapsed() > PATIENCE {
                bail!("setup has been running on {other} for {PATIENCE:?}; wait for it, then repeat this");
            }
        }
        thread::sleep(PAUSE);
    }
}

fn release(client: &Client, stop: Sender<()>, renewal: ScopedJoinHandle<'_, Version>) {
    drop(stop);
    let Ok(Version { number, term }) = renewal.join() else { return };
    let path = format!("{INDEX}/_doc/lock?if_seq_no={number}&if_primary_term={term}");
    // The index may be gone; and where this fails, the lease ends.
    let _ = client.request(Method::DELETE, &path, None);
}

/// Creates the document, or replaces this version of it; none when somebody else was there first.
fn put(client: &Client, holder: &str, replaced: Option<&Version>) -> Result<Option<Version>> {
    let path = match replaced {
        None => format!("{INDEX}/_create/lock"),
        Some(Version { number, term }) => {
            format!("{INDEX}/_doc/lock?if_seq_no={number}&if_primary_term={term}")
        }
    };
    let answer = client.request(Method::PUT, &path, Some(&json!({"holder": holder})))?;
    if answer.status == 409 {
        return Ok(None);
    }
    let answer = client.ok(answer).context("setup takes a lock in the index kumon-setup")?;
    Ok(Some(version(&answer)))
}

fn read(client: &Client) -> Result<Option<(Version, String)>> {
    let answer = client.request(Method::GET, &format!("{INDEX}/_doc/lock"), None)?;
    if answer.status == 404 {
        return Ok(None);
    }
    let answer = client.ok(answer)?;
    let holder = answer.json()["_source"]["holder"].as_str().unwrap_or("another machine").to_owned();
    Ok(Some((version(&answer), holder)))
}

fn version(answer: &Answer) -> Version {
    let mut answer = answer.json();
    Version { number: answer["_seq_no"].take(), term: answer["_primary_term"].take() }
}
