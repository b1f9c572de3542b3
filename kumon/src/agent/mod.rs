//! The agent at work: collecting, shipping, or both in one process.

mod alerting;
mod collect;
mod cost;
mod ledger;
mod live_store;
mod query_server;
mod run;
mod ship;
mod status;
mod summary;

pub(crate) use query_server::Remote;
pub(crate) use run::{Parts, run};
pub(crate) use ship::{open_sink, output_folder};
pub(crate) use status::{CollectStatus, OutputStatus, ShipStatus, Status, read as read_status};
