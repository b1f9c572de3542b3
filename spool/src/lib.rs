//! The spool folder: the contract between what collects and what ships.
//!
//! ```text
//! <spool>/<metric>/<metric>-<id>.v<version>.csv    rows; line one is the header
//! <spool>/<metric>/<metric>-<id>.v<version>.ndjson rows as documents, where the metric's format is NDJSON
//! <spool>/<metric>/schema-v<version>.json          the schema of that version, for readers of another release
//! <spool>/.acknowledged                            how far the shipper, of several each, has delivered each file
//! ```
//!
//! Files are never reused, renamed or rewritten. Two locks tell what is going on with one, also after a crash:
//! its writer holds a `flock` on it while it may grow, and whoever has rows of it in flight holds a read lock
//! (`F_OFD_SETLK`), which keeps the collector from shedding it at the spool's size limit.

mod acknowledged;
mod batch;
mod file;
mod folder;
mod lock;
mod new_file;
mod participants;
mod shed;
mod writer;

pub use acknowledged::Acknowledged;
pub use batch::{Formats, RowBatch};
pub use file::{FileName, SpoolFile, list, open, read, remove, sidecar};
pub use folder::make_folder;
pub use lock::{FolderLock, is_being_written, lock_for_reading, release_reading};
pub use new_file::NewFile;
pub use writer::{Limits, Lost, Spool, SpoolError, Stats};
