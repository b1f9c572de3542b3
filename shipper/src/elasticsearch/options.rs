//! How to reach a cluster, and as whom.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;

/// What the configuration says of a cluster, as far as it is about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it stands in the configuration, for messages: `output.elasticsearch`.
    pub section: String,
    /// URLs (`https://es1:9200`), at least one. The next is used when one can't be reached.
    pub hosts: Vec<String>,
    pub authentication: Authentication,
    /// Certificates (PEM) of further CAs to trust, besides the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// What to show a server that asks for a client certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether request bodies are sent gzip-compressed.
    pub gzip: bool,
    /// How long one request may take.
    pub timeout: Duration,
}

/// Who asks. Secrets stand in files of their own, so that the configuration can be shown around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Security is off, or the client certificate says who asks.
    None,
    Basic {
        username: String,
        password_file: PathBuf,
    },
    /// The file holds what Elasticsearch answered as `encoded`, or `id:api_key`.
    ApiKey {
        file: PathBuf,
    },
    /// What [`Authentication::read`] gives.
    Known {
        header: HeaderValue,
        from: String,
    },
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// The options can't be used: a file that can't be read, a URL that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(pub(crate) String);

impl OptionsError {
    /// The same, of a key in that place, which ends with a dot: `output.elasticsearch.`.
    pub fn within(self, place: &str) -> OptionsError {
        OptionsError(format!("{place}{}", self.0))
    }
}

impl Authentication {
    /// The same with its secret read, for several to use: a file such as /dev/stdin can be read once only. `from` says
    /// where the operator looks when the cluster refuses it.
    ///
    /// # Errors
    /// As [`Authentication::header`].
    pub fn read(&self, from: String) -> Result<Authentication, OptionsError> {
        Ok(self.header()?.map_or(Authentication::None, |header| Authentication::Known { header, from }))
    }

    /// The value of the header `Authorization`.
    ///
    /// # Errors
    /// When the file can't be read, or holds something that can't be a secret; begins with the key that names the file.
    pub fn header(&self) -> Result<Option<HeaderValue>, OptionsError> {
        let (text, path) = match self {
            Authentication::None => return Ok(None),
            Authentication::Known { header, .. } => return Ok(Some(header.clone())),
            Authentication::Basic { username, password_file } => {
                let password = read_secret("password_file", password_file)?;
                let encoded = BASE64_STANDARD.encode(format!("{username}:{password}"));
                (format!("Basic {encoded}"), password_file)
            }
            Authentication::ApiKey { file } => {
                let key = read_secret("api_key_file", file)?;
                // The encoded form is base64, which has no colon.
                let encoded = if key.contains(':') { BASE64_STANDARD.encode(key) } else { key };
                (format!("ApiKey {encoded}"), file)
            }
        };
        let error = |_| OptionsError(format!("{}: what it holds can't stand in a header", path.display()));
        let mut header = HeaderValue::from_str(&text).map_err(error)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// Where the operator looks when the cluster refuses the credentials, which stand in this section.
    pub fn place(&self, section: &str) -> String {
        let keys = match self {
            Authentication::None => "a username and password_file or an api_key_file",
            Authentication::Basic { .. } => "username and password_file",
            Authentication::ApiKey { .. } => "api_key_file",
            Authentication::Known { from, .. } => return from.clone(),
        };
        format!("{section}: {keys}")
    }
}

/// Reads a file that the key `key` names.
pub(crate) fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, OptionsError> {
    fs::read(path).map_err(|e| OptionsError(format!("{key}: reading {} failed: {e}", path.display())))
}

fn read_secret(key: &str, path: &Path) -> Result<String, OptionsError> {
    let secret = String::from_utf8_lossy(&read_file(key, path)?).trim().to_owned();
    if secret.is_empty() || secret.contains('\n') {
        let what = "must hold the secret and nothing else, on one line";
        return Err(OptionsError(format!("{key}: {} {what}", path.display())));
    }
    Ok(secret)
}
