//! The configuration's section `channels`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Channel;
use super::email::{Email, EmailConfig};
use super::slack::{Slack, SlackConfig};
use super::sms::{Sms, SmsConfig};
use super::webhook::{Webhook, WebhookConfig};
use crate::alert::{Alert, Severity};

/// All channels, by name.
pub type Channels = BTreeMap<String, ChannelConfig>;

/// One channel: exactly one of its kinds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Alerts below this severity don't use the channel.
    #[serde(default = "lowest")]
    pub min_severity: Severity,
    /// Messages within an hour; what exceeds that is sent as one message later.
    #[serde(default = "thirty")]
    pub max_per_hour: u32,
    pub email: Option<EmailConfig>,
    pub slack: Option<SlackConfig>,
    pub sms: Option<SmsConfig>,
    pub webhook: Option<WebhookConfig>,
}

fn yes() -> bool {
    true
}

fn lowest() -> Severity {
    Severity::Info
}

fn thirty() -> u32 {
    30
}

/// A channel that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("channels.{channel}: {message}")]
pub struct ChannelError {
    pub channel: String,
    pub message: String,
}

/// Where messages go, one by one: an SMS channel has one for each number, so that a failure of one doubles none.
pub(crate) struct Endpoint {
    /// `oncall`, or `oncall +15005550001`.
    pub(crate) name: String,
    /// The channel's name in the configuration.
    pub(crate) channel: String,
    pub(crate) max_per_hour: u32,
    pub(crate) sender: Box<dyn Channel + Send>,
}

impl ChannelConfig {
    /// The channel's endpoints. `node` introduces this machine to mail servers.
    ///
    /// # Errors
    /// When keys are missing or contradict each other.
    pub(crate) fn endpoints(&self, name: &str, node: &str) -> Result<Vec<Endpoint>, ChannelError> {
        let wrong = |message: String| ChannelError { channel: name.to_owned(), message };
        if self.max_per_hour == 0 {
            return Err(wrong(
                "max_per_hour must be at least 1; enabled: false switches the channel off".into(),
            ));
        }
        let endpoint = |address: Option<&str>, sender: Box<dyn Channel + Send>| Endpoint {
            name: address.map_or_else(|| name.to_owned(), |address| format!("{name} {address}")),
            channel: name.to_owned(),
            max_per_hour: self.max_per_hour,
            sender,
        };
        match (&self.email, &self.slack, &self.sms, &self.webhook) {
            (Some(email), None, None, None) => {
                Ok(vec![endpoint(None, Box::new(Email::new(email, node).map_err(wrong)?))])
            }
            (None, Some(slack), None, None) => {
                Ok(vec![endpoint(None, Box::new(Slack::new(slack).map_err(wrong)?))])
            }
            (None, None, Some(sms), None) => {
                let senders = Sms::new(sms).map_err(wrong)?;
                let endpoints = senders.into_iter().zip(&sms.to);
                Ok(endpoints.map(|(sender, to)| endpoint(Some(to), Box::new(sender))).collect())
            }
            (None, None, None, Some(webhook)) => {
                Ok(vec![endpoint(None, Box::new(Webhook::new(webhook).map_err(wrong)?))])
            }
            _ => Err(wrong("exactly one of email, slack, sms and webhook is needed".into())),
        }
    }

    /// Whether the alert's messages go through this channel.
    pub fn takes(&self, name: &str, alert: &Alert) -> bool {
        let chosen = alert.channels.as_ref().is_none_or(|channels| channels.iter().any(|c| c == name));
        self.enabled && chosen && alert.severity >= self.min_severity
    }
}

/// Checks all channels without sending anything.
///
/// # Errors
/// The first that can't be used.
pub fn check(channels: &Channels) -> Result<(), ChannelError> {
    channels.iter().try_for_each(|(name, channel)| channel.endpoints(name, "localhost").map(drop))
}
