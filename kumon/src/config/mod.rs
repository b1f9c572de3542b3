//! The configuration: `/etc/kumon/kumon.yml`, every key optional.

mod alerts;
mod collectors;
mod environment;
mod file;
mod kibana;
mod output;
mod outputs;
mod retention;
#[cfg(test)]
mod shipped;
mod spool;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use kumon_bpf::NETWORK_METRICS;
use kumon_collect::settings::Section;
use kumon_schema::{Row, rows};
use serde::Deserialize;

pub(crate) use alerts::{AlertsConfig, EvaluatedBy, Scope};
pub(crate) use collectors::Collectors;
pub(crate) use file::{ConfigError, read};
pub(crate) use kibana::KibanaConfig;
pub(crate) use output::{Output, OutputEntry, default_batch_bytes};
pub(crate) use outputs::{NamedOutput, OutputChoiceError, Outputs, Target, choose};
pub(crate) use retention::Retention;
pub(crate) use spool::SpoolConfig;

/// Where the configuration is looked for when no `--config` is given.
pub(crate) const DEFAULT_FILE: &str = "/etc/kumon/kumon.yml";

/// The whole of it. The keys are described in `kumon/kumon.yml`, the file that is shipped.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) path: Paths,
    /// Last part of the data streams' names.
    pub(crate) namespace: Namespace,
    pub(crate) collectors: Collectors,
    pub(crate) spool: SpoolConfig,
    /// Absent, as the list: the embedded store.
    pub(crate) output: Option<Output>,
    /// Instead of the one.
    pub(crate) outputs: Option<Vec<OutputEntry>>,
    /// Absent: dashboards are imported by hand.
    pub(crate) kibana: Option<KibanaConfig>,
    pub(crate) retention: Retention,
    pub(crate) store: StoreLimits,
    pub(crate) dead_letters: DeadLetterLimits,
    pub(crate) inputs: Vec<InputConfig>,
    pub(crate) web: Web,
    pub(crate) alerts: AlertsConfig,
    /// Where alerts are told, by name.
    pub(crate) channels: kumon_alerts::Channels,
}

/// Which collectors a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collected {
    All,
    /// Those that do without CAP_NET_ADMIN.
    WithoutNetwork,
    /// The others.
    Network,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Paths {
    pub(crate) spool: PathBuf,
    pub(crate) state: PathBuf,
    /// Dashboards of the operator's own; there may be no such folder.
    pub(crate) dashboards: PathBuf,
    /// Whether the collecting side is the one that takes CAP_NET_ADMIN.
    #[serde(skip)]
    of_network: bool,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            spool: "/var/lib/kumon/spool".into(),
            state: "/var/lib/kumon/state".into(),
            dashboards: "/etc/kumon/dashboards".into(),
            of_network: false,
        }
    }
}

impl Paths {
    /// A relative path would mean another folder for each command's working directory.
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, path) in
            [("path.spool", &self.spool), ("path.state", &self.state), ("path.dashboards", &self.dashboards)]
        {
            if !path.is_absolute() {
                let what = format!("'{}' must be absolute", path.display());
                return Err(ConfigError::Value { key: key.into(), what });
            }
        }
        Ok(())
    }

    /// State of the collecting side.
    pub(crate) fn collect(&self) -> PathBuf {
        self.state.join(if self.of_network { "net" } else { "collect" })
    }

    /// The same as the collecting side sees it that takes CAP_NET_ADMIN, where that is a process of its own.
    pub(crate) fn network(&self) -> Paths {
        Paths { of_network: true, ..self.clone() }
    }

    /// State of the shipping side.
    pub(crate) fn ship(&self) -> PathBuf {
        self.state.join("ship")
    }

    /// What alerting remembers.
    pub(crate) fn alerts(&self) -> PathBuf {
        self.ship().join("alerts")
    }

    /// The embedded store.
    pub(crate) fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// Where the shipping side that has the embedded store open answers queries.
    pub(crate) fn ship_socket(&self) -> PathBuf {
        self.ship().join("query.sock")
    }

    /// Where the collecting side answers for its collectors.
    pub(crate) fn collect_socket(&self) -> PathBuf {
        self.collect().join("control.sock")
    }

    /// The key of the web page.
    pub(crate) fn web_key(&self) -> PathBuf {
        self.ship().join("web.key")
    }
}

/// A data stream's namespace: lower case, without the characters Elasticsearch forbids there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Namespace(pub(crate) String);

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace("default".into())
    }
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(name: String) -> Result<Namespace, String> {
        valid_stream_part(&name).map(|()| Namespace(name))
    }
}

/// Whether a text may be the dataset or namespace of a data stream: Elasticsearch's rules for index names, and no
/// `-`, which separates the parts.
fn valid_stream_part(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    if text.is_empty() || text.len() > 100 || !text.chars().all(allowed) || text.starts_with(['.', '_']) {
        return Err(format!(
            "'{text}' can't be part of a data stream's name: lower-case letters, digits, '.' and '_' are allowed, \
             at most 100, a letter or digit first"
        ));
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreLimits {
    pub(crate) keep_days: u32,
    pub(crate) keep_coarse_days: u32,
    #[serde(deserialize_with = "file::size")]
    pub(crate) keep_bytes: ByteSize,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        let options = kumon_store::StoreOptions::default();
        StoreLimits {
            keep_days: options.keep_days,
            keep_coarse_days: options.keep_coarse_days,
            keep_bytes: ByteSize(options.keep_bytes),
        }
    }
}

/// Rows that were refused for good.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeadLetterLimits {
    #[serde(deserialize_with = "file::size")]
    pub(crate) max_bytes: ByteSize,
}

impl Default for DeadLetterLimits {
    fn default() -> DeadLetterLimits {
        DeadLetterLimits { max_bytes: ByteSize::mib(256) }
    }
}

/// The local web page.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Web {
    pub(crate) enabled: bool,
    pub(crate) listen: SocketAddr,
}

impl Default for Web {
    fn default() -> Web {
        Web { enabled: true, listen: SocketAddr::from(([127, 0, 0, 1], 5680)) }
    }
}

/// Foreign files to ship.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputConfig {
    pub(crate) paths: Vec<String>,
    pub(crate) format: InputFormat,
    pub(crate) dataset: String,
    pub(crate) schema: Option<PathBuf>,
    pub(crate) timestamp_field: Option<String>,
    pub(crate) timestamp_format: Option<String>,
    pub(crate) time_zone: Option<String>,
    pub(crate) encoding: Option<String>,
    /// Between the fields of a CSV file.
    pub(crate) delimiter: Option<char>,
    /// Around them; empty: nothing is.
    pub(crate) quote: Option<String>,
    #[serde(default, deserialize_with = "file::optional_size")]
    pub(crate) max_record: Option<ByteSize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InputFormat {
    Csv,
    Ndjson,
}

impl Config {
    /// What is left of it for a process that has only some of the collectors.
    pub(crate) fn of(mut self, collected: Collected) -> Config {
        let of_network = match collected {
            Collected::All => return self,
            Collected::WithoutNetwork => false,
            Collected::Network => true,
        };
        for metric in Collectors::metrics() {
            if NETWORK_METRICS.contains(&metric) != of_network {
                self.collectors.switch(metric, false);
            }
        }
        if of_network {
            self.path = self.path.network();
        }
        self
    }

    /// Whether collecting can go over to another configuration without starting anew.
    pub(crate) fn collects_into_the_same(&self, other: &Config) -> bool {
        self.path == other.path && self.spool == other.spool
    }

    /// The metrics that are switched off by name, as the histograms of others, and their rows by 10 minutes, are with them.
    pub(crate) fn disabled_metrics(&self) -> Vec<&'static str> {
        let collectors = self.collectors.collectors();
        let mut on: Vec<&str> = collectors.iter().flat_map(|collector| collector.metrics()).collect();
        on.extend(self.collectors.left_out().into_iter().map(|left_out| left_out.metric));
        let names = kumon_schema::all().iter().map(|schema| schema.name.as_str());
        let names = names.filter(|metric| kumon_schema::whole(metric).is_none());
        names.filter(|metric| *metric != rows::Agent::METRIC && !on.contains(metric)).collect()
    }

    /// Where rows go.
    ///
    /// # Errors
    /// When the keys contradict each other, or names can't be used.
    pub(crate) fn outputs(&self) -> Result<Outputs, ConfigError> {
        Outputs::of(self)
    }

    /// The inputs, with their schemas read.
    ///
    /// # Errors
    /// When a schema can't be read, or a name or pattern can't be used.
    pub(crate) fn shipper_inputs(&self) -> Result<Vec<kumon_shipper::Input>, ConfigError> {
        self.inputs.iter().map(InputConfig::resolve).collect()
    }
}

impl InputConfig {
    fn resolve(&self) -> Result<kumon_shipper::Input, ConfigError> {
        let wrong =
            |what: String| ConfigError::Value { key: format!("inputs (dataset '{}')", self.dataset), what };
        valid_stream_part(&self.dataset).map_err(wrong)?;
        for pattern in &self.paths {
            glob::Pattern::new(pattern)
                .map_err(|e| wrong(format!("paths: '{pattern}' is no pattern: {e}")))?;
            if !Path::new(pattern).is_absolute() {
                return Err(wrong(format!("paths: '{pattern}' must be absolute")));
            }
        }
        let schema = self.schema.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
            let schema = text.and_then(|text| kumon_schema::Schema::parse(&text).map_err(|e| e.to_string()));
            schema.map_err(|e| wrong(format!("schema: {}: {e}", path.display())))
        });
        let format = match self.format {
            InputFormat::Csv => kumon_shipper::Format::Csv,
            InputFormat::Ndjson if self.schema.is_some() => {
                return Err(wrong(
                    "schema: only CSV files have one; NDJSON rows carry their own types".into(),
                ));
            }
            InputFormat::Ndjson => kumon_shipper::Format::Ndjson,
        };
        let encoding =
            self.encoding.as_deref().map_or(Ok(Default::default()), kumon_shipper::Encoding::named);
        Ok(kumon_shipper::Input {
            paths: self.paths.clone(),
            format,
            schema: schema.transpose()?.map(kumon_shipper::with_field_names),
            dataset: self.dataset.clone(),
            timestamp_field: self.timestamp_field.clone(),
            times: self.times().map_err(wrong)?,
            encoding: encoding.map_err(|e| wrong(format!("encoding: {e}")))?,
            dialect: self.dialect().map_err(wrong)?,
            max_record: self.max_record().map_err(wrong)?,
        })
    }

    fn times(&self) -> Result<kumon_shipper::Times, String> {
        use kumon_shipper::{Times, TimesError};
        Times::new(self.time_zone.as_deref(), self.timestamp_format.as_deref()).map_err(|e| match e {
            TimesError::Zone(_) => format!("time_zone: {e}"),
            TimesError::Format(_) => format!("timestamp_format: {e}"),
        })
    }

    fn dialect(&self) -> Result<kumon_shipper::Dialect, String> {
        if self.format != InputFormat::Csv && (self.delimiter.is_some() || self.quote.is_some()) {
            return Err("delimiter, quote: only CSV files have them".into());
        }
        let character = |key: &str, text: char| match u8::try_from(text) {
            Ok(byte) if byte.is_ascii() && !matches!(text, '\n' | '\r' | '\0') => Ok(byte),
            _ => Err(format!("{key}: {text:?} can't be one; it takes one ASCII character")),
        };
        let mut dialect = kumon_shipper::Dialect::default();
        if let Some(delimiter) = self.delimiter {
            dialect.delimiter = character("delimiter", delimiter)?;
        }
        if let Some(quote) = &self.quote {
            let mut characters = quote.chars();
            dialect.quote = characters.next().map(|quote| character("quote", quote)).transpose()?;
            if characters.next().is_some() {
                return Err(format!("quote: '{quote}' can't be one; it takes one ASCII character, or none"));
            }
        }
        if dialect.quote == Some(dialect.delimiter) {
            return Err("delimiter and quote are the same character".into());
        }
        Ok(dialect)
    }

    fn max_record(&self) -> Result<Option<usize>, String> {
        let bytes = self.max_record.map(|size| size.as_u64());
        match bytes {
            Some(bytes) if !(1 << 10..=64 << 20).contains(&bytes) => {
                Err("max_record: it takes 1KiB to 64MiB".into())
            }
            bytes => Ok(bytes.map(|bytes| bytes as usize)),
        }
    }
}
