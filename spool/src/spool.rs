//! Writing the spool.

use std::path::Path;

use kumon_schema::{Common, Row};

/// The writing side of the spool folder.
pub struct Spool;

/// When files are closed and when the oldest are shed.
#[derive(Debug, Clone, Default)]
pub struct Limits;

/// stub
#[derive(Debug, Clone, Default)]
pub struct Stats;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("stub")]
    Stub,
}

impl Spool {
    /// Opens the folder for writing.
    pub fn open(_root: &Path, _common: Common, _limits: Limits) -> Result<Spool, SpoolError> {
        Ok(Spool)
    }

    /// Appends a row to its metric's file; it is buffered until [`Spool::flush`].
    pub fn append<R: Row>(&mut self, _row: &R) {}
}
