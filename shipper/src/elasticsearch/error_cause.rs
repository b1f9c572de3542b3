//! Why Elasticsearch refused something, as it says it.

use serde::Deserialize;

/// Elasticsearch's error objects. Most are objects; a missing handler answers a string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ErrorCause {
    Text(String),
    Object {
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
}

impl std::fmt::Display for ErrorCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ErrorCause::Text(text) => f.write_str(text),
            ErrorCause::Object { r#type, reason, caused_by } => {
                f.write_str(r#type)?;
                if let Some(reason) = reason {
                    write!(f, ": {reason}")?;
                }
                if let Some(cause) = caused_by {
                    write!(f, ", caused by {cause}")?;
                }
                Ok(())
            }
        }
    }
}
