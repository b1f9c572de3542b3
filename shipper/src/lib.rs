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
mod discovery;
pub mod elasticsearch;
mod encoder;
mod error;
mod file_index;
mod file_position;
mod gunzip;
mod handle;
mod holes;
mod inputs;
mod ledger;
mod open;
mod options;
mod pattern;
mod paused_streams;
mod remembered;
mod rotated;
mod shipper;
mod sink;
mod source;
mod sources;
mod spool_files;
mod spool_reader;
mod stats;
mod stream;
mod tail;
mod throttle;
mod unpack;
mod watch;
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
pub use spool_reader::SpoolReader;
pub use stats::{Delivered, Halted, Stats};
pub use stream::StreamName;
