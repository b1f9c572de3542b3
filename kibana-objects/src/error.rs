//! What is wrong in a dashboard's file, and where.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kumon_query::did_you_mean;
use serde_saphyr::{Location, MessageFormatter, UserMessageFormatter};

/// A mistake in a dashboard's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: line {line} column {column}: {message}", path.display())]
pub struct SourceError {
    pub path: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// In characters, from 1; 0 where the file as a whole is meant.
    pub column: u64,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// A mistake, before it is known in which file.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) place: Location,
    pub(crate) message: String,
}

impl Mistake {
    pub(crate) fn new(place: Location, message: impl Into<String>) -> Mistake {
        Mistake { place, message: message.into() }
    }

    pub(crate) fn of_yaml(error: &serde_saphyr::Error) -> Mistake {
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        Mistake { place: error.location().unwrap_or(Location::UNKNOWN), message }
    }

    pub(crate) fn within(self, path: &std::path::Path) -> SourceError {
        let (line, column) = (self.place.line(), self.place.column());
        SourceError { path: path.into(), line, column, message: self.message }
    }
}

/// `; did you mean 'x'?` where one of `known` is like `name`, else a list of them.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: BTreeSet<&str> = known.collect();
    match did_you_mean(name, known.iter().copied()) {
        Some(hint) => format!("; {hint}"),
        None => format!("; known are: {}", Vec::from_iter(known).join(", ")),
    }
}
