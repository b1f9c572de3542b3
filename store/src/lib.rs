//! The embedded store: rows kept and searched on this machine, without Elasticsearch.
//!
//! One tantivy index per day on which rows came in, all metrics in it. One process writes; its commits carry rows and
//! file positions together, so that a kill at any moment neither loses nor doubles a row. Any number of threads and
//! processes read. See `docs/store.md`.

// As tests of other crates do, what these share with them calls this one by its name.
#[cfg(test)]
extern crate self as kumon_store;

mod aggregations;
mod commit_payload;
#[cfg(test)]
mod day_tests;
mod days;
mod document;
mod encoder;
mod error;
mod filter;
mod layout;
mod like_elasticsearch;
mod lock;
mod newest;
mod open_days;
mod query;
mod reader;
mod retention;
mod sink;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod thin;
mod tokenizer;
mod trim;
mod values;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use encoder::StoreEncoder;
pub use error::StoreError;
pub use reader::Store;
pub use sink::StoreSink;

/// How rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Days before today that are kept.
    pub keep_days: u32,
    /// Days before today of which the rows by 10 minutes are kept.
    pub keep_coarse_days: u32,
    /// Bytes that are kept; today's are never dropped.
    pub keep_bytes: u64,
    /// How long rows may wait for their commit while nobody is looking; a second while somebody is.
    pub commit_interval: Duration,
    /// Commit anyway after so many bytes: what a crash makes the shipper send again.
    pub commit_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            keep_days: 30,
            keep_coarse_days: 1826,
            keep_bytes: 10_000_000_000,
            commit_interval: Duration::from_secs(10),
            commit_bytes: 32_000_000,
        }
    }
}

impl Store {
    /// Opens the store in the folder `root`, made when missing, for the one process that writes.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process writes already.
    pub fn open_for_writing(root: &Path, options: StoreOptions) -> Result<(StoreSink, Store), StoreError> {
        let root = PathBuf::from(root);
        let store = Store::new(root.clone());
        let sink = StoreSink::open(root, options, store.attention(), Box::new(sink::utc_today))?;
        Ok((sink, store))
    }

    /// Opens the store for reading, whether or not another process writes.
    ///
    /// # Errors
    /// When there is no such folder, or it can't be read.
    pub fn open_read_only(root: &Path) -> Result<Store, StoreError> {
        days::list(root)?;
        Ok(Store::new(root.to_owned()))
    }
}
