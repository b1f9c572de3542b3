//! The ways out to people: email, Slack, SMS, webhook.

mod config;
mod email;
mod http;
mod secret;
mod slack;
mod sms;
mod webhook;

use std::time::Duration;

pub(crate) use config::Endpoint;
pub use config::{ChannelConfig, ChannelError, Channels, check};

use crate::notification::Message;

/// Sends messages to one address.
pub(crate) trait Channel {
    /// Hands one message over.
    ///
    /// # Errors
    /// When nobody took it, or whether somebody did is unclear.
    fn send(&self, message: &Message) -> Result<(), SendError>;
}

/// Why a message was not delivered. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    /// What was tried, where, what it answered.
    pub message: String,
    /// Whether it will be the same until a person changes something.
    pub needs_person: bool,
    /// When the other side wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl SendError {
    fn needs_person(message: String) -> SendError {
        SendError { message, needs_person: true, retry_after: None }
    }

    fn for_now(message: String) -> SendError {
        SendError { message, needs_person: false, retry_after: None }
    }
}
