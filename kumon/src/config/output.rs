//! Where rows go.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use kumon_shipper::elasticsearch::{Authentication, ClientCertificate, Options as ClientOptions};
use serde::Deserialize;

use super::{ConfigError, file};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Output {
    /// Absent: the embedded store.
    pub(crate) elasticsearch: Option<ElasticsearchOutput>,
}

/// One of the list `outputs`: one of both kinds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputEntry {
    /// Absent: its kind.
    pub(super) name: Option<String>,
    pub(super) elasticsearch: Option<ElasticsearchOutput>,
    pub(super) store: Option<StoreOutput>,
}

/// The embedded store, whose limits are in the section `store`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreOutput {}

/// Secrets come from files only, so that they never stand in the configuration, a process list or a log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ElasticsearchOutput {
    pub(crate) hosts: Vec<String>,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_certificate_file: Option<PathBuf>,
    pub(crate) client_key_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) compression: CompressionSetting,
    #[serde(default = "default_batch_bytes", deserialize_with = "file::size")]
    pub(crate) batch_bytes: ByteSize,
    #[serde(default = "default_timeout", deserialize_with = "file::duration")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CompressionSetting {
    #[default]
    Gzip,
    None,
}

/// Larger ones were measured to go no faster; two of them are in memory at a time.
pub(crate) fn default_batch_bytes() -> ByteSize {
    ByteSize::mb(1)
}

fn default_timeout() -> Duration {
    Duration::from_secs(60)
}

impl ElasticsearchOutput {
    /// How to reach the cluster, and as whom. `key` is where this section stands.
    ///
    /// # Errors
    /// When keys contradict each other.
    pub(super) fn client_options(&self, key: &str) -> Result<ClientOptions, ConfigError> {
        let wrong = |what: &str| ConfigError::Value { key: key.into(), what: what.into() };
        let authentication = authentication(key, &self.username, &self.password_file, &self.api_key_file)?;
        let client_certificate = match (&self.client_certificate_file, &self.client_key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(ClientCertificate { certificate_file: certificate.clone(), key_file: key.clone() })
            }
            _ => return Err(wrong("client_certificate_file and client_key_file go together")),
        };
        if self.hosts.is_empty() {
            return Err(wrong("hosts is empty"));
        }
        Ok(ClientOptions {
            section: key.to_owned(),
            hosts: self.hosts.clone(),
            authentication,
            ca_file: self.ca_file.clone(),
            client_certificate,
            gzip: self.compression == CompressionSetting::Gzip,
            timeout: self.timeout,
        })
    }
}

/// Who asks, by the keys of a section.
///
/// # Errors
/// When keys contradict each other.
pub(super) fn authentication(
    section: &str,
    username: &Option<String>,
    password_file: &Option<PathBuf>,
    api_key_file: &Option<PathBuf>,
) -> Result<Authentication, ConfigError> {
    let wrong = |what: &str| Err(ConfigError::Value { key: section.into(), what: what.into() });
    match (username, password_file, api_key_file) {
        (None, None, None) => Ok(Authentication::None),
        (Some(username), Some(password_file), None) => {
            Ok(Authentication::Basic { username: username.clone(), password_file: password_file.clone() })
        }
        (None, None, Some(file)) => Ok(Authentication::ApiKey { file: file.clone() }),
        (Some(_), None, None) => wrong("username needs password_file beside it"),
        (None, Some(_), None) => wrong("password_file needs username beside it"),
        _ => wrong("give either username and password_file or api_key_file, not both"),
    }
}
