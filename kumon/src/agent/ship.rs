//! The shipping side: the shipper with its sink, and with the embedded store the server that answers queries.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kumon_collect::Clock;
use kumon_query::Search;
use kumon_shipper::elasticsearch::ElasticsearchSink;
use kumon_shipper::{DeadLetterFolder, Delivered, Ended, Halted, Handle, Options, Shipper, Sink};
use kumon_spool::{Limits, Spool};
use kumon_store::{Store, StoreOptions};

use super::alerting::Alerting;
use super::cost::Cost;
use super::ledger::Ledger;
use super::live_store::LiveStore;
use super::questions::Questions;
use super::status::{self, ShipStatus};
use crate::config::{Config, default_batch_bytes};
use crate::control::ControlServer;
use crate::host;
use crate::search;

/// How often the ledger's rows are written, when rows were shipped besides them and when none were: its own rows would
/// keep an idle shipper at work.
const LEDGER_INTERVAL: Duration = Duration::from_secs(10);
const IDLE_LEDGER_INTERVAL: Duration = Duration::from_secs(60);
/// A status that has not changed is confirmed so often, to show that the agent lives.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The questions of a page that is loaded share one look for new rows.
const FRESH: Duration = Duration::from_secs(1);

/// The ledger's own rows.
const OWN: &str = "kumon.agent";

/// The shipping thread, from outside.
pub(super) struct Shipping {
    handle: Handle,
    thread: JoinHandle<Ended>,
    server: Option<ControlServer>,
    store: Option<Store>,
    alerting: Alerting,
    output: String,
    state: PathBuf,
    ledger: Ledger,
    /// For the ledger's rows only.
    spool: Spool,
    last_ledger: Instant,
    /// What had been delivered then, of all but the ledger's own rows.
    shipped: Shipped,
    /// The shipper's revision when the status was last looked at.
    revision: Option<u64>,
    /// What the status file holds, where that is known.
    written: Option<ShipStatus>,
    /// When that was written, tried or confirmed.
    written_at: Instant,
}

/// By dataset.
type Shipped = BTreeMap<String, Delivered>;

impl Shipping {
    /// Starts shipping.
    ///
    /// # Errors
    /// When another agent ships with this state folder, or the output can't be set up. An Elasticsearch that is away
    /// is no error: rows wait.
    pub(super) fn start(config: &Config) -> Result<Shipping> {
        let common = host::common()?;
        let options = Options {
            spool: config.path.spool.clone(),
            state: config.path.ship(),
            inputs: config.shipper_inputs()?,
            namespace: config.namespace.0.clone(),
            common: common.clone(),
            batch_bytes: batch_bytes(config),
            dead_letter_bytes: config.dead_letters.max_bytes.as_u64(),
            retry_initial: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
        };
        let (sink, store, output) = open_output(config)?;
        let (shipper, handle) = Shipper::new(options, sink)?;
        let state = config.path.ship();
        // Shedding is the collecting side's, which counts what is lost.
        let limits = Limits { spool_bytes: u64::MAX, ..config.spool.limits() };
        let spool = Spool::open(&config.path.spool, limits)?;
        let alerting = Alerting::start(config, store.as_ref());
        let server = store
            .clone()
            .map(|store| {
                let questions = Questions::new(store, handle.clone(), DeadLetterFolder::of(&state));
                ControlServer::start(&config.path.ship_socket(), questions)
            })
            .transpose()?;
        let thread = std::thread::Builder::new().name("ship".into()).spawn(move || shipper.run())?;
        let now = Instant::now();
        let mut shipping = Shipping {
            handle,
            thread,
            server,
            store,
            alerting,
            output,
            state,
            ledger: Ledger::new(common, config.spool.format.clone()),
            spool,
            last_ledger: now,
            shipped: Shipped::new(),
            revision: None,
            written: None,
            written_at: now,
        };
        shipping.write_status();
        Ok(shipping)
    }

    /// What it has done so far.
    pub(super) fn status(&self) -> ShipStatus {
        status(&self.handle, &self.output, &self.alerting)
    }

    /// Who answers the page's questions.
    ///
    /// # Errors
    /// When a file that the output names can't be used, or there is no store.
    pub(super) fn search(&self, config: &Config) -> Result<Arc<dyn Search + Send + Sync>> {
        match &self.store {
            Some(store) => Ok(Arc::new(LiveStore::new(store.clone(), self.handle.clone(), FRESH))),
            None => Ok(Arc::from(search::open(config)?)),
        }
    }

    /// For what is to be asked after its end.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Regular work beside the shipping: the status file and, when they are due, the ledger's rows. `alone` says
    /// that no collecting side in this process reports the process's cost.
    pub(super) fn keep_books(&mut self, alone: bool) {
        self.write_status();
        if self.last_ledger.elapsed() < LEDGER_INTERVAL {
            return;
        }
        let stats = self.handle.stats();
        let shipped: Shipped = stats
            .datasets
            .iter()
            .filter(|(dataset, _)| *dataset != OWN)
            .map(|(d, n)| (d.clone(), *n))
            .collect();
        if shipped == self.shipped && self.last_ledger.elapsed() < IDLE_LEDGER_INTERVAL {
            return;
        }
        (self.last_ledger, self.shipped) = (Instant::now(), shipped);
        let clock = Clock::new();
        self.ledger.shipped(&stats, &clock, &mut self.spool);
        if alone {
            self.ledger.process("ship", Cost::now(), &clock, &mut self.spool);
        }
        if let Err(e) = self.spool.flush() {
            log::warn!("the shipper's own rows wait: {e}");
        }
    }

    /// Writes the status where it changed; where it didn't, confirms the file from time to time.
    fn write_status(&mut self) {
        let is_due = self.written_at.elapsed() >= STATUS_INTERVAL;
        let revision = Some(self.handle.revision());
        if !is_due && revision == self.revision {
            return;
        }
        self.revision = revision;
        let status = self.status();
        let is_news = self.written.as_ref() != Some(&status);
        if !is_due && !is_news {
            return;
        }
        let written = match is_news {
            true => write_status(&self.state, status.clone()),
            false => status::confirm(&self.state),
        };
        // What could not be written, or was taken away, is written when it is due again.
        self.written = logged(&self.state, written).then_some(status);
        self.written_at = Instant::now();
    }

    /// Whether the thread still works; it ends by itself only of a bug.
    pub(super) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ships what stands in the files, for at most `limit`, and ends.
    pub(super) fn stop(mut self, limit: Duration) -> Result<Ended> {
        self.alerting.stop();
        if let Err(e) = self.spool.close() {
            log::warn!("the shipper's own rows are lost: {e}");
        }
        self.handle.stop(limit);
        let ended = self.thread.join().ok().context("the shipping thread died; rows wait in their files")?;
        let written = write_status(&self.state, status(&self.handle, &self.output, &self.alerting));
        logged(&self.state, written);
        if let Some(server) = self.server {
            server.stop();
        }
        Ok(ended)
    }
}

/// What can be told without asking the kernel for the process's cost, as it is asked for once a second.
fn status(handle: &Handle, output: &str, alerting: &Alerting) -> ShipStatus {
    let stats = handle.stats();
    let counted = |count: fn(&kumon_shipper::Delivered) -> u64| {
        let counts =
            stats.datasets.iter().map(move |(dataset, delivered)| (dataset.clone(), count(delivered)));
        counts.filter(|(_, count)| *count > 0).collect()
    };
    ShipStatus {
        output: output.to_owned(),
        rows: counted(|delivered| delivered.created),
        dead_letters: counted(|delivered| delivered.dead_letters),
        dead_letters_dropped: stats.dead_letters_dropped,
        halted: stats.halted.as_ref().map(|halted| halted.reason.clone()),
        halted_since: stats.halted.as_ref().map(since),
        held: stats
            .held
            .iter()
            .map(|(stream, halted)| (stream.clone(), (since(halted), halted.reason.clone())))
            .collect(),
        last_letters: stats.last_letters,
        stuck: stats.stuck,
        notes: stats.notes,
        alerts_left_out: alerting.left_out().to_vec(),
        lag: stats.lag,
        ..ShipStatus::default()
    }
}

/// RFC 3339.
fn since(halted: &Halted) -> String {
    chrono::DateTime::<chrono::Utc>::from(halted.since).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn write_status(state: &Path, status: ShipStatus) -> io::Result<()> {
    let (pid, cost) = (std::process::id(), Cost::now());
    let status = ShipStatus { pid, memory: cost.memory, cpu_time: cost.cpu, ..status };
    status::write(state, &status)
}

/// Whether the status is there; else the log says why not.
fn logged(state: &Path, written: io::Result<()>) -> bool {
    if let Err(e) = &written {
        log::warn!("{}: the status can't be written: {e}", state.display());
    }
    written.is_ok()
}

fn batch_bytes(config: &Config) -> usize {
    let configured = config.output.elasticsearch.as_ref().map(|output| output.batch_bytes);
    configured.unwrap_or_else(default_batch_bytes).as_u64() as usize
}

/// The sink of the configuration.
///
/// # Errors
/// When it can't be set up, or an agent has the embedded store open.
pub(crate) fn open_sink(config: &Config) -> Result<Box<dyn Sink>> {
    Ok(open_output(config)?.0)
}

/// The sink of the configuration; with the embedded store also what answers queries.
fn open_output(config: &Config) -> Result<(Box<dyn Sink>, Option<Store>, String)> {
    if let Some(output) = &config.output.elasticsearch {
        let sink = ElasticsearchSink::new(output.client_options()?)?;
        return Ok((Box::new(sink), None, format!("elasticsearch {}", output.hosts.join(", "))));
    }
    let root = config.path.store();
    let options = StoreOptions {
        keep_days: config.store.keep_days,
        keep_bytes: config.store.keep_bytes.as_u64(),
        ..StoreOptions::default()
    };
    let (sink, store) = Store::open_for_writing(&root, options)?;
    Ok((Box::new(sink), Some(store), format!("embedded store {}", root.display())))
}
