//! The shipper: tails CSV and NDJSON files and delivers every row exactly once to a sink.

mod batch;
mod decode;
mod sink;

pub use batch::{Batch, Document, StreamName};
pub use sink::{Outcome, Rejected, Sink, SinkError};
