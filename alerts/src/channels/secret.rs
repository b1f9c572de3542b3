//! Secrets: from files or the environment, read anew for every message, and never shown.

use std::fs;
use std::path::PathBuf;

use super::SendError;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    File(PathBuf),
    Environment(String),
}

impl Secret {
    /// Of the keys `<what>_file` and `<what>_env`; none where neither is given.
    ///
    /// # Errors
    /// When both are.
    pub(super) fn of(
        what: &str,
        file: Option<&PathBuf>,
        env: Option<&String>,
    ) -> Result<Option<Secret>, String> {
        match (file, env) {
            (None, None) => Ok(None),
            (Some(file), None) => Ok(Some(Secret::File(file.clone()))),
            (None, Some(name)) => Ok(Some(Secret::Environment(name.clone()))),
            (Some(_), Some(_)) => Err(format!("give either {what}_file or {what}_env, not both")),
        }
    }

    /// As [`Secret::of`], where there has to be one.
    pub(super) fn needed(what: &str, file: Option<&PathBuf>, env: Option<&String>) -> Result<Secret, String> {
        Secret::of(what, file, env)?.ok_or_else(|| format!("{what}_file or {what}_env is missing"))
    }

    /// The secret, without the line end that editors leave in files.
    pub(super) fn read(&self) -> Result<String, SendError> {
        let (text, place) = match self {
            Secret::File(path) => {
                let place = path.display().to_string();
                (
                    fs::read_to_string(path)
                        .map_err(|e| SendError::needs_person(format!("{place} can't be read: {e}")))?,
                    place,
                )
            }
            Secret::Environment(name) => {
                let unset = || SendError::needs_person(format!("the environment variable {name} is not set"));
                (std::env::var(name).map_err(|_| unset())?, format!("the environment variable {name}"))
            }
        };
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(SendError::needs_person(format!("{place} is empty"))),
            secret => Ok(secret.to_owned()),
        }
    }
}
