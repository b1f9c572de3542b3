//! SMS through a gateway that takes Twilio's form post (`From`, `To`, `Body`, Basic authentication).

use std::path::PathBuf;

use serde::Deserialize;

use super::http::{Address, Http, url};
use super::secret::Secret;
use super::{Channel, SendError};
use crate::notification::Message;

/// Two SMS in the alphabet that takes 16 bits for a character.
const MAX_CHARACTERS: usize = 134;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsConfig {
    /// `https://api.twilio.com/2010-04-01/Accounts/<account>/Messages.json`.
    pub url: String,
    /// The account's id.
    pub username: String,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
    pub from: String,
    pub to: Vec<String>,
    pub ca_file: Option<PathBuf>,
}

pub(super) struct Sms {
    http: Http,
    username: String,
    password: Secret,
    from: String,
    to: String,
}

impl Sms {
    /// One for each number.
    pub(super) fn new(config: &SmsConfig) -> Result<Vec<Sms>, String> {
        let address = Address::Plain(url(&config.url)?);
        let password =
            Secret::needed("password", config.password_file.as_ref(), config.password_env.as_ref())?;
        if config.to.is_empty() {
            return Err("to is empty".into());
        }
        let sms = |to: &String| Sms {
            http: Http::new(address.clone(), config.ca_file.clone()),
            username: config.username.clone(),
            password: password.clone(),
            from: config.from.clone(),
            to: to.clone(),
        };
        Ok(config.to.iter().map(sms).collect())
    }
}

impl Channel for Sms {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let password = self.password.read()?;
        let body: String = message.subject().chars().take(MAX_CHARACTERS).collect();
        let form = [("From", self.from.as_str()), ("To", self.to.as_str()), ("Body", body.as_str())];
        self.http.post(|request| request.basic_auth(&self.username, Some(password)).form(&form))
    }
}
