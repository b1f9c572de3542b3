//! The agent at work: collecting, shipping, or both in one process.

mod alerting;
mod collect;
mod cost;
mod ledger;
mod live_store;
mod questions;
mod run;
mod ship;
mod status;
mod summary;

pub(crate) use collect::{Override, Switches, metrics_on, with_overrides};
pub(crate) use run::{Parts, run};
pub(crate) use ship::{open_sink, output_folder};
pub(crate) use status::{CollectStatus, OutputFault, OutputStatus, ShipStatus, Status, read as read_status};
