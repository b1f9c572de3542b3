//! Settings of exec and exit.

use serde::{Deserialize, Deserializer, de};

use kumon_collect::settings::entries;
use kumon_collect::{Filter, MaxRows, Sample};

kumon_collect::settings! {
    /// Settings of exec and exit.
    pub struct Settings {
        metrics {
            exec: ExecSettings, filter;
            exit: ExitSettings, filter;
        }
    }
}

/// Settings of the metric exec.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecSettings {
    pub enabled: bool,
    /// Failed execs too; they take tracepoints on two syscalls, which slow every syscall a little.
    pub failed: bool,
    /// Bytes of the arguments that are kept; at most 4096.
    #[serde(deserialize_with = "args_bytes")]
    pub max_args_bytes: u32,
    /// Whether arguments that look like secrets are masked.
    pub mask: bool,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

/// What the BPF program has room for.
pub(super) const MAX_ARGS_BYTES: u32 = 4096;

impl Default for ExecSettings {
    fn default() -> ExecSettings {
        ExecSettings {
            enabled: true,
            failed: false,
            max_args_bytes: MAX_ARGS_BYTES,
            mask: true,
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}

fn args_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bytes = u32::deserialize(deserializer)?;
    if bytes > MAX_ARGS_BYTES {
        return Err(de::Error::custom(format!(
            "max_args_bytes is {bytes}, at most {MAX_ARGS_BYTES} are kept"
        )));
    }
    Ok(bytes)
}

/// Settings of the metric exit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExitSettings {
    pub enabled: bool,
    /// Before Linux 6.16: processes that have ended and are not reaped by their parents, about 60 bytes of kernel memory
    /// each; the ends beyond are counted as lost.
    #[serde(deserialize_with = "entries")]
    pub max_unreaped: u32,
    /// Which processes it is about.
    pub filter: Filter,
    /// One event in so many is emitted.
    pub sample: Sample,
    /// How many rows it may have; what is beyond is counted.
    pub max_rows_per_second: MaxRows,
}

impl Default for ExitSettings {
    fn default() -> ExitSettings {
        ExitSettings {
            enabled: true,
            max_unreaped: 8_192,
            filter: Filter::default(),
            sample: Sample::default(),
            max_rows_per_second: MaxRows::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExecSettings;

    fn parse(text: &str) -> Result<ExecSettings, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn settings_are_optional_and_mistakes_are_named() {
        assert_eq!(parse("{}"), Ok(ExecSettings::default()));
        assert!(parse(r#"{"failed": true}"#).unwrap().failed);
        assert!(parse(r#"{"faild": true}"#).unwrap_err().contains("unknown field `faild`"));
        assert!(parse(r#"{"max_args_bytes": 5000}"#).unwrap_err().contains("at most 4096"));
    }
}
