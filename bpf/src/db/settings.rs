//! Settings of dbslower.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use kumon_collect::settings::duration;
use kumon_collect::{Filter, MaxRows, Sample};

kumon_collect::settings! {
    /// Settings of dbslower.
    pub struct Settings {
        metrics {
            dbslower: DbslowerSettings, filter;
        }
    }
}

/// Settings of the metric dbslower.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbslowerSettings {
    pub enabled: bool,
    /// Statements that took at least as long have a row.
    #[serde(deserialize_with = "duration")]
    pub threshold: Duration,
    /// Bytes of a statement that are kept; at most 4096.
    #[serde(deserialize_with = "statement_bytes")]
    pub max_statement_bytes: u32,
    /// Whether literals in statements are replaced by `?`.
    pub mask: bool,
    /// Which processes it is about.
    pub filter: Filter,
    /// One slow statement in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

/// What the BPF program has room for.
pub(super) const MAX_STATEMENT_BYTES: u32 = 4096;

impl Default for DbslowerSettings {
    fn default() -> DbslowerSettings {
        DbslowerSettings {
            enabled: true,
            threshold: Duration::from_millis(10),
            max_statement_bytes: MAX_STATEMENT_BYTES,
            mask: true,
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}

fn statement_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bytes = u32::deserialize(deserializer)?;
    if bytes > MAX_STATEMENT_BYTES {
        return Err(de::Error::custom(format!(
            "max_statement_bytes is {bytes}, at most {MAX_STATEMENT_BYTES} are kept"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::DbslowerSettings;

    fn parse(text: &str) -> Result<DbslowerSettings, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn settings_are_optional_and_mistakes_are_named() {
        assert_eq!(parse("{}"), Ok(DbslowerSettings::default()));
        assert_eq!(parse(r#"{"threshold": "1s"}"#).unwrap().threshold, Duration::from_secs(1));
        assert!(parse(r#"{"treshold": "1s"}"#).unwrap_err().contains("unknown field `treshold`"));
        assert!(parse(r#"{"max_statement_bytes": 5000}"#).unwrap_err().contains("at most 4096"));
    }
}
