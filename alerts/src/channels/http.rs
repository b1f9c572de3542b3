//! Posting to HTTP servers.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kumon_schema::printable;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, Response, Url};
use tokio::runtime::{Builder, Runtime};

use super::SendError;
use super::secret::Secret;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer that is no success, in messages.
const MAX_REASON: usize = 200;
/// Whatever a server asks for, it is asked again within an hour.
const MAX_RETRY_AFTER: u64 = 3600;

/// An address to post to, which may itself be the secret (Slack's webhooks).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Plain(Url),
    Secret(Secret),
}

/// A client of one server.
pub(super) struct Http {
    address: Address,
    ca_file: Option<PathBuf>,
}

/// Reads a URL of the configuration.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("the URL can't be used: {e}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("the URL must begin with http:// or https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL must not hold credentials: they have keys of their own".into());
    }
    Ok(url)
}

impl Http {
    pub(super) fn new(address: Address, ca_file: Option<PathBuf>) -> Http {
        Http { address, ca_file }
    }

    /// Posts what `build` makes of the request. A redirection is not followed: secrets go where they are meant to.
    pub(super) fn post(&self, build: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Result<(), SendError> {
        let url = match &self.address {
            Address::Plain(plain) => plain.clone(),
            Address::Secret(secret) => url(&secret.read()?).map_err(SendError::needs_person)?,
        };
        // Messages are rare: a client and a runtime for each keep nothing in memory between them.
        let host = url.host_str().unwrap_or_default().to_owned();
        let client = self.client()?;
        runtime()?.block_on(async {
            let mut answer = build(client.post(url)).send().await.map_err(|e| unanswered(&host, e))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let retry_after =
                answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let retry_after =
                retry_after.map(|seconds: u64| Duration::from_secs(seconds.min(MAX_RETRY_AFTER)));
            let reason: String = beginning(&mut answer).await.chars().take(MAX_REASON).collect();
            let reason = printable(&reason);
            let for_now = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
            Err(SendError {
                message: format!("{host} answered {status}: {reason}"),
                needs_person: !for_now,
                retry_after,
            })
        })
    }

    fn client(&self) -> Result<Client, SendError> {
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).user_agent("kumon");
        if let Some(path) = &self.ca_file {
            let wrong = |why: String| SendError::needs_person(format!("{} {why}", path.display()));
            let pem = fs::read(path).map_err(|e| wrong(format!("can't be read: {e}")))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            for certificate in certificates.map_err(|_| wrong("holds no PEM certificate".into()))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        builder.build().map_err(|e| SendError::needs_person(format!("no HTTP client: {}", e.without_url())))
    }
}

/// Of a body as much as messages have room for: whoever answers may not stop.
async fn beginning(answer: &mut Response) -> String {
    let mut body = Vec::new();
    while body.len() < 4 * MAX_REASON
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&body).into_owned()
}

fn runtime() -> Result<Runtime, SendError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| SendError::for_now(format!("no runtime for network requests: {e}")))
}

/// The innermost cause says what happened; the URL, which may be secret, is left out.
fn unanswered(host: &str, error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    SendError::for_now(format!("{host} did not take it: {cause}"))
}
