//! How rows stand in the spool, and how much of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use kumon_schema::Format;
use kumon_spool::{Formats, Limits};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::file;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpoolConfig {
    #[serde(deserialize_with = "formats")]
    pub(crate) format: Formats,
    #[serde(deserialize_with = "file::size")]
    pub(crate) max_bytes: ByteSize,
    #[serde(deserialize_with = "file::size")]
    pub(crate) file_bytes: ByteSize,
    #[serde(deserialize_with = "file::duration")]
    pub(crate) file_age: Duration,
}

impl Default for SpoolConfig {
    fn default() -> SpoolConfig {
        let limits = Limits::default();
        SpoolConfig {
            format: Formats::default(),
            max_bytes: ByteSize(limits.spool_bytes),
            file_bytes: ByteSize(limits.file_bytes),
            file_age: limits.file_age,
        }
    }
}

impl SpoolConfig {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            file_bytes: self.file_bytes.as_u64(),
            file_age: self.file_age,
            spool_bytes: self.max_bytes.as_u64(),
            ..Limits::default()
        }
    }
}

fn formats<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Formats, D::Error> {
    deserializer.deserialize_any(OneOrMany)
}

/// One format for all rows, or formats by metric.
struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Formats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("csv, ndjson, or a map of such by metric")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Formats, E> {
        Ok(Formats { default: format(name)?, of_metrics: BTreeMap::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Formats, A::Error> {
        let mut formats = Formats::default();
        while let Some(key) = map.next_key::<String>()? {
            if key != "default" && kumon_schema::builtin(&key).is_none() {
                let why =
                    format!("'{key}' is neither `default` nor a metric; 'kumon check' lists the metrics");
                return Err(de::Error::custom(why));
            }
            let value = format(&map.next_value::<String>()?)?;
            match key.as_str() {
                "default" => formats.default = value,
                _ => drop(formats.of_metrics.insert(key, value)),
            }
        }
        Ok(formats)
    }
}

fn format<E: de::Error>(name: &str) -> Result<Format, E> {
    match name {
        "csv" => Ok(Format::Csv),
        "ndjson" => Ok(Format::Ndjson),
        other => Err(E::custom(format!("'{other}' is no format of rows: take csv or ndjson"))),
    }
}

#[cfg(test)]
mod tests {
    use kumon_schema::Format;

    use super::SpoolConfig;

    #[test]
    fn one_format_is_for_all_and_a_map_for_some() {
        let format = |text: &str| {
            let spool: Result<SpoolConfig, _> = serde_saphyr::from_str(&format!("format: {text}\n"));
            spool.map(|spool| spool.format).map_err(|e| e.to_string())
        };
        assert_eq!(format("ndjson").unwrap().default, Format::Ndjson);
        let some = format("{ default: ndjson, exec: csv }").unwrap();
        assert_eq!((some.default, some.of_metrics.get("exec")), (Format::Ndjson, Some(&Format::Csv)));
        assert_eq!(format("{ exec: ndjson }").unwrap().default, Format::Csv);
        for (text, expected) in [
            ("json", "'json' is no format of rows: take csv or ndjson"),
            ("{ exec: yaml }", "'yaml' is no format of rows"),
            ("{ exek: ndjson }", "'exek' is neither `default` nor a metric"),
            ("7", "csv, ndjson, or a map"),
        ] {
            let error = format(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
