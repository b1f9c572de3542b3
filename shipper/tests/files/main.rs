//! Files to a sink, whatever happens to either. The sink is a stand-in (see there); files, processes and locks are
//! real.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bulk_server;
mod compressed;
mod copies;
mod csv_edges;
mod dead_letters;
mod encodings;
mod faults;
mod folders;
mod hang;
mod holes;
mod identity;
mod inputs;
mod kills;
mod logs;
mod outage;
mod random;
mod replaced;
mod restart;
mod rotation;
mod several;
mod silence;
mod spool;
mod stand_in;
mod support;
