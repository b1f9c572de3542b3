//! Settings of filelife and filegone.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use kumon_collect::settings::{duration, entries};
use kumon_collect::{Filter, MaxRows, Sample};

use super::FileHooks;

kumon_collect::settings! {
    /// Settings of filelife and filegone.
    pub struct Settings {
        keys {
            /// By which hooks filelife and filegone are attached.
            file_hooks: FileHooks = FileHooks::default(), by FileHooks::deserialize;
        }
        metrics {
            filelife: FilelifeSettings, filter;
            filegone: FilegoneSettings, filter;
        }
    }
}

/// Settings of the metric filelife.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilelifeSettings {
    pub enabled: Enabled,
    /// A file that lives longer is not short-lived: it is forgotten and has no row.
    #[serde(deserialize_with = "age")]
    pub max_age: Duration,
    /// Files that are remembered at a time, about 200 bytes of memory and the path each; the creations beyond are
    /// counted as lost.
    #[serde(deserialize_with = "entries")]
    pub max_files: u32,
    /// Which processes that delete it is about.
    pub filter: Filter,
    /// One short-lived file in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

impl Default for FilelifeSettings {
    fn default() -> FilelifeSettings {
        FilelifeSettings {
            enabled: Enabled::Auto,
            max_age: Duration::from_secs(600),
            max_files: 65_536,
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let age = duration(deserializer)?;
    if age.is_zero() {
        return Err(de::Error::custom("max_age must be more than 0; 'enabled: false' switches filelife off"));
    }
    Ok(age)
}

/// Settings of the metric filegone.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilegoneSettings {
    pub enabled: Enabled,
    /// Which processes it is about.
    pub filter: Filter,
    /// One deletion or rename in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

/// Whether a metric is collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Enabled {
    /// Where it costs those nothing who do other things: not by the tracepoints of system calls, which slow them all.
    #[default]
    Auto,
    Yes,
    No,
}

impl From<bool> for Enabled {
    fn from(enabled: bool) -> Enabled {
        if enabled { Enabled::Yes } else { Enabled::No }
    }
}

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Enabled, D::Error> {
        struct BoolOrAuto;
        impl Visitor<'_> for BoolOrAuto {
            type Value = Enabled;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or auto")
            }

            fn visit_bool<E: de::Error>(self, enabled: bool) -> Result<Enabled, E> {
                Ok(enabled.into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Enabled, E> {
                match text {
                    "auto" => Ok(Enabled::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(BoolOrAuto)
    }
}

#[cfg(test)]
mod tests {
    use super::Enabled;

    #[test]
    fn enabled_is_a_bool_or_auto() {
        let parse = |text: &str| serde_json::from_str::<Enabled>(text).map_err(|e| e.to_string());
        assert_eq!(parse("true"), Ok(Enabled::Yes));
        assert_eq!(parse("false"), Ok(Enabled::No));
        assert_eq!(parse("\"auto\""), Ok(Enabled::Auto));
        assert!(parse("\"of\"").unwrap_err().contains("true, false or auto"));
    }
}
