//! The embedded store of a shipper at work, as those ask it who are to see what was just collected.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kumon_query::{OnRow, Search, SearchError, SearchRequest, SearchResponse};
use kumon_shipper::Handle;
use kumon_store::Store;

/// How long a question may wait for what stands in the files.
const SYNC_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct LiveStore {
    store: Store,
    shipper: Handle,
    /// How long a look for new rows does for the next questions as well.
    fresh_for: Duration,
    /// When the last look began.
    looked: Mutex<Option<Instant>>,
}

impl LiveStore {
    pub(super) fn new(store: Store, shipper: Handle, fresh_for: Duration) -> LiveStore {
        LiveStore { store, shipper, fresh_for, looked: Mutex::new(None) }
    }

    /// Has what stands in the files shipped. Those who ask at the same time share a look that began after they asked: while
    /// shipping hangs, none waits for more than two.
    fn look_for_new_rows(&self) {
        let asked = Instant::now();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_some_and(|began| began + self.fresh_for >= asked) {
            return;
        }
        *looked = Some(Instant::now());
        // What can't be shipped now is not there yet; what is there can still be asked for.
        self.shipper.sync(SYNC_LIMIT);
    }
}

impl Search for LiveStore {
    fn stream(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        self.look_for_new_rows();
        self.store.stream(request, row)
    }
}
