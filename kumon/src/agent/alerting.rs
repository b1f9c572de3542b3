//! The thread that evaluates alerts beside the shipping.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::Utc;
use kumon_alerts::{Alert, Alerts, Engine};
use kumon_query::Search;
use kumon_store::Store;

use crate::config::{Config, EvaluatedBy, Scope};
use crate::{alerts, explain, host, search};

/// How long a stop waits for a message that is just being handed over; the rest is remembered.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// How often the one before is looked for, where its last message still is on the way.
const TAKEN: Duration = Duration::from_millis(200);

/// The thread, from outside.
pub(super) struct Alerting {
    /// None where this node evaluates nothing.
    running: Option<Running>,
    /// What is not evaluated though it should be, and why.
    left_out: Vec<String>,
}

struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Alerting {
    /// Starts evaluating, where the configuration wants that of this node. Nothing that is wrong with alerts keeps rows
    /// from being collected and shipped: it is reported, and left out.
    pub(super) fn start(config: &Config, store: Option<&Store>) -> Alerting {
        if !config.alerts.enabled || config.alerts.evaluated_by == EvaluatedBy::Watcher {
            return Alerting { running: None, left_out: Vec::new() };
        }
        let Alerts { mut usable, wrong } = alerts::load(config);
        usable.retain(|alert| config.alerts.evaluator(alert) == EvaluatedBy::Kumon);
        let mut left_out: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        let running = run(usable, config, store).unwrap_or_else(|e| {
            left_out.push(format!("no alerts are evaluated: {}", explain(&e)));
            None
        });
        left_out.iter().for_each(|what| log::error!("{what}"));
        Alerting { running, left_out }
    }

    /// What is not evaluated though it should be, and why.
    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Ends it, at the latest when the process ends.
    pub(super) fn stop(&mut self) {
        let Some(Running { stop, thread }) = self.running.take() else { return };
        drop(stop);
        let limit = Instant::now() + STOP_LIMIT;
        while !thread.is_finished() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts the thread; none where there is nobody to ask.
fn run(alerts: Vec<Alert>, config: &Config, store: Option<&Store>) -> Result<Option<Running>> {
    let outputs = config.outputs()?;
    let asked = search::for_alerts(config, &outputs);
    let search: Box<dyn Search + Send> = match (store, search::in_elasticsearch(asked, config)?) {
        (_, Some(elasticsearch)) => Box::new(elasticsearch),
        (Some(store), None) => Box::new(store.unattended()),
        (None, None) => return Ok(None),
    };
    let node = host::common()?.host_name;
    // All that the embedded store has is this node's.
    let host = (!asked.is_store() && config.alerts.scope == Scope::Node).then(|| node.clone());
    let (channels, interval, folder) =
        (config.channels.clone(), config.alerts.interval, config.path.alerts());
    let (stop, stopped) = channel();
    let work = move || {
        // One that was stopped may still hand over its last message, and remembers that afterwards.
        let Ok(_lock) = lock(&folder, &stopped) else { return };
        match Engine::new(alerts, channels, folder, node, host) {
            Ok(engine) => evaluate(engine, &*search, interval, &stopped),
            Err(e) => log::error!("no alerts are evaluated: {e}"),
        }
    };
    let thread = std::thread::Builder::new().name("alerts".into()).spawn(work)?;
    Ok(Some(Running { stop, thread }))
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

/// Who is to evaluate was stopped before.
struct StoppedBefore;

/// The folder's lock, held as long as the file is open. None where there can be no lock: alerts are told also where
/// they can't be remembered.
fn lock(folder: &Path, stopped: &Receiver<()>) -> Result<Option<File>, StoppedBefore> {
    let path = folder.join("lock");
    loop {
        let opened = fs::create_dir_all(folder).and_then(|()| File::create(&path));
        let locked = opened.and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        });
        match locked {
            Ok(Some(file)) => return Ok(Some(file)),
            Ok(None) => {}
            Err(e) => {
                log::warn!("{}: can't be locked: {e}; alerts are evaluated all the same", path.display());
                return Ok(None);
            }
        }
        if !matches!(stopped.recv_timeout(TAKEN), Err(RecvTimeoutError::Timeout)) {
            return Err(StoppedBefore);
        }
    }
}
