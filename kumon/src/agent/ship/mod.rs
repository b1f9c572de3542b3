//! The shipping side: a shipper for each output, and with the embedded store the server that answers queries.

mod books;
mod folders;
mod output;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kumon_query::Search;
use kumon_shipper::{DeadLetterFolder, Ended, Handle, ShipperError, SpoolReader};
use kumon_spool::FolderLock;
use kumon_store::Store;

use super::alerting::Alerting;
use super::live_store::LiveStore;
use super::questions::Questions;
use super::status::ShipStatus;
use crate::config::{Config, NamedOutput, Outputs};
use crate::control::ControlServer;
use crate::{host, search};
use books::Books;
pub(crate) use output::open_sink;
use output::{FailedOutput, Output, ReadyOutput};

/// The questions of a page that is loaded share one look for new rows.
const FRESH: Duration = Duration::from_secs(1);

/// The shipping threads, from outside.
pub(super) struct Shipping {
    outputs: Vec<Output>,
    failed: Vec<FailedOutput>,
    /// Whether they are a list, in which each has its own name.
    are_listed: bool,
    server: Option<ControlServer>,
    /// The embedded store, and who ships into it.
    store: Option<(Store, Handle)>,
    alerting: Alerting,
    books: Books,
    /// None where one of the shippers has it.
    _lock: Option<FolderLock>,
}

impl Shipping {
    /// Starts shipping.
    ///
    /// # Errors
    /// When another agent ships with this state folder, or an output can't be set up. An Elasticsearch that is away
    /// is no error: rows wait. Nor is a store that can't be opened beside other outputs: they ship.
    pub(super) fn start(config: &Config) -> Result<Shipping> {
        let common = host::common()?;
        let outputs = config.outputs()?;
        // First: who has the embedded store open tells which process that is.
        let mut opened = Vec::new();
        let mut failed = Vec::new();
        for output in &outputs.all {
            match output::open(config, output) {
                Ok(sink) => opened.push(Some(sink)),
                // What the configuration names is as wrong later; a store's lock or full disk may pass.
                Err(e) if output.is_store() && outputs.all.len() > 1 => {
                    failed.push(FailedOutput::new(config, output, &e));
                    opened.push(None);
                }
                Err(e) if outputs.are_listed => {
                    return Err(e.context(format!("the output '{}'", output.name)));
                }
                Err(e) => return Err(e),
            }
        }
        let (folders, lock) = claim(config, &outputs)?;
        // A shipper takes the lock of its folder itself.
        let own = config.path.ship();
        let is_taken = opened.iter().zip(&folders).any(|(opened, folder)| opened.is_some() && *folder == own);
        let lock = (!is_taken).then_some(lock);
        let readers = SpoolReader::several(outputs.all.len());
        let mut ready = Vec::new();
        for (((output, opened), folder), reader) in outputs.all.iter().zip(opened).zip(folders).zip(readers) {
            if let Some(opened) = opened {
                ready.push(ReadyOutput::new(config, &common, (output, opened), folder, reader)?);
            }
        }
        let books = Books::new(config, common)?;
        let embedded = ready.iter().find_map(|output| Some((output.store.clone()?, output)));
        let store = embedded.as_ref().map(|(store, output)| (store.clone(), output.handle.clone()));
        let alerting = Alerting::start(config, store.as_ref().map(|(store, _)| store));
        let server = embedded
            .map(|(store, output)| {
                let letters = DeadLetterFolder::of(&output.state);
                let questions = Questions::new(store, output.handle.clone(), letters);
                ControlServer::start(&config.path.ship_socket(), questions)
            })
            .transpose()?;
        let are_listed = outputs.are_listed;
        let outputs = run_all(ready)?;
        let mut shipping =
            Shipping { outputs, failed, are_listed, server, store, alerting, books, _lock: lock };
        shipping.write_status();
        Ok(shipping)
    }

    /// What it has done so far. Without the process's cost, for which the kernel would be asked once a second.
    pub(super) fn status(&self) -> ShipStatus {
        status(&self.outputs, &self.failed, self.are_listed, &self.alerting)
    }

    /// Whether an output that failed can be opened by now: then shipping is to be started anew, with it.
    pub(super) fn is_to_start_anew(&mut self, config: &Config) -> bool {
        self.failed.iter_mut().any(|failed| failed.can_be_opened(config))
    }

    /// Who answers the page's questions.
    ///
    /// # Errors
    /// When a file that the output names can't be used, or there is no store.
    pub(super) fn search(&self, config: &Config) -> Result<Arc<dyn Search + Send + Sync>> {
        match &self.store {
            Some((store, handle)) => Ok(Arc::new(LiveStore::new(store.clone(), handle.clone(), FRESH))),
            None => Ok(Arc::from(search::open(config, None)?)),
        }
    }

    /// For what is to be asked after its end: each output's description, and who ships there.
    pub(super) fn handles(&self) -> Vec<(String, Handle)> {
        self.outputs.iter().map(|output| (output.description.clone(), output.handle.clone())).collect()
    }

    /// Regular work beside the shipping: the status file and, when they are due, the ledger's rows. `alone` says
    /// that no collecting side in this process reports the process's cost.
    pub(super) fn keep_books(&mut self, alone: bool) {
        self.write_status();
        self.books.write_ledger(&self.outputs, alone);
    }

    fn write_status(&mut self) {
        let Shipping { outputs, failed, alerting, books, .. } = self;
        books.write_status(outputs, || status(outputs, failed, self.are_listed, alerting));
    }

    /// Whether the threads still work; one ends by itself only of a bug.
    pub(super) fn is_running(&self) -> bool {
        self.outputs.iter().all(Output::is_running)
    }

    /// Ships what stands in the files, for at most `limit`, and ends. What is undelivered is that of the output which has
    /// most of it.
    pub(super) fn stop(mut self, limit: Duration) -> Result<Ended> {
        self.alerting.stop();
        self.books.close();
        self.outputs.iter().for_each(|output| output.handle.stop(limit));
        let mut undelivered = 0;
        for output in &mut self.outputs {
            undelivered = undelivered.max(output.join()?.undelivered);
        }
        self.books.end(self.status());
        if let Some(server) = self.server {
            server.stop();
        }
        Ok(Ended { undelivered })
    }
}

/// Starts them all, or none.
fn run_all(ready: Vec<ReadyOutput>) -> Result<Vec<Output>> {
    let mut outputs: Vec<Output> = Vec::new();
    let are_several = ready.len() > 1;
    for output in ready {
        match output.start(are_several) {
            Ok(output) => outputs.push(output),
            Err(e) => {
                outputs.iter().for_each(|output| output.handle.stop(Duration::ZERO));
                return Err(e);
            }
        }
    }
    Ok(outputs)
}

/// The outputs' state folders, and the lock of the shipping side's.
fn claim(config: &Config, outputs: &Outputs) -> Result<(Vec<PathBuf>, FolderLock)> {
    let root = config.path.ship();
    let failed = |source| ShipperError::Folder { path: root.clone(), source };
    let lock = FolderLock::take(&root).map_err(failed)?.ok_or_else(|| ShipperError::InUse(root.clone()))?;
    let folders = folders::claim(&config.path.spool, &root, outputs)?;
    Ok((folders, lock))
}

/// The state folder of an output, as it is or will be.
///
/// # Errors
/// When the shipper's state folder can't be read.
pub(crate) fn output_folder(config: &Config, output: &NamedOutput) -> Result<PathBuf> {
    let outputs = config.outputs()?;
    let folders = folders::folders(&config.path.ship(), &outputs)?;
    let found = outputs.all.iter().zip(folders).find(|(other, _)| other.name == output.name);
    found.map(|(_, folder)| folder).with_context(|| format!("there is no output '{}'", output.name))
}

fn status(outputs: &[Output], failed: &[FailedOutput], are_listed: bool, alerting: &Alerting) -> ShipStatus {
    let mut status = ShipStatus { alerts_left_out: alerting.left_out().to_vec(), ..ShipStatus::default() };
    for output in outputs {
        let of_output = books::output_status(output.handle.stats(), &output.description);
        match are_listed {
            true => _ = status.outputs.insert(output.name.clone(), of_output),
            false => status.single = Some(of_output),
        }
    }
    status.outputs.extend(failed.iter().map(|of| (of.output.name.clone(), books::failed_status(of))));
    status
}
