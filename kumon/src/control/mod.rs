//! The control protocol: what other processes ask of a running agent, over a Unix socket in each side's state folder.
//! docs/control.md describes it.

mod client;
mod protocol;
mod server;

pub(crate) use client::Client;
pub(crate) use protocol::{
    Answer, CollectorsReport, DecidedBy, MetricReport, MetricState, Refusal, Request, Switch, Switched,
};
pub(crate) use server::{ControlServer, Peer, Responder};
