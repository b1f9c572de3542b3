//! The shipper: tails CSV and NDJSON files and delivers every row exactly once to a sink.

mod backoff;
mod batch;
mod batch_sizer;
mod checkpoint;
mod checkpoint_writer;
mod content;
mod dead_letters;
mod decode;
mod delivery;
pub mod elasticsearch;
mod encoder;
mod error;
mod file_position;
mod handle;
mod ledger;
mod options;
mod paused_streams;
mod scan_schedule;
mod shipper;
mod sink;
mod sources;
mod stats;
mod stream;
mod sync_requests;
mod throttle;
mod worker;

pub use batch::{Batch, Document};
pub use dead_letters::{
    DeadLetter, DeadLetterFolder, Deliver, LetterFilter, LetterKind, RefusedAgain, Replayed, Waiting, replay,
};
pub use decode::{Encoding, Times, TimesError, UnknownEncoding, with_field_names};
pub use encoder::{Constant, Encoder, FieldName, JsonEncoder, RowId, Value};
pub use error::ShipperError;
pub use handle::Handle;
pub use options::{Dialect, Format, Input, Options};
pub use shipper::{Ended, Shipper};
pub use sink::{Held, Outcome, Rejected, Sink, SinkError};
pub use sources::SpoolReader;
pub use stats::{Delivered, Halted, Stats};
pub use stream::StreamName;
