//! Email by SMTP.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kumon_schema::printable;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};
use serde::Deserialize;

use super::secret::Secret;
use super::{Channel, SendError};
use crate::notification::Message;

const TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 5322 wants lines of headers below 998; people see a fraction of that.
const MAX_SUBJECT: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The mail server's name, as its certificate has it.
    pub host: String,
    /// Of none: 587 with starttls, 465 with tls, 25 without.
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: EmailTls,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
    /// PEM; a further CA to trust.
    pub ca_file: Option<PathBuf>,
    pub from: String,
    pub to: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmailTls {
    /// The connection begins in plain text and must become TLS before anything is said.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// For a mail server on this machine or in a trusted network; never with a password.
    None,
}

pub(super) struct Email {
    config: EmailConfig,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<(String, Secret)>,
    node: String,
}

impl Email {
    pub(super) fn new(config: &EmailConfig, node: &str) -> Result<Email, String> {
        let mailbox =
            |text: &String| text.parse::<Mailbox>().map_err(|e| format!("'{text}' is no mail address: {e}"));
        let password = Secret::of("password", config.password_file.as_ref(), config.password_env.as_ref())?;
        let login = match (&config.username, password) {
            (None, None) => None,
            (Some(_), Some(_)) if config.tls == EmailTls::None => {
                return Err("a password is only sent through TLS: set tls to starttls or tls".into());
            }
            (Some(username), Some(password)) => Some((username.clone(), password)),
            _ => return Err("username and password_file (or password_env) go together".into()),
        };
        if config.to.is_empty() {
            return Err("to is empty".into());
        }
        Ok(Email {
            config: config.clone(),
            from: mailbox(&config.from)?,
            to: config.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            login,
            node: node.to_owned(),
        })
    }

    fn transport(&self) -> Result<SmtpTransport, SendError> {
        let EmailConfig { host, port, tls, .. } = &self.config;
        let (encryption, usual_port) = match tls {
            EmailTls::Starttls => (Tls::Required(self.tls()?), 587),
            EmailTls::Tls => (Tls::Wrapper(self.tls()?), 465),
            EmailTls::None => (Tls::None, 25),
        };
        let mut builder = SmtpTransport::builder_dangerous(host)
            .port(port.unwrap_or(usual_port))
            .tls(encryption)
            .timeout(Some(TIMEOUT))
            .hello_name(ClientId::Domain(self.node.clone()));
        if let Some((username, password)) = &self.login {
            builder = builder.credentials(Credentials::new(username.clone(), password.read()?));
        }
        Ok(builder.build())
    }

    fn tls(&self) -> Result<TlsParameters, SendError> {
        let mut builder = TlsParameters::builder(self.config.host.clone());
        if let Some(path) = &self.config.ca_file {
            let wrong = |why: String| SendError::needs_person(format!("{} {why}", path.display()));
            let pem = fs::read(path).map_err(|e| wrong(format!("can't be read: {e}")))?;
            let certificate =
                Certificate::from_pem(&pem).map_err(|_| wrong("holds no PEM certificate".into()))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().map_err(|e| SendError::needs_person(format!("TLS can't be set up: {e}")))
    }

    fn mail(&self, message: &Message) -> Result<lettre::Message, SendError> {
        let subject: String = message.subject().chars().take(MAX_SUBJECT).collect();
        let builder = lettre::Message::builder().from(self.from.clone()).subject(subject);
        let builder = self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        // RFC 3834: nobody's holiday notice is wanted.
        let automatic =
            HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into());
        let builder = builder.raw_header(automatic).header(ContentType::TEXT_PLAIN);
        builder
            .body(message.text())
            .map_err(|e| SendError::needs_person(format!("the message can't be written: {e}")))
    }
}

impl Channel for Email {
    fn send(&self, message: &Message) -> Result<(), SendError> {
        let mail = self.mail(message)?;
        let sent = self.transport()?.send(&mail);
        sent.map(drop).map_err(|e| {
            let mut causes = vec![e.to_string()];
            let mut cause = std::error::Error::source(&e);
            while let Some(source) = cause {
                causes.push(source.to_string());
                cause = source.source();
            }
            causes.dedup();
            SendError {
                message: format!(
                    "{} did not take the mail: {}",
                    self.config.host,
                    printable(&causes.join(": "))
                ),
                needs_person: e.is_permanent() || e.is_tls(),
                retry_after: None,
            }
        })
    }
}
