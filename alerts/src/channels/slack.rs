//! Slack's incoming webhooks, which Mattermost and Rocket.Chat have too.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::http::{Address, Http};
use super::secret::Secret;
use super::{Channel, SendError};
use crate::notification::Message;

/// Slack cuts texts at 40,000 characters, and advises 4,000.
const MAX_CHARACTERS: usize = 4000;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// A file with the webhook's URL, which is the secret.
    pub url_file: Option<PathBuf>,
    /// The name of an environment variable with it.
    pub url_env: Option<String>,
    pub ca_file: Option<PathBuf>,
}

pub(super) struct Slack(Http);

impl Slack {
    pub(super) fn new(config: &SlackConfig) -> Result<Slack, String> {
        let url = Secret::needed("url", config.url_file.as_ref(), config.url_env.as_ref())?;
        Ok(Slack(Http::new(Address::Secret(url), config.ca_file.clone())))
    }
}

impl Channel for Slack {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let text: String = format!("{}\n{}", message.subject(), message.text());
        let text: String = text.chars().take(MAX_CHARACTERS).collect();
        // No markup and no links of its own: a process may be called `<!channel>` or `*bold*`.
        let body = json!({
            "text": escape(&text), "mrkdwn": false, "parse": "none", "link_names": false,
            "unfurl_links": false, "unfurl_media": false,
        });
        self.0.post(|request| request.json(&body))
    }
}

/// The three characters that Slack reads as its own, see its "Formatting text for app surfaces".
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
