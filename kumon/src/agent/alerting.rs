//! The thread that evaluates alerts beside the shipping.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::Utc;
use kumon_alerts::Engine;
use kumon_query::Search;
use kumon_store::Store;

use crate::config::{Config, EvaluatedBy, Scope};
use crate::{alerts, host, search};

/// How long a stop waits for a message that is just being handed over; the rest is remembered.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// How often the one before is looked for, where its last message still is on the way.
const TAKEN: Duration = Duration::from_millis(200);

/// The thread, from outside.
pub(super) struct Alerting {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Alerting {
    /// Starts evaluating, where the configuration wants that of this node. A wrong alert file doesn't keep rows from
    /// being shipped: it is reported, and nothing is evaluated.
    ///
    /// # Errors
    /// When there can be no thread, or nobody to ask.
    pub(super) fn start(config: &Config, store: Option<&Store>) -> Result<Option<Alerting>> {
        if !config.alerts.enabled || config.alerts.evaluated_by == EvaluatedBy::Watcher {
            return Ok(None);
        }
        let alerts = match alerts::load(config) {
            Ok(alerts) => alerts,
            Err(e) => {
                log::error!("no alerts are evaluated: {e}");
                return Ok(None);
            }
        };
        let search: Box<dyn Search + Send> = match (store, &config.output.elasticsearch) {
            (Some(store), _) => Box::new(store.unattended()),
            (None, Some(output)) => Box::new(search::in_elasticsearch(output, config)?),
            (None, None) => return Ok(None),
        };
        let node = host::common()?.host_name;
        // All that the embedded store has is this node's.
        let host = (store.is_none() && config.alerts.scope == Scope::Node).then(|| node.clone());
        let (channels, interval) = (config.channels.clone(), config.alerts.interval);
        let folder = config.path.alerts();
        fs::create_dir_all(&folder).with_context(|| format!("{}: can't be made", folder.display()))?;
        let (stop, stopped) = channel();
        let work = move || {
            // One that was stopped may still hand over its last message, and remembers that afterwards.
            let Some(_lock) = lock(&folder, &stopped) else { return };
            match Engine::new(alerts, channels, folder, node, host) {
                Ok(engine) => evaluate(engine, &*search, interval, &stopped),
                Err(e) => log::error!("no alerts are evaluated: {e}"),
            }
        };
        let thread = std::thread::Builder::new().name("alerts".into()).spawn(work)?;
        Ok(Some(Alerting { stop, thread }))
    }

    /// Ends it, at the latest when the process ends.
    pub(super) fn stop(self) {
        drop(self.stop);
        let limit = Instant::now() + STOP_LIMIT;
        while !self.thread.is_finished() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The first round comes after one interval, when rows of the present are there.
fn evaluate(mut engine: Engine, search: &dyn Search, interval: Duration, stopped: &Receiver<()>) {
    let now = || Utc::now().timestamp_millis();
    let mut next = Instant::now() + interval;
    loop {
        engine.deliver(now());
        let mut wait = next.saturating_duration_since(Instant::now());
        if let Some(due) = engine.next_delivery() {
            wait = wait.min(Duration::from_millis(u64::try_from(due - now()).unwrap_or(0)));
        }
        if !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        if Instant::now() >= next {
            engine.round(search, now());
            next = Instant::now() + interval;
        }
    }
}

/// The folder's lock, held as long as the file is open; `None` when stopped before.
fn lock(folder: &Path, stopped: &Receiver<()>) -> Option<File> {
    let path = folder.join("lock");
    loop {
        let locked = File::create(&path).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        });
        match locked {
            Ok(Some(file)) => return Some(file),
            Ok(None) => {}
            Err(e) => {
                log::error!("no alerts are evaluated: {}: can't be locked: {e}", path.display());
                return None;
            }
        }
        if !matches!(stopped.recv_timeout(TAKEN), Err(RecvTimeoutError::Timeout)) {
            return None;
        }
    }
}
