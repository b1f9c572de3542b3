//! Reading the answers of `_bulk`.

use serde::Deserialize;

use super::error_cause::ErrorCause;
use super::errors::{Concern, Trouble, concern};

/// Where batches go. A missing template must not end in an ordinary index with guessed field types; what is not read
/// need not be sent; and a shard that isn't there must not keep the rows for others waiting for a minute.
pub(super) const PATH: &str = "_bulk?require_data_stream=true&timeout=3s&filter_path=errors,items.create.status,\
                               items.create.failure_store,items.create.error.type,items.create.error.reason,\
                               items.create.error.caused_by";

/// What became of one document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Created,
    /// Was there already.
    Duplicate,
    /// Taken, but to the failure store.
    FailureStore,
    /// May work in a moment: the shard or the node has too much to do.
    Retry(String),
    /// May work in a moment; if it doesn't, something is wrong with the document.
    Failed(String),
    /// Its stream can't take rows.
    Refused {
        trouble: Trouble,
        reason: String,
    },
    /// Never.
    Rejected(String),
}

#[derive(Deserialize)]
struct Response {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Create,
}

#[derive(Deserialize)]
struct Create {
    status: u16,
    #[serde(default)]
    failure_store: Option<String>,
    #[serde(default)]
    error: Option<ErrorCause>,
}

/// Reads the answer to a request with so many documents.
///
/// # Errors
/// When it is not the answer of a `_bulk` request with so many documents.
pub(super) fn fates(body: &[u8], documents: usize) -> Result<Vec<Fate>, String> {
    let response: Response = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    if response.items.len() != documents {
        return Err(format!("{} outcomes for {documents} documents", response.items.len()));
    }
    let fate = |item: Item| fate(item.create);
    Ok(response.items.into_iter().map(fate).collect())
}

/// Whether so many documents were created and that is all: the answer nearly always, told without parsing it.
pub(super) fn all_created(body: &[u8], documents: usize) -> bool {
    const ITEM: &[u8] = b"{\"create\":{\"status\":201}},";
    let items = body.strip_prefix(b"{\"errors\":false,\"items\":[").and_then(|rest| rest.strip_suffix(b"]}"));
    items.is_some_and(|items| {
        // The last one has no comma.
        items.len() + 1 == documents * ITEM.len()
            && items.chunks(ITEM.len()).all(|item| ITEM.starts_with(item))
    })
}

fn fate(create: Create) -> Fate {
    let Create { status, failure_store, error } = create;
    if (200..300).contains(&status) {
        let used = failure_store.as_deref() == Some("used");
        return if used { Fate::FailureStore } else { Fate::Created };
    }
    let reason = || error.as_ref().map_or_else(|| format!("status {status}"), ToString::to_string);
    match concern(status, error.as_ref()) {
        Concern::Nothing => Fate::Duplicate,
        Concern::Row => Fate::Rejected(reason()),
        Concern::RowAfterTries => Fate::Failed(reason()),
        Concern::Moment => Fate::Retry(reason()),
        Concern::Stream(trouble) => Fate::Refused { trouble, reason: reason() },
    }
}
