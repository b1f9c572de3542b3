//! What went wrong with a request, in words for the operator.

use std::error::Error;
use std::time::Duration;

use serde::Deserialize;

use super::client::Answer;
use super::error_cause::ErrorCause;
use crate::SinkError;

/// Why a request was not answered, or not with success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What was tried, on what, and what to do.
    pub message: String,
    /// Whether only a person can help: a wrong password, a missing privilege, a certificate.
    pub needs_person: bool,
    /// Whether the cluster may have done what it was asked for all the same.
    pub unclear: bool,
    /// The HTTP status; of none, there was no answer.
    pub status: Option<u16>,
}

impl Failure {
    /// A request that got no answer.
    pub(super) fn of_transport(host: &str, error: &elasticsearch::Error, timeout: Duration) -> Failure {
        let cause = cause(error);
        let at = format!("Elasticsearch at {host}");
        if let Some(message) = tls_message(&at, &cause) {
            return Failure { message, needs_person: true, unclear: false, status: None };
        }
        let http = error.source().and_then(|source| source.downcast_ref::<reqwest::Error>());
        let message = if error.is_timeout() {
            format!("{at} did not answer within {timeout:?}; is it overloaded, or is a firewall in between?")
        } else if http.is_some_and(reqwest::Error::is_connect) {
            format!(
                "{at} can't be reached ({cause}); is it running, and is output.elasticsearch.hosts right?"
            )
        } else {
            let scheme = if host.starts_with("http:") {
                "; if it speaks HTTPS, write https:// in output.elasticsearch.hosts"
            } else {
                ""
            };
            format!("{at} ended the connection ({cause}){scheme}")
        };
        let unclear = !http.is_some_and(|error| error.is_connect() || error.is_builder());
        Failure { message, needs_person: false, unclear, status: None }
    }

    /// A request that a bug ended.
    pub(super) fn of_panic(error: &tokio::task::JoinError) -> Failure {
        let message = format!("a request to Elasticsearch ended of a bug ({error}); it is sent again");
        Failure { message, needs_person: false, unclear: true, status: None }
    }

    /// An answer that is no success. `credentials` is where it is configured who asks.
    pub(super) fn of_status(answer: &Answer, credentials: &str) -> Failure {
        let Answer { status, host, .. } = answer;
        let (at, reason) = (format!("Elasticsearch at {host}"), answer.reason());
        let (needs_person, message) = match status {
            401 => (true, format!("{at} does not accept the credentials ({reason}); check {credentials}")),
            403 => (true, forbidden(&at, &reason)),
            404 | 405 => (
                true,
                format!(
                    "{at} does not know the request ({status}: {reason}); is that an Elasticsearch 8.13 or later?"
                ),
            ),
            429 => (
                false,
                format!("{at} has more to do than it can take (429: {reason}); sending goes on later"),
            ),
            413 => (true, format!("{at} finds the request too large (413); see its http.max_content_length")),
            400..=499 => (true, format!("{at} refuses the request ({status}: {reason})")),
            _ => (false, format!("{at} is not ready ({status}: {reason}); see its log")),
        };
        // A gateway's time-out says nothing about the host behind it.
        let unclear = matches!(status, 500 | 502 | 504);
        Failure { message, needs_person, unclear, status: Some(*status) }
    }

    /// One failure of several hosts' failures.
    pub(super) fn of_all(mut failures: Vec<Failure>) -> Failure {
        let messages: Vec<String> = failures.iter().map(|failure| failure.message.clone()).collect();
        let unclear = failures.iter().any(|failure| failure.unclear);
        let needs_person = failures.iter().all(|failure| failure.needs_person);
        let status = failures.pop().and_then(|failure| failure.status);
        Failure { message: messages.join("; "), needs_person, unclear, status }
    }
}

impl From<Failure> for SinkError {
    fn from(failure: Failure) -> SinkError {
        if failure.needs_person {
            SinkError::Refused(failure.message)
        } else {
            SinkError::Unavailable(failure.message)
        }
    }
}

/// What a 403 means: a block, or a missing privilege.
pub(super) fn forbidden(at: &str, reason: &str) -> String {
    if reason.starts_with("cluster_block_exception") {
        return format!(
            "{at} has closed the index for writing, or all of them ({reason}): a full disk, or a block set by hand"
        );
    }
    format!(
        "{at} does not allow this ({reason}); there are roles for shipping (kumon_shipper), asking (kumon_reader) and \
         setup (kumon_admin), see docs/elasticsearch.md, \"Who may do what\""
    )
}

/// rustls's errors arrive as text only, inside of two other libraries' errors.
fn tls_message(at: &str, cause: &str) -> Option<String> {
    let has = |text: &str| cause.contains(text);
    Some(if has("certificate expired") || has("CertExpired") {
        format!("the certificate of {at} has expired: renew it on the server ({cause})")
    } else if has("not valid yet") || has("NotValidYet") {
        format!("the certificate of {at} is not valid yet: compare the clocks of both machines ({cause})")
    } else if has("UnknownIssuer") {
        format!(
            "the certificate of {at} was signed by a CA that is not known here: set \
             output.elasticsearch.ca_file to the CA's certificate"
        )
    } else if has("not valid for name") || has("NotValidForName") {
        format!(
            "the certificate of {at} is for another host name: write a name that it carries into \
             output.elasticsearch.hosts ({cause})"
        )
    } else if has("CertificateRequired") || has("BadCertificate") || has("UnknownCA") {
        format!(
            "{at} wants a client certificate that it trusts: set output.elasticsearch.client_certificate_file \
             and client_key_file ({cause})"
        )
    } else if has("invalid peer certificate") {
        format!("the certificate of {at} can't be trusted ({cause})")
    } else if has("InvalidContentType") {
        format!(
            "{at} does not speak HTTPS: write http:// in output.elasticsearch.hosts, or switch TLS on there"
        )
    } else {
        return None;
    })
}

/// The innermost error, which names what really happened.
fn cause(error: &elasticsearch::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The error of an Elasticsearch body, with what caused it; else the body's beginning.
pub(super) fn error_reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: ErrorCause,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => body.error.to_string(),
        Err(_) => String::from_utf8_lossy(body).trim().chars().take(200).collect(),
    }
}
