//! Reading the configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use super::{Config, DEFAULT_FILE, environment};

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration {} can't be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the configuration {}: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("the environment variable {variable}: {message}")]
    Environment { variable: String, message: String },
    #[error("the configuration, {key}: {what}")]
    Value { key: String, what: String },
}

/// Reads `path`, or the default file where there is one, and applies the `KUMON_…` variables.
///
/// # Errors
/// When the file can't be read or holds something that is no configuration; with line and column.
pub(crate) fn read(path: Option<&Path>) -> Result<Config, ConfigError> {
    let (path, must_exist) = path.map_or((Path::new(DEFAULT_FILE), false), |path| (path, true));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must_exist => String::new(),
        Err(source) => return Err(ConfigError::Io { path: path.into(), source }),
    };
    let config = parse(&text).map_err(|message| ConfigError::Syntax { path: path.into(), message })?;
    let config = environment::apply(config, &text, environment::variables()?)?;
    config.path.validate()?;
    config.shipper_inputs()?;
    config.retention.validate(config.inputs.iter().map(|input| input.dataset.as_str()))?;
    config.outputs()?;
    config.kibana.as_ref().map(super::KibanaConfig::validate).transpose()?;
    config.alerts.validate()?;
    kumon_alerts::check_channels(&config.channels)
        .map_err(|e| ConfigError::Value { key: format!("channels.{}", e.channel), what: e.message })?;
    Ok(config)
}

/// A file of comments only is an empty configuration.
pub(super) fn parse(text: &str) -> Result<Config, String> {
    let config: Option<Config> = serde_saphyr::from_str(text).map_err(|e| message(&e))?;
    Ok(config.unwrap_or_default())
}

/// One line that says where and what.
pub(super) fn message(error: &serde_saphyr::Error) -> String {
    let what = UserMessageFormatter.format_message(error.without_snippet());
    match error.location() {
        Some(place) => format!("line {} column {}: {what}", place.line(), place.column()),
        None => what.into_owned(),
    }
}

/// Reads `10s`, `500ms`, `1h`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|e| de::Error::custom(format!("'{text}' is no duration such as 10s or 500ms: {e}")))
}

/// Reads `16MiB`, `5GB`, `100000`.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    // Its own message names no example.
    ByteSize::deserialize(deserializer)
        .map_err(|_| de::Error::custom("a size such as 16MiB or 5GB is expected"))
}

/// As [`size`], where there need be none.
pub(super) fn optional_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ByteSize>, D::Error> {
    size(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_examples_of_the_page_on_alerts_are_valid() {
        let page = include_str!("../../../docs/alerts.md");
        let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let sections: Vec<&str> = blocks.filter(|block| !block.starts_with("title:")).collect();
        assert_eq!(sections.len(), 4, "{sections:?}");
        for section in sections {
            let config = parse(section).unwrap_or_else(|e| panic!("{section}: {e}"));
            kumon_alerts::check_channels(&config.channels).unwrap();
        }
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        for (text, expected) in [
            ("path:\n  spol: /tmp\n", ["line 2 column 3", "unknown field `spol`"]),
            ("collectors:\n  exec: { enabled: maybe }\n", ["line 2 column 20", "bool"]),
            ("spool:\n  file_age: soon\n", ["line 2", "'soon' is no duration"]),
            ("collectors:\n  runqlat: { interval: 200ms }\n", ["line 2", "at least 1s"]),
            ("collectors:\n  runqslower: { threshold: 0s }\n", ["line 2", "more than 0"]),
            (
                "collectors:\n  exec:\n    filter:\n      comm: [sh, elasticsearch-server]\n",
                ["line 4", "write \"elasticsearch-s\""],
            ),
            (
                "collectors:\n  exec:\n    filter:\n      cgroup: [nginx.service]\n",
                ["line 4", "such as /system.slice/nginx.service"],
            ),
            (
                "collectors:\n  exit: { filter: { pids: [1] } }\n",
                ["line 2 column 21", "unknown field `pids`"],
            ),
            ("collectors:\n  exit:\n    sample: 0\n", ["line 3", "one event in 0"]),
            ("collectors:\n  cputime: { sample: 10 }\n", ["line 2", "its sample is always 1"]),
            (
                "collectors:\n  exec: { max_rows_per_second: 2000000 }\n",
                ["line 2", "at most 1000000 are counted; 0 is no limit"],
            ),
            (
                "collectors:\n  exit: {}\n  cpi: {}\n",
                ["line 3 column 3: unknown field `cpi`", "expected one of exclude_self"],
            ),
            ("collectors:\n  cpu: { per_core: true }\n", ["line 2 column 10", "unknown field `per_core`"]),
            ("collectors:\n  disk: { interval: 1ms }\n", ["line 2", "at least 1s"]),
            ("collectors: 5\n", ["line 1", "expected mapping"]),
            ("namespace: Prod-1\n", ["line 1", "'Prod-1' can't be part of"]),
            ("spool:\n  max_bytes: lots\n", ["line 2", "a size such as 16MiB"]),
            ("spool: {}\npath: {}\nspool: {}\n", ["line 3 column 1", "duplicate mapping key: spool"]),
            ("spool: {}\nretention: { exec: 6h }\n", ["line 2", "at least a day"]),
            ("path: [\n", ["line 1 column 7", "expected mapping"]),
        ] {
            let message = parse(text).unwrap_err();
            assert!(expected.iter().all(|part| message.contains(part)), "{text:?}: {message}");
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse("").unwrap(), super::Config::default());
        assert_eq!(parse("# nothing\n").unwrap(), super::Config::default());
    }
}
