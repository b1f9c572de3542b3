//! The spool folder: the contract between what collects and what ships.

mod file;
mod spool;

pub use file::{FileId, FileName};
pub use spool::{Limits, Spool, SpoolError, Stats};
