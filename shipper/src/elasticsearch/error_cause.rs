//! Why Elasticsearch refused something, as it says it.

use kumon_schema::printable;
use serde::Deserialize;

/// Of each reason, in messages and dead letters; in characters. Some repeat the whole value.
const LONGEST: usize = 1000;

/// Elasticsearch's error objects. Most are objects; a missing handler answers a string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ErrorCause {
    Text(String),
    Object {
        #[serde(default)]
        r#type: String,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        caused_by: Option<Box<ErrorCause>>,
    },
}

impl ErrorCause {
    /// Whether it is an error of this type.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, ErrorCause::Object { r#type, .. } if r#type == name)
    }

    /// In its own words, without its type; empty where it has none.
    pub(super) fn reason(&self) -> &str {
        match self {
            ErrorCause::Text(text) => text,
            ErrorCause::Object { reason, .. } => reason.as_deref().unwrap_or_default(),
        }
    }
}

/// On one line, with what could do something to a terminal escaped, and cut.
fn shown(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(LONGEST) else { return printable(text) };
    format!("{}…", printable(&text[..end]))
}

impl std::fmt::Display for ErrorCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ErrorCause::Text(text) => f.write_str(&shown(text)),
            ErrorCause::Object { r#type, reason, caused_by } => {
                f.write_str(&shown(r#type))?;
                if let Some(reason) = reason {
                    write!(f, ": {}", shown(reason))?;
                }
                if let Some(cause) = caused_by {
                    write!(f, ", caused by {cause}")?;
                }
                Ok(())
            }
        }
    }
}
