//! Blocking requests to a cluster of one or several hosts.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use elasticsearch::cert;
use elasticsearch::http::headers::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::redirect::Policy;
use reqwest::{Identity, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::between::{first_words, is_of_elasticsearch};
use super::error_cause::ErrorCause;
use super::failure::Failure;
use super::options::{Options, OptionsError, read_file};

/// Of an answer no more is read, in bytes: pages of a search are the longest.
const LONGEST_ANSWER: usize = 64 << 20;

/// Talks to a cluster.
pub struct Client {
    http: reqwest::Client,
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
    /// What it was asked for, with its query string.
    pub(super) path: String,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
    /// Whether the body was longer than what was to be read of it.
    pub(super) is_cut: bool,
}

impl Client {
    /// A client of that cluster. Nothing is sent yet.
    ///
    /// # Errors
    /// When a file can't be read or used, or a host is no URL.
    pub fn new(options: Options) -> Result<Client, OptionsError> {
        let within = |e: OptionsError| e.within(&format!("{}.", options.section));
        let hosts = Hosts::new(&options.hosts).map_err(within)?;
        let http = http(&options).map_err(within)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| OptionsError(format!("no runtime for network requests: {e}")))?;
        Ok(Client { http, hosts, runtime, options })
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
        let is_success = (200..300).contains(&answer.status) && is_of_elasticsearch(&answer);
        if is_success { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    /// Posts NDJSON.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn post_ndjson(&self, path: &str, body: Bytes) -> Result<Answer, Failure> {
        self.send(Method::POST, path, "application/x-ndjson", Some(body))
    }

    /// Posts NDJSON bodies at the same time; answers in their order. Of each answer as many bytes are read as stand
    /// beside its body.
    pub(super) fn post_all(&self, path: &str, bodies: Vec<(Bytes, usize)>) -> Vec<Result<Answer, Failure>> {
        let prepare = |(body, limit)| Request {
            limit,
            ..self.prepare(Method::POST, path, "application/x-ndjson", Some(body))
        };
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
        let Options { section, authentication, .. } = &self.options;
        Failure::of_status(answer, section, &authentication.place(section))
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let answer = self.runtime.block_on(self.prepare(method, path, content_type, body).send())?;
        if answer.is_cut { Err(Failure::of_length(&answer, LONGEST_ANSWER)) } else { Ok(answer) }
    }

    fn prepare(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Bytes>,
    ) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if body.is_some() && self.options.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let body = body.map(|body| if self.options.gzip { gzip(&body) } else { body });
        Request {
            http: self.http.clone(),
            hosts: self.hosts.clone(),
            section: self.options.section.clone(),
            timeout: self.options.timeout,
            limit: LONGEST_ANSWER,
            method,
            path: path.to_owned(),
            headers,
            body,
        }
    }
}

/// One request, which goes to the next host where one can't be reached.
struct Request {
    http: reqwest::Client,
    hosts: Hosts,
    /// Where they are configured.
    section: String,
    timeout: Duration,
    /// Of the answer no more bytes are read.
    limit: usize,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Request {
    async fn send(self) -> Result<Answer, Failure> {
        let mut failures = Vec::new();
        let mut may_repeat = self.only_reads();
        for tried in 1..=self.hosts.len() {
            let (number, host) = self.hosts.current();
            let mut result = self.send_once(host).await;
            // A host closes a connection that was idle, and may do so just when a request comes over it.
            if result.as_ref().is_err_and(was_cut) && std::mem::take(&mut may_repeat) {
                result = self.send_once(host).await;
            }
            match result {
                Ok(answer) if !is_elsewhere_better(answer.status) => return Ok(answer),
                Ok(answer) => {
                    self.hosts.leave(number);
                    // What a gateway says of the host behind it leaves open whether the request arrived there.
                    if matches!(answer.status, 502 | 504) || tried == self.hosts.len() {
                        return Ok(answer);
                    }
                }
                Err(error) => {
                    failures.push(Failure::of_transport(host.as_str(), &error, self.timeout, &self.section));
                    self.hosts.leave(number);
                }
            }
            // Once it may have arrived, the caller decides about a second time.
            if failures.last().is_some_and(|failure| failure.unclear) {
                break;
            }
        }
        Err(Failure::of_all(failures))
    }

    /// Whether nothing becomes other by it, so that it may arrive twice.
    fn only_reads(&self) -> bool {
        const SEARCHES: &[&str] = &["_search", "_count"];
        let path = self.path.split('?').next().unwrap_or_default();
        matches!(self.method, Method::GET | Method::HEAD)
            || path.rsplit('/').next().is_some_and(|last| SEARCHES.contains(&last))
    }

    async fn send_once(&self, host: &Host) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(self.method.clone(), host.url(&self.path));
        request = request.headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let mut answer = request.send().await?;
        let location = answer.headers().get(LOCATION);
        let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
        let (mut body, mut is_cut) = (BytesMut::new(), false);
        while let Some(chunk) = answer.chunk().await? {
            let room = self.limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                is_cut = true;
                break;
            }
        }
        Ok(Answer {
            status: answer.status().as_u16(),
            body: body.freeze(),
            host: host.as_str().to_owned(),
            path: self.path.clone(),
            location,
            is_cut,
        })
    }
}

/// Whether the connection ended before the answer did.
fn was_cut(error: &reqwest::Error) -> bool {
    !(error.is_connect() || error.is_builder() || error.is_timeout())
}

/// Whether another host may give a better answer: a node that starts, or has no master, may be the only one, and
/// somebody who stands before this host need not stand before the others.
fn is_elsewhere_better(status: u16) -> bool {
    matches!(status, 300..400 | 407 | 502 | 503 | 504 | 511)
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What the body says, where it is the JSON that was asked for.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|e| Failure::of_content(self, &e.to_string()))
    }

    /// The error that the body reports, where it does so as Elasticsearch does.
    pub(super) fn error(&self) -> Option<ErrorCause> {
        #[derive(Deserialize)]
        struct Body {
            error: ErrorCause,
        }
        serde_json::from_slice::<Body>(&self.body).ok().map(|body| body.error)
    }

    /// The error that the body reports, else its beginning.
    pub fn reason(&self) -> String {
        self.error().map_or_else(|| first_words(&self.body), |error| error.to_string())
    }
}

/// Errors begin with the key. No redirect is followed, and no answer is read at once: that is why it is not the transport of
/// the `elasticsearch` crate, which does both and can't be told otherwise.
fn http(options: &Options) -> Result<reqwest::Client, OptionsError> {
    let mut builder = reqwest::Client::builder()
        .timeout(options.timeout)
        .redirect(Policy::none())
        .user_agent(concat!("kumon/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &options.ca_file {
        let error = || OptionsError(format!("ca_file: {} holds no PEM certificate", path.display()));
        let certificates = cert::Certificate::from_pem(&read_file("ca_file", path)?).map_err(|_| error())?;
        if certificates.iter().next().is_none() {
            return Err(error());
        }
        builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    let unusable = |e: reqwest::Error| {
        let keys = "ca_file, client_certificate_file, client_key_file";
        OptionsError(format!("{keys}: what they hold can't be used: {e}"))
    };
    if let Some(certificate) = &options.client_certificate {
        let mut pem = read_file("client_certificate_file", &certificate.certificate_file)?;
        pem.push(b'\n');
        pem.extend(read_file("client_key_file", &certificate.key_file)?);
        builder = builder.identity(Identity::from_pem(&pem).map_err(unusable)?);
    }
    if let Some(header) = options.authentication.header()? {
        builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, header)]));
    }
    builder.build().map_err(unusable)
}

/// At level 1 rows shrink to a twelfth instead of a twentieth at the usual level, in a third of the CPU time.
fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// The cluster's hosts, and which one is asked.
#[derive(Debug, Clone)]
struct Hosts {
    all: Arc<[Host]>,
    current: Arc<AtomicUsize>,
}

/// The URL of one, whose path ends with a slash.
#[derive(Debug)]
struct Host(Url);

impl Host {
    /// Where a path is on it. A proxy may have put the cluster under a path of its own.
    fn url(&self, path: &str) -> Url {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = self.0.clone();
        url.set_path(&format!("{}{}", self.0.path(), path.trim_start_matches('/')));
        url.set_query(query);
        url
    }

    /// As it was configured.
    fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl Hosts {
    fn new(urls: &[String]) -> Result<Hosts, OptionsError> {
        let parse = |text: &String| {
            let error = |why: &str| {
                OptionsError(format!("hosts: '{text}' {why}; write https://NAME:9200 or http://NAME:9200"))
            };
            let mut url = Url::parse(text).map_err(|e| error(&format!("is no URL ({e})")))?;
            if !["http", "https"].contains(&url.scheme()) {
                return Err(error("is neither http:// nor https://"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(error("must not hold credentials: use password_file or api_key_file"));
            }
            url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
            Ok(Host(url))
        };
        if urls.is_empty() {
            return Err(OptionsError("hosts: at least one is needed".into()));
        }
        let hosts = urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Hosts { all: hosts.into(), current: Arc::default() })
    }

    fn len(&self) -> usize {
        self.all.len()
    }

    /// Goes on to the next host, unless another request has done so meanwhile.
    fn leave(&self, number: usize) {
        let next = number.wrapping_add(1);
        let _ = self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The host that is asked, and its number.
    fn current(&self) -> (usize, &Host) {
        let number = self.current.load(Ordering::Relaxed);
        (number, &self.all[number % self.all.len()])
    }
}
