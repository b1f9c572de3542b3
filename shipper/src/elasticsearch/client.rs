//! Blocking requests to a cluster of one or several hosts.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::auth::{ClientCertificate, Credentials};
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method;
use elasticsearch::http::headers::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{Connection, ConnectionPool, Transport, TransportBuilder};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::failure::{Failure, error_reason};
use super::options::{Options, OptionsError, read_file};

/// Talks to a cluster.
pub struct Client {
    transport: Transport,
    hosts: Hosts,
    runtime: Runtime,
    options: Options,
}

/// What the cluster answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
    /// The URL of the host that answered.
    pub host: String,
}

impl Client {
    /// A client of that cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When a file can't be read or used, or a host is no URL.
    pub fn new(options: Options) -> Result<Client, OptionsError> {
        let hosts = Hosts::new(&options.hosts)?;
        let transport = transport(&options, hosts.clone())?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| OptionsError(format!("no runtime for network requests: {e}")))?;
        Ok(Client { transport, hosts, runtime, options })
    }

    /// Sends a request with a JSON body, or with none. `path` may carry a query string.
    ///
    /// # Errors
    /// When no host gave an answer. An answer that reports an error is none; see [`Client::ok`].
    pub fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let body = body.map(|json| json.to_string().into());
        self.send(method, path, "application/json", body)
    }

    /// The answer, when its status is 2xx.
    ///
    /// # Errors
    /// What the cluster complains about, in words for the operator.
    pub fn ok(&self, answer: Answer) -> Result<Answer, Failure> {
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    /// Posts NDJSON.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn post_ndjson(&self, path: &str, body: Bytes) -> Result<Answer, Failure> {
        self.send(Method::Post, path, "application/x-ndjson", Some(body))
    }

    /// Posts NDJSON bodies at the same time; answers in their order.
    pub(super) fn post_all(&self, path: &str, bodies: Vec<Bytes>) -> Vec<Result<Answer, Failure>> {
        let prepare = |body| self.prepare(Method::Post, path, "application/x-ndjson", Some(body));
        let requests: Vec<Request> = bodies.into_iter().map(prepare).collect();
        self.runtime.block_on(async {
            let requests: Vec<_> = requests.into_iter().map(|request| tokio::spawn(request.send())).collect();
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                answers.push(request.await.unwrap_or_else(|e| Err(Failure::of_panic(&e))));
            }
            answers
        })
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(&self, answer: &Answer) -> Failure {
        Failure::of_status(answer, &self.options.authentication.place())
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        self.runtime.block_on(self.prepare(method, path, content_type, body).send())
    }

    fn prepare(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
    ) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if body.is_some() && self.options.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let body = body.map(|body| if self.options.gzip { gzip(&body) } else { body });
        Request {
            transport: self.transport.clone(),
            hosts: self.hosts.clone(),
            timeout: self.options.timeout,
            method,
            path: path.to_owned(),
            headers,
            body,
        }
    }
}

/// One request, which goes to the next host where one can't be reached.
struct Request {
    transport: Transport,
    hosts: Hosts,
    timeout: Duration,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Request {
    async fn send(self) -> Result<Answer, Failure> {
        let mut failures = Vec::new();
        for tried in 1..=self.hosts.len() {
            let (number, host) = self.hosts.current();
            match self.send_once().await {
                // A node that starts, or has no master, may be the only one.
                Ok((503, _)) if tried < self.hosts.len() => {}
                Ok((status, body)) => return Ok(Answer { status, body, host }),
                Err(error) => failures.push(Failure::of_transport(&host, &error, self.timeout)),
            }
            self.hosts.leave(number);
            // Once it may have arrived, the caller decides about a second time.
            if failures.last().is_some_and(|failure| failure.unclear) {
                break;
            }
        }
        Err(Failure::of_all(failures))
    }

    async fn send_once(&self) -> Result<(u16, Bytes), elasticsearch::Error> {
        let (headers, body) = (self.headers.clone(), self.body.clone());
        let answer = self.transport.send(self.method, &self.path, headers, None::<&()>, body, None).await?;
        let status = answer.status_code().as_u16();
        Ok((status, answer.bytes().await?))
    }
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The error that the body reports, else its beginning.
    pub fn reason(&self) -> String {
        error_reason(&self.body)
    }
}

fn transport(options: &Options, hosts: Hosts) -> Result<Transport, OptionsError> {
    build(options, hosts).map_err(|e| e.within("output.elasticsearch."))
}

/// Errors begin with the key.
fn build(options: &Options, hosts: Hosts) -> Result<Transport, OptionsError> {
    let mut builder = TransportBuilder::new(hosts).timeout(options.timeout);
    if let Some(path) = &options.ca_file {
        let error = || OptionsError(format!("ca_file: {} holds no PEM certificate", path.display()));
        let certificates = Certificate::from_pem(&read_file("ca_file", path)?).map_err(|_| error())?;
        if certificates.iter().next().is_none() {
            return Err(error());
        }
        builder = builder.cert_validation(CertificateValidation::Full(certificates));
    }
    if let Some(certificate) = &options.client_certificate {
        let mut pem = read_file("client_certificate_file", &certificate.certificate_file)?;
        pem.push(b'\n');
        pem.extend(read_file("client_key_file", &certificate.key_file)?);
        builder = builder.auth(Credentials::Certificate(ClientCertificate::Pem(pem)));
    }
    // A header rather than the transport's credentials, which are either a certificate or something else.
    if let Some(header) = options.authentication.header()? {
        builder = builder.header(AUTHORIZATION, header);
    }
    builder.build().map_err(|e| {
        let keys = "ca_file, client_certificate_file, client_key_file";
        OptionsError(format!("{keys}: what they hold can't be used: {e}"))
    })
}

/// The transport's own compression is of level 6 and copies the body first. At level 1 rows shrink to a twelfth
/// instead of a twentieth, in a third of the CPU time.
fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// The cluster's hosts, and which one is asked.
#[derive(Debug, Clone)]
struct Hosts {
    connections: Arc<[Connection]>,
    current: Arc<AtomicUsize>,
}

impl Hosts {
    fn new(urls: &[String]) -> Result<Hosts, OptionsError> {
        let parse = |text: &String| {
            let error = |why: &str| {
                OptionsError(format!(
                    "output.elasticsearch.hosts: '{text}' {why}; write https://NAME:9200 or http://NAME:9200"
                ))
            };
            let url = Url::parse(text).map_err(|e| error(&format!("is no URL ({e})")))?;
            if !["http", "https"].contains(&url.scheme()) {
                return Err(error("is neither http:// nor https://"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(error("must not hold credentials: use password_file or api_key_file"));
            }
            Ok(Connection::new(url))
        };
        if urls.is_empty() {
            return Err(OptionsError("output.elasticsearch.hosts: at least one is needed".into()));
        }
        let connections = urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Hosts { connections: connections.into(), current: Arc::default() })
    }

    fn len(&self) -> usize {
        self.connections.len()
    }

    /// Goes on to the next host, unless another request has done so meanwhile.
    fn leave(&self, number: usize) {
        let next = number.wrapping_add(1);
        let _ = self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The host that is asked: its number, and its URL as it was configured.
    fn current(&self) -> (usize, String) {
        let number = self.current.load(Ordering::Relaxed);
        (number, self.connection(number).url().as_str().trim_end_matches('/').to_owned())
    }

    fn connection(&self, number: usize) -> &Connection {
        &self.connections[number % self.connections.len()]
    }
}

impl ConnectionPool for Hosts {
    fn next(&self) -> Connection {
        self.connection(self.current.load(Ordering::Relaxed)).clone()
    }
}
