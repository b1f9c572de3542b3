//! What the shipping side answers, where it has the embedded store open.

use std::time::Duration;

use kumon_query::{OnRow, Search};
use kumon_shipper::{DeadLetterFolder, Handle, replay};
use kumon_store::Store;

use super::live_store::LiveStore;
use crate::control::{Answer, Peer, Refusal, Request, Responder};

pub(super) struct Questions {
    /// Each search holds a page of rows at most; who is slow to ask or to read the answer keeps nobody waiting.
    store: LiveStore,
    shipper: Handle,
    letters: DeadLetterFolder,
}

impl Questions {
    pub(super) fn new(store: Store, shipper: Handle, letters: DeadLetterFolder) -> Questions {
        // Who asks from outside is to see all that there is at that moment.
        let store = LiveStore::new(store, shipper.clone(), Duration::ZERO);
        Questions { store, shipper, letters }
    }
}

impl Responder for Questions {
    fn respond(&self, request: Request, _peer: Peer, row: &mut OnRow<'_>) -> Answer {
        match request {
            Request::Search(request) => match self.store.stream(&request, row) {
                Ok(response) => Answer::Found(response),
                Err(error) => Answer::Failed(error),
            },
            Request::ReplayDeadLetters(filter) => {
                Answer::Replayed(replay(&self.letters, &filter, &mut self.shipper.clone()))
            }
            Request::Collectors | Request::SwitchCollectors(_) => Answer::Refused(Refusal::wrong_usage(
                "this is the shipping side; the collecting side's socket answers for its collectors",
            )),
        }
    }
}
