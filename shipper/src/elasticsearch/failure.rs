//! What went wrong with a request, in words for the operator.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::between::{first_words, somebody_between};
use super::client::Answer;
use super::errors::Trouble;
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
    /// A request that got no answer. `section` is where the host is configured.
    pub(super) fn of_transport(
        host: &str,
        error: &reqwest::Error,
        timeout: Duration,
        section: &str,
    ) -> Failure {
        let cause = cause(error);
        let at = format!("Elasticsearch at {host}");
        if let Some(message) = tls_error(error).and_then(|error| tls_message(&at, error, section)) {
            return Failure { message, needs_person: true, unclear: false, status: None };
        }
        let message = if error.is_timeout() {
            format!("{at} did not answer within {timeout:?}; is it overloaded, or is a firewall in between?")
        } else if error.is_connect() {
            format!("{at} can't be reached ({cause}); is it running, and is {section}.hosts right?")
        } else {
            let scheme = if host.starts_with("http:") {
                format!("; if it speaks HTTPS, write https:// in {section}.hosts")
            } else {
                String::new()
            };
            format!("{at} ended the connection ({cause}){scheme}")
        };
        let unclear = !(error.is_connect() || error.is_builder());
        Failure { message, needs_person: false, unclear, status: None }
    }

    /// A request that a bug ended.
    pub(super) fn of_panic(error: &tokio::task::JoinError) -> Failure {
        let message = format!("a request to Elasticsearch ended of a bug ({error}); it is sent again");
        Failure { message, needs_person: false, unclear: true, status: None }
    }

    /// An answer of which more was to come than is read.
    pub(super) fn of_length(answer: &Answer, limit: usize) -> Failure {
        Failure::of_content(answer, &format!("more than {limit} bytes"))
    }

    /// An answer that is not what was asked for.
    pub(super) fn of_content(answer: &Answer, why: &str) -> Failure {
        let Answer { status, host, body, .. } = answer;
        let message = format!(
            "{host} answered something else than Elasticsearch would ({why}: {}); is that one?",
            first_words(body)
        );
        Failure { message, needs_person: true, unclear: true, status: Some(*status) }
    }

    /// An answer that is no success. `section` is where the cluster is configured, `credentials` where it is who asks.
    pub(super) fn of_status(answer: &Answer, section: &str, credentials: &str) -> Failure {
        if let Some(failure) = somebody_between(answer, section, credentials) {
            return failure;
        }
        let Answer { status, host, .. } = answer;
        if (200..300).contains(status) {
            return Failure::of_content(answer, &format!("status {status}"));
        }
        let (at, reason) = (format!("Elasticsearch at {host}"), answer.reason());
        let (needs_person, message) = match status {
            401 => (true, format!("{at} does not accept the credentials ({reason}); check {credentials}")),
            403 => {
                let is_block = answer.error().is_some_and(|error| error.is("cluster_block_exception"));
                let trouble = if is_block { Trouble::Blocked } else { Trouble::Forbidden };
                (true, trouble.message(&at, &reason))
            }
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

/// What rustls has to say, which other libraries' errors wrap.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // The source of an I/O error is that of the error inside, which would be passed over.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

fn tls_message(at: &str, error: &rustls::Error, section: &str) -> Option<String> {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    Some(match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            format!("the certificate of {at} has expired: renew it on the server ({error})")
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            format!("the certificate of {at} is not valid yet: compare the clocks of both machines ({error})")
        }
        rustls::Error::InvalidCertificate(UnknownIssuer) => format!(
            "the certificate of {at} was signed by a CA that is not known here: set \
             {section}.ca_file to the CA's certificate"
        ),
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => format!(
            "the certificate of {at} is for another host name: write a name that it carries into \
             {section}.hosts ({error})"
        ),
        rustls::Error::InvalidCertificate(_) => {
            format!("the certificate of {at} can't be trusted ({error})")
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA,
        ) => format!(
            "{at} wants a client certificate that it trusts: set {section}.client_certificate_file \
             and client_key_file ({error})"
        ),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{at} does not speak HTTPS: write http:// in {section}.hosts, or switch TLS on there")
        }
        _ => return None,
    })
}

/// The innermost error, which names what really happened.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
