//! One output at work: a shipper of its own, in a thread of its own.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use kumon_schema::Common;
use kumon_shipper::elasticsearch::ElasticsearchSink;
use kumon_shipper::{Ended, Handle, Options, Shipper, Sink, SpoolReader};
use kumon_store::{Store, StoreOptions};

use crate::config::{Config, NamedOutput, Target, default_batch_bytes};
use crate::explain;

/// Where rows can go.
pub(super) struct OpenedOutput {
    sink: Box<dyn Sink>,
    /// Of the embedded store: what answers queries.
    store: Option<Store>,
    description: String,
}

/// A shipper that can be started.
pub(super) struct ReadyOutput {
    shipper: Shipper,
    pub(super) handle: Handle,
    name: String,
    description: String,
    pub(super) state: PathBuf,
    pub(super) store: Option<Store>,
}

/// One of several that could not be opened. The others ship, and their files wait for this one.
pub(super) struct FailedOutput {
    pub(super) output: NamedOutput,
    pub(super) description: String,
    pub(super) reason: String,
    wait: Duration,
    pub(super) next_try: Instant,
}

/// A shipping thread, from outside.
pub(super) struct Output {
    pub(super) name: String,
    /// `elasticsearch` with its hosts, or the embedded store's folder.
    pub(super) description: String,
    pub(super) handle: Handle,
    /// None once it was waited for.
    thread: Option<JoinHandle<Ended>>,
}

impl ReadyOutput {
    /// # Errors
    /// When another agent ships with this state folder, or its checkpoint can't be used.
    pub(super) fn new(
        config: &Config,
        common: &Common,
        (output, opened): (&NamedOutput, OpenedOutput),
        state: PathBuf,
        reader: SpoolReader,
    ) -> Result<ReadyOutput> {
        let OpenedOutput { sink, store, description } = opened;
        let batch_bytes = match &output.target {
            Target::Elasticsearch(output) => output.batch_bytes,
            Target::Store => default_batch_bytes(),
        };
        let options = Options {
            spool: config.path.spool.clone(),
            state: state.clone(),
            inputs: config.shipper_inputs()?,
            namespace: config.namespace.0.clone(),
            common: common.clone(),
            batch_bytes: batch_bytes.as_u64() as usize,
            dead_letter_bytes: config.dead_letters.max_bytes.as_u64(),
            retry_initial: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
        };
        let (shipper, handle) = Shipper::beside_others(options, sink, reader)?;
        Ok(ReadyOutput { shipper, handle, name: output.name.clone(), description, state, store })
    }

    pub(super) fn start(self, are_several: bool) -> Result<Output> {
        let ReadyOutput { shipper, handle, name, description, .. } = self;
        let thread_name = if are_several { format!("ship {name}") } else { "ship".into() };
        let thread = std::thread::Builder::new().name(thread_name).spawn(move || shipper.run())?;
        Ok(Output { name, description, handle, thread: Some(thread) })
    }
}

impl FailedOutput {
    const FIRST_WAIT: Duration = Duration::from_secs(1);
    const LONGEST_WAIT: Duration = Duration::from_secs(60);

    pub(super) fn new(config: &Config, output: &NamedOutput, reason: &Error) -> FailedOutput {
        let (reason, wait) = (explain(reason), FailedOutput::FIRST_WAIT);
        log::error!("the output '{}' failed: {reason}; the others ship, and it is tried again", output.name);
        let description = description(config, &output.target);
        FailedOutput { output: output.clone(), description, reason, wait, next_try: Instant::now() + wait }
    }

    /// Tries again where it is time for that; whether it could be opened now.
    pub(super) fn can_be_opened(&mut self, config: &Config) -> bool {
        if Instant::now() < self.next_try {
            return false;
        }
        let Err(e) = open(config, &self.output) else { return true };
        self.reason = explain(&e);
        self.wait = (self.wait * 2).min(FailedOutput::LONGEST_WAIT);
        self.next_try = Instant::now() + self.wait;
        false
    }
}

impl Output {
    /// Whether the thread still works; it ends by itself only of a bug.
    pub(super) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits for its end, which its handle asked for.
    pub(super) fn join(&mut self) -> Result<Ended> {
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended.context("the shipping thread died; rows wait in their files")
    }
}

/// The sink of an output.
///
/// # Errors
/// When it can't be set up, or an agent has the embedded store open.
pub(crate) fn open_sink(config: &Config, output: &NamedOutput) -> Result<Box<dyn Sink>> {
    Ok(open(config, output)?.sink)
}

/// The sink of an output; with the embedded store also what answers queries. An Elasticsearch that is away is no error:
/// rows wait.
///
/// # Errors
/// As [`open_sink`].
pub(super) fn open(config: &Config, output: &NamedOutput) -> Result<OpenedOutput> {
    let description = description(config, &output.target);
    if let Some(options) = output.client_options()? {
        let sink = Box::new(ElasticsearchSink::new(options)?);
        return Ok(OpenedOutput { sink, store: None, description });
    }
    let root = config.path.store();
    let options = StoreOptions {
        keep_days: config.store.keep_days,
        keep_coarse_days: config.store.keep_coarse_days,
        keep_bytes: config.store.keep_bytes.as_u64(),
        ..StoreOptions::default()
    };
    let (sink, store) = Store::open_for_writing(&root, options)?;
    Ok(OpenedOutput { sink: Box::new(sink), store: Some(store), description })
}

/// `elasticsearch` with its hosts, or the embedded store's folder.
fn description(config: &Config, target: &Target) -> String {
    match target {
        Target::Elasticsearch(output) => format!("elasticsearch {}", output.hosts.join(", ")),
        Target::Store => format!("embedded store {}", config.path.store().display()),
    }
}
