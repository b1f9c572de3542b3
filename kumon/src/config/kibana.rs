//! Where dashboards are put.

use std::path::PathBuf;

use kumon_shipper::elasticsearch::Authentication;
use serde::Deserialize;

use super::{ConfigError, output};

/// The section `kibana`. Secrets come from files only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KibanaConfig {
    /// As people open it: `https://kibana.example:5601`, with `server.basePath` where there is one.
    pub(crate) url: String,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    /// The identifier of a space; absent: the default space.
    pub(crate) space: Option<String>,
}

impl KibanaConfig {
    /// Who puts them there; none where the section doesn't say.
    ///
    /// # Errors
    /// When keys contradict each other.
    pub(crate) fn authentication(&self) -> Result<Option<Authentication>, ConfigError> {
        let given =
            output::authentication("kibana", &self.username, &self.password_file, &self.api_key_file)?;
        Ok(Some(given).filter(|given| *given != Authentication::None))
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.authentication()?;
        let wrong = |what: String| ConfigError::Value { key: "kibana".into(), what };
        if !(self.url.starts_with("http://") || self.url.starts_with("https://")) {
            let message = format!("url: '{}' must begin with http:// or https://", self.url);
            return Err(wrong(message));
        }
        // Kibana's own rule for the identifiers of spaces; anything else would be another path.
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        match &self.space {
            Some(space) if space.is_empty() || !space.chars().all(allowed) => Err(wrong(format!(
                "space: '{space}' is no identifier of a space: lower-case letters, digits, '_' and '-'"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KibanaConfig;

    fn validated(text: &str) -> Result<(), String> {
        let config: KibanaConfig = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())
    }

    #[test]
    fn what_can_be_no_kibana_is_refused() {
        assert_eq!(validated("url: https://kibana:5601/base\nspace: operations"), Ok(()));
        for (text, expected) in [
            ("url: kibana:5601", "'kibana:5601' must begin with http:// or https://"),
            ("url: http://k\nspace: ../x", "'../x' is no identifier of a space"),
            ("url: http://k\nspace: ''", "'' is no identifier of a space"),
            ("url: http://k\nusername: elastic", "kibana: username needs password_file beside it"),
            ("url: http://k\nusername: e\npassword_file: p\napi_key_file: k", "not both"),
        ] {
            let message = validated(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
