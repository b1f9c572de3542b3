//! What a commit carries beside the rows: the files' positions, and which times the index holds.
//!
//! It is the payload of tantivy's commit, so it becomes durable in the same instant as the rows. Each note holds the
//! positions of all files that were not forgotten, and a number that grows with each commit of the store. The note
//! with the highest number is the truth; older days' notes are history and bring nothing back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tantivy::Index;

use crate::days;
use crate::error::StoreError;

/// Up to where each file (by generation) is covered, in bytes.
pub(crate) type Positions = HashMap<Arc<str>, u64>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitPayload {
    pub(crate) number: u64,
    positions: HashMap<String, u64>,
    /// The earliest and latest `@timestamp` in this index, ns since the Unix epoch.
    pub(crate) times: Option<(i64, i64)>,
}

impl CommitPayload {
    pub(crate) fn new(number: u64, positions: &Positions, times: Option<(i64, i64)>) -> CommitPayload {
        let positions = positions.iter().map(|(generation, offset)| (generation.to_string(), *offset));
        CommitPayload { number, positions: positions.collect(), times }
    }

    /// The note of an index's last commit; an empty one where nothing was committed yet.
    pub(crate) fn of(index: &Index, path: &Path) -> Result<CommitPayload, StoreError> {
        let metas = index.load_metas().map_err(StoreError::index("read", path))?;
        let Some(payload) = metas.payload else { return Ok(CommitPayload::default()) };
        serde_json::from_str(&payload).map_err(|e| StoreError::index("read", path)(e.into()))
    }

    pub(crate) fn positions(&self) -> Positions {
        self.positions.iter().map(|(generation, offset)| (generation.as_str().into(), *offset)).collect()
    }

    /// The latest note of the whole store.
    pub(crate) fn latest(root: &Path) -> Result<CommitPayload, StoreError> {
        let mut latest = CommitPayload::default();
        for day in days::list(root)? {
            let note = CommitPayload::of(&day.open()?, &day.path)?;
            if note.number > latest.number {
                latest = note;
            }
        }
        Ok(latest)
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always JSON")
    }
}
