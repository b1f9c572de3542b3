//! One dead letter.

use std::borrow::Cow;

use kumon_schema::Kind;
use serde::{Deserialize, Serialize};

use crate::encoder::document_id;
use crate::stream::StreamName;

/// A row that was not delivered, with the reason: one line of a dead-letter file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter<'a> {
    /// When it was given up, RFC 3339.
    #[serde(rename = "@timestamp", borrow)]
    pub timestamp: Cow<'a, str>,
    /// The data stream it was meant for.
    #[serde(borrow)]
    pub stream: Cow<'a, str>,
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// The file it comes from.
    #[serde(borrow)]
    pub file: Cow<'a, str>,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// What the document's id begins with.
    #[serde(borrow)]
    pub generation: Cow<'a, str>,
    pub kind: LetterKind,
    /// The document, or the record as it stands in the file where it is no document.
    #[serde(borrow)]
    pub document: Cow<'a, str>,
}

/// What a dead letter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterKind {
    /// A document that the sink refused; it can be sent again.
    Document,
    /// A record that could not be decoded, so that there is no document to send.
    Record,
}

impl DeadLetter<'_> {
    /// The `_id` that the document has, or would have, in its data stream.
    pub fn id(&self) -> String {
        document_id(&self.generation, self.offset)
    }

    /// The middle part of the data stream's name.
    pub fn dataset(&self) -> &str {
        self.stream.split('-').nth(1).unwrap_or(&self.stream)
    }

    /// The data stream's name in parts; `None` where it is none of KuMon's.
    pub(super) fn stream_name(&self) -> Option<StreamName> {
        let mut parts = self.stream.splitn(3, '-');
        let kind = parts.next()?;
        let kind = [Kind::Event, Kind::Summary].into_iter().find(|known| known.stream_type() == kind)?;
        let (dataset, namespace) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(StreamName { kind, dataset, namespace })
    }
}

/// Which dead letters are meant; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterFilter {
    /// A dataset, or the metric that it is of: `kumon.exec` or `exec`.
    pub dataset: Option<String>,
    /// Stands somewhere in the reason, in upper or lower case.
    pub reason: Option<String>,
    /// One of these; any where there is none.
    pub ids: Vec<String>,
}

impl LetterFilter {
    /// Whether the letter is meant.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let dataset = |wanted: &String| {
            let dataset = letter.dataset();
            dataset == wanted || dataset.strip_prefix("kumon.") == Some(wanted)
        };
        let reason = |part: &String| letter.reason.to_lowercase().contains(&part.to_lowercase());
        self.dataset.as_ref().is_none_or(dataset)
            && self.reason.as_ref().is_none_or(reason)
            && (self.ids.is_empty() || self.ids.contains(&letter.id()))
    }
}
