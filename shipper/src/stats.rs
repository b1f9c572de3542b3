//! What the shipper tells of itself.

use std::collections::BTreeMap;
use std::time::SystemTime;

/// The shipper's ledger since its start, and how it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Goes up with each change of anything else here.
    pub revision: u64,
    /// By dataset (`kumon.exec`): what is delivered for good.
    pub datasets: BTreeMap<String, Delivered>,
    /// By dataset: the file, the offset and the reason of the last dead letter.
    pub last_letters: BTreeMap<String, String>,
    /// Resends of what had arrived already, recognised by their ids.
    pub duplicates: u64,
    /// Taken, but into the failure store of Elasticsearch.
    pub failure_store: u64,
    /// Dead letters that had to go for newer ones.
    pub dead_letters_dropped: u64,
    /// Set while the sink can't be reached or refuses everything, or the state folder can't be written.
    pub halted: Option<Halted>,
    /// Streams whose rows wait while others are delivered, with the reason.
    pub held: BTreeMap<String, Halted>,
    /// Files being shipped.
    pub files: usize,
    /// Files and folders that can't be read, with the reason.
    pub stuck: BTreeMap<String, String>,
    /// What is worth knowing, though it is no fault, by file or pattern of an input.
    pub notes: BTreeMap<String, String>,
    /// Bytes that stand in files and are not delivered for good.
    pub lag: u64,
}

/// Rows of one dataset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Rows the sink has taken, those included that it had already.
    pub created: u64,
    /// In the dead letters: the sink refused them for good, or they could not be decoded.
    pub dead_letters: u64,
}

/// Why nothing is shipped right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    pub since: SystemTime,
    pub reason: String,
}

/// What reasons of the same cause have in common: what stands in parentheses is Elasticsearch's own words, and other
/// ones each time (bytes under way, rows in the request, addresses of objects).
pub(crate) fn own_words(reason: &str) -> &str {
    reason.split(" (").next().unwrap_or(reason)
}

impl Halted {
    /// Whether a further failure is worth another line in the log.
    pub(crate) fn is_news(&self, reason: &str) -> bool {
        own_words(&self.reason) != own_words(reason)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::Halted;

    #[test]
    fn other_counts_are_no_news() {
        let halted =
            Halted { since: SystemTime::now(), reason: "es1 has no room (429: 5 bytes); later".into() };
        assert!(!halted.is_news("es1 has no room (429: 7 bytes); later"));
        assert!(halted.is_news("es2 has no room (429: 5 bytes); later"));
        assert!(halted.is_news("es1 can't be reached"));
    }
}
