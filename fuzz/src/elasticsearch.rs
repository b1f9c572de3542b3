//! The reader of `_bulk` answers.

#[path = "../../shipper/src/elasticsearch/bulk.rs"]
mod bulk;
#[path = "../../shipper/src/elasticsearch/error_cause.rs"]
mod error_cause;
#[path = "../../shipper/src/elasticsearch/errors.rs"]
mod errors;

/// Any bytes may come back from a proxy in between: they are an answer with that many outcomes, or an error.
pub fn bulk_response(bytes: &[u8]) {
    let Some((documents, body)) = bytes.split_first() else { return };
    let documents = usize::from(*documents % 8);
    let all_created = bulk::all_created(body, documents);
    if let Ok(fates) = bulk::fates(body, documents) {
        assert_eq!(fates.len(), documents);
        assert!(!all_created || fates.iter().all(|fate| *fate == bulk::Fate::Created));
    }
}
