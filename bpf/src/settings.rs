//! The `collectors` part of the configuration, one entry per metric.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Settings of every metric; each key is optional.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// KuMon's own processes are left out unless this is false.
    pub exclude_self: ExcludeSelf,
}

/// Whether KuMon's own processes are left out; on by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ExcludeSelf(pub bool);

impl Default for ExcludeSelf {
    fn default() -> ExcludeSelf {
        ExcludeSelf(true)
    }
}

/// Reads `10s`, `500ms`, `1m`; for `#[serde(deserialize_with = …)]`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|e| de::Error::custom(format!("'{text}' is no duration such as 10s or 500ms: {e}")))
}
