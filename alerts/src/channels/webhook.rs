//! A webhook of the user's own: one JSON object a message.

use std::path::PathBuf;

use reqwest::header::AUTHORIZATION;
use serde::Deserialize;

use super::http::{Address, Http, url};
use super::secret::Secret;
use super::{Channel, SendError};
use crate::notification::Message;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub url: Option<String>,
    /// Where the URL itself is a secret.
    pub url_file: Option<PathBuf>,
    pub url_env: Option<String>,
    /// The value of the header Authorization, such as `Bearer …`.
    pub authorization_file: Option<PathBuf>,
    pub authorization_env: Option<String>,
    pub ca_file: Option<PathBuf>,
}

pub(super) struct Webhook {
    http: Http,
    authorization: Option<Secret>,
}

impl Webhook {
    pub(super) fn new(config: &WebhookConfig) -> Result<Webhook, String> {
        let secret = Secret::of("url", config.url_file.as_ref(), config.url_env.as_ref())?;
        let address = match (&config.url, secret) {
            (Some(plain), None) => Address::Plain(url(plain)?),
            (None, Some(secret)) => Address::Secret(secret),
            _ => return Err("exactly one of url, url_file and url_env is needed".into()),
        };
        let (file, env) = (config.authorization_file.as_ref(), config.authorization_env.as_ref());
        Ok(Webhook {
            http: Http::new(address, config.ca_file.clone()),
            authorization: Secret::of("authorization", file, env)?,
        })
    }
}

impl Channel for Webhook {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let authorization = self.authorization.as_ref().map(Secret::read).transpose()?;
        self.http.post(|request| {
            let request = request.json(&message.json());
            match authorization {
                Some(value) => request.header(AUTHORIZATION, value),
                None => request,
            }
        })
    }
}
