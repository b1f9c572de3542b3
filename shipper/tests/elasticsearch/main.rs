//! The sink against a real Elasticsearch, and against a stand-in for the faults that a healthy one does not have.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delivery;
mod end_to_end;
mod faults;
mod field_names;
mod relay;
mod replay;
mod rollover;
mod server_errors;
mod server_faults;
mod shipping;
mod support;
mod tls;
