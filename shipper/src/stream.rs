//! The names of data streams.

use std::fmt;

use kumon_schema::Kind;

/// A data stream, `{type}-{dataset}-{namespace}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamName {
    pub kind: Kind,
    /// `kumon.exec`; of a foreign input what its configuration says.
    pub dataset: String,
    pub namespace: String,
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.kind.stream_type(), self.dataset, self.namespace)
    }
}
