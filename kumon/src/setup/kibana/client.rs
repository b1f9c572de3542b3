//! Blocking requests to Kibana's HTTP API.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kumon_schema::printable;
use kumon_shipper::elasticsearch::{Authentication, Failure};
use reqwest::blocking::{Client, ClientBuilder};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method};
use serde_json::Value;

use crate::config::KibanaConfig;

/// Of an answer no more is read, in bytes: an export of all dashboards is the longest.
const LONGEST_ANSWER: u64 = 64 << 20;
/// An import makes Kibana migrate and index; no other request takes long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Talks to one space of a Kibana.
pub(in crate::setup) struct Kibana {
    http: Client,
    /// The URL of the space, without a slash at its end.
    base: String,
    space: Option<String>,
}

/// What Kibana answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
}

impl Kibana {
    /// A client for that section; `other` says who asks where the section doesn't. Nothing is sent yet.
    ///
    /// # Errors
    /// When a file can't be read or used.
    pub(in crate::setup) fn new(config: &KibanaConfig, other: &Authentication) -> Result<Kibana> {
        let authentication = config.authentication()?;
        let header = authentication.as_ref().unwrap_or(other).header().map_err(|e| e.within("kibana."))?;
        // Without this one Kibana refuses whatever changes something, as the request might be forged by a page.
        let mut headers = HeaderMap::from_iter([("kbn-xsrf".parse()?, HeaderValue::from_static("kumon"))]);
        headers.extend(header.map(|header| (AUTHORIZATION, header)));
        // A redirect is not followed: the credentials are for the host that the configuration names.
        let mut builder =
            Client::builder().timeout(TIMEOUT).redirect(Policy::none()).default_headers(headers);
        if let Some(path) = &config.ca_file {
            builder = trust(builder, path).with_context(|| format!("kibana.ca_file: {}", path.display()))?;
        }
        let http = builder.build().context("kibana: the certificates can't be used")?;
        let mut base = config.url.trim_end_matches('/').to_owned();
        if let Some(space) = &config.space {
            base += &format!("/s/{space}");
        }
        Ok(Kibana { http, base, space: config.space.clone() })
    }

    /// The space that it talks to; none is the default one.
    pub(super) fn space(&self) -> Option<&str> {
        self.space.as_deref()
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, None)
    }

    /// A request with a JSON body.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.send(Method::POST, path, Some(("application/json", body.to_string())))
    }

    /// A request with a JSON body that replaces what is there.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.send(Method::PUT, path, Some(("application/json", body.to_string())))
    }

    /// A request that sends a file as a form does (RFC 7578). The file is JSON lines: none of them can be the boundary.
    pub(super) fn post_file(&self, path: &str, file: &str) -> Result<Answer, Failure> {
        let body = format!(
            "--kumon\r\nContent-Disposition: form-data; name=\"file\"; filename=\"kumon.ndjson\"\r\n\
             Content-Type: application/ndjson\r\n\r\n{file}\r\n--kumon--\r\n"
        );
        self.send(Method::POST, path, Some(("multipart/form-data; boundary=kumon", body)))
    }

    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::DELETE, path, None)
    }

    fn send(&self, method: Method, path: &str, body: Option<(&str, String)>) -> Result<Answer, Failure> {
        let mut request = self.http.request(method, format!("{}/{path}", self.base));
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        let response = request.send().map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let location = response.headers().get(LOCATION);
        let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
        let mut body = Vec::new();
        response.take(LONGEST_ANSWER).read_to_end(&mut body).map_err(|error| self.cut(&error))?;
        Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned(), location })
    }

    fn cut(&self, error: &std::io::Error) -> Failure {
        failure(None, format!("Kibana at {} ended the connection ({error})", self.base))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause =
            std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source()).last();
        let cause = cause.map(ToString::to_string).unwrap_or_default();
        let hint = if cause.contains("certificate") || cause.contains("UnknownIssuer") {
            "check kibana.ca_file, and whether the certificate has the name in kibana.url"
        } else {
            "is it running, and is kibana.url right?"
        };
        failure(None, format!("Kibana at {} can't be reached ({cause}); {hint}", self.base))
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, answer: &Answer) -> Failure {
        let (status, reason) = (answer.status, answer.reason());
        if let Some(location) = &answer.location {
            let location = printable(location);
            let message = format!(
                "Kibana at {} redirects to {location} ({status}), which is not followed; kibana.url must name the \
                 Kibana itself",
                self.base
            );
            return failure(Some(status), message);
        }
        let hint = match status {
            401 => "check the credentials: the section kibana, or --username and --api-key-file",
            404 => "is kibana.url right, server.basePath and kibana.space included?",
            503 => "it is not ready yet; repeat this later",
            _ => "see its log",
        };
        failure(
            Some(status),
            format!("Kibana at {} refuses the request ({status}: {reason}); {hint}", self.base),
        )
    }
}

impl Answer {
    /// The error that the body reports, else its beginning.
    pub(super) fn reason(&self) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let message = body["message"].as_str().map(str::to_owned);
        printable(&message.unwrap_or_else(|| self.text.chars().take(200).collect()))
    }
}

fn trust(builder: ClientBuilder, path: &Path) -> Result<ClientBuilder> {
    let certificates = Certificate::from_pem_bundle(&fs::read(path)?).context("is no PEM certificate")?;
    anyhow::ensure!(!certificates.is_empty(), "holds no PEM certificate");
    Ok(certificates.into_iter().fold(builder, ClientBuilder::add_root_certificate))
}

fn failure(status: Option<u16>, message: String) -> Failure {
    Failure { message, needs_person: true, unclear: false, status }
}
