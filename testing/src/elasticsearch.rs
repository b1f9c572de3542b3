//! A real Elasticsearch for tests, see `elk/fixture`.

mod clean;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{free_port, require};

/// Elasticsearch 9.4.3: everything but ILM, Watcher, the API of data streams and a few field types.
const ES9: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../elk/fixture/es9");
/// Elasticsearch 8.19.13: as 9.4.3.
const ES8: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../elk/fixture/es8");
/// Elasticsearch 6.8.23: ILM and Watcher, which execute; none of what came since.
const ES6: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../elk/fixture/es6");
const STOP_LIMIT: Duration = Duration::from_secs(20);
const PASSWORD: &str = "kumon-test";
const FAILED: &str = "Elasticsearch failed to start, see above";

/// An Elasticsearch node of one test: on 127.0.0.1 and a free port, with a data folder of its own, security on.
/// Stopped and deleted when dropped; stopped also when the test process is killed.
pub struct Elasticsearch {
    fixture: &'static str,
    folder: TempDir,
    port: u16,
    tls: bool,
}

/// Whether the tests can start a node of 9.4.3: what the fixture needs is installed.
///
/// # Panics
/// Under CI, when it is not.
pub fn require_elasticsearch() -> bool {
    require_fixture(ES9)
}

/// Whether the tests can start a node of 8.19.13.
///
/// # Panics
/// As [`require_elasticsearch`].
pub fn require_elasticsearch_8() -> bool {
    require_fixture(ES8)
}

/// Whether the tests can start a node of 6.8.23.
///
/// # Panics
/// As [`require_elasticsearch`].
pub fn require_elasticsearch_6() -> bool {
    require_fixture(ES6)
}

fn require_fixture(fixture: &str) -> bool {
    let present = Path::new(fixture).join("target/elasticsearch").exists()
        || ["mvn", "python3", "curl", "openssl"].into_iter().all(crate::found_in_path);
    require(present, "Maven, Python 3, curl and OpenSSL, which get and start Elasticsearch")
}

impl Elasticsearch {
    /// Starts a node of 9.4.3 and waits until it answers. The first call on a machine downloads 1.1 GB.
    ///
    /// # Panics
    /// When it doesn't start; the message is that of `elk/fixture/es9/start`.
    pub fn start() -> Elasticsearch {
        Elasticsearch::start_with(false, &[])
    }

    /// Starts a node that speaks HTTPS with a certificate of a CA of its own.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`].
    pub fn start_tls() -> Elasticsearch {
        Elasticsearch::start_with(true, &[])
    }

    /// Starts a node with further lines for elasticsearch.yml, each `name=value`.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`].
    pub fn start_with(tls: bool, settings: &[&str]) -> Elasticsearch {
        Elasticsearch::start_fixture(ES9, tls, settings)
    }

    /// Starts a node of 8.19.13. The first call on a machine downloads 1 GB.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`].
    pub fn start_8() -> Elasticsearch {
        Elasticsearch::start_fixture(ES8, false, &[])
    }

    /// Starts a node of 6.8.23, whose ILM and Watcher execute, with further lines for elasticsearch.yml. The first
    /// call on a machine downloads 149 MB.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`].
    pub fn start_6(settings: &[&str]) -> Elasticsearch {
        Elasticsearch::start_fixture(ES6, false, settings)
    }

    fn start_fixture(fixture: &'static str, tls: bool, settings: &[&str]) -> Elasticsearch {
        let new = || {
            let folder = tempfile::Builder::new().prefix("kumon-elasticsearch-").tempdir();
            Elasticsearch { fixture, folder: folder.expect("a temporary folder"), port: free_port(), tls }
        };
        let mut node = new();
        while !node.run_start(settings) {
            // Between choosing a port and listening on it lie seconds.
            assert!(TcpListener::bind(("127.0.0.1", node.port)).is_err(), "{FAILED}");
            node = new();
        }
        node
    }

    /// The node that all tests of this process share, without TLS. They use streams of their own.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`].
    pub fn shared() -> &'static Elasticsearch {
        // Never dropped; the start script's guardian stops it with the process, and the folder is left in /tmp by
        // a killed process only.
        static SHARED: OnceLock<Elasticsearch> = OnceLock::new();
        SHARED.get_or_init(Elasticsearch::start)
    }

    /// A node of 9.4.3 without TLS that is as if it had just started, for one test of this process at a time: what
    /// earlier tests put there is deleted, which takes a tenth of a start. Who stops, kills or configures its node
    /// starts one.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`]; and when something can't be deleted.
    pub fn clean() -> MutexGuard<'static, Elasticsearch> {
        // Never dropped, as the shared one.
        static CLEAN: OnceLock<Mutex<Elasticsearch>> = OnceLock::new();
        let node = CLEAN.get_or_init(|| Mutex::new(Elasticsearch::start())).lock();
        // Poisoned by a test that failed. What that left there is no worse than what others leave.
        let node = node.unwrap_or_else(PoisonError::into_inner);
        node.delete_everything();
        node
    }

    /// `http://127.0.0.1:<port>`, or https.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// The name of the user who may do everything.
    pub fn username(&self) -> &'static str {
        "elastic"
    }

    /// The password of [`Elasticsearch::username`].
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The certificate (PEM) of the CA that signed the node's certificate, where the node speaks HTTPS.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("config/ca.crt")
    }

    /// A certificate that the same CA signed, and its key (PEM): the node's own, good for a client too.
    pub fn certificate_and_key(&self) -> (PathBuf, PathBuf) {
        let config = self.folder.path().join("config");
        (config.join("http.crt"), config.join("http.key"))
    }

    /// Stops the node; its data stay.
    ///
    /// # Panics
    /// When it can't be stopped.
    pub fn stop(&self) {
        let stopped = Command::new(Path::new(self.fixture).join("stop")).arg(self.folder.path()).status();
        assert!(stopped.as_ref().is_ok_and(|status| status.success()), "stopping Elasticsearch: {stopped:?}");
    }

    /// Kills the node (SIGKILL); its data stay.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).expect("the node's pid file");
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
        assert!(killed.as_ref().is_ok_and(|status| status.success()), "killing Elasticsearch: {killed:?}");
        crate::wait_for("the node to be gone", STOP_LIMIT, || !Path::new("/proc").join(pid.trim()).exists());
    }

    /// The folder of the node's data, where its shards are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it again after [`Elasticsearch::stop`] or [`Elasticsearch::kill`], with its data and on the same port.
    ///
    /// # Panics
    /// As [`Elasticsearch::start`].
    pub fn start_again(&self) {
        assert!(self.run_start(&[]), "{FAILED}");
    }

    /// Sends a request as the user elastic and returns the status and the JSON body (null where there is none).
    /// A string as `body` is sent as it stands (NDJSON for `_bulk`), `Value::Null` sends none.
    ///
    /// # Panics
    /// When the node doesn't answer.
    pub fn request(&self, method: &str, path: &str, body: impl Into<Value>) -> (u16, Value) {
        self.send(["--user", &format!("elastic:{PASSWORD}")], method, path, body.into())
    }

    /// As [`Elasticsearch::request`], with another header `Authorization`: `ApiKey …`, `Basic …`.
    ///
    /// # Panics
    /// As [`Elasticsearch::request`].
    pub fn request_as(
        &self,
        authorization: &str,
        method: &str,
        path: &str,
        body: impl Into<Value>,
    ) -> (u16, Value) {
        self.send(["--header", &format!("authorization: {authorization}")], method, path, body.into())
    }

    fn send(&self, who: [&str; 2], method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--request", method, "--write-out"]);
        curl.arg("\n%{http_code}").args(who);
        if self.tls {
            let (certificate, key) = self.certificate_and_key();
            curl.arg("--cacert").arg(self.ca_file()).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let body = match body {
            Value::Null => None,
            Value::String(text) => Some((text, "application/x-ndjson")),
            json => Some((json.to_string(), "application/json")),
        };
        if let Some((_, content_type)) = &body {
            curl.args(["--header", &format!("content-type: {content_type}"), "--data-binary", "@-"]);
        }
        let url = format!("{}/{}", self.url(), path.trim_start_matches('/'));
        let mut curl = curl.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl");
        let mut input = curl.stdin.take().expect("stdin is piped");
        if let Some((text, _)) = body {
            input.write_all(text.as_bytes()).expect("curl reads its input");
        }
        drop(input);
        let output = curl.wait_with_output().expect("curl ends");
        let text = String::from_utf8(output.stdout).expect("Elasticsearch answers in UTF-8");
        assert!(output.status.success(), "{method} {path}: curl failed, {}", output.status);
        let (body, status) = text.rsplit_once('\n').expect("--write-out adds a line");
        (status.parse().expect("an HTTP status"), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Whether the node is up.
    fn run_start(&self, settings: &[&str]) -> bool {
        let mut start = Command::new(Path::new(self.fixture).join("start"));
        start.arg(self.folder.path()).arg(self.port.to_string()).args(settings);
        start.env("PASSWORD", PASSWORD).env("GUARDIAN", std::process::id().to_string());
        if self.tls {
            start.env("TLS", "1");
        }
        start.stdout(Stdio::null()).status().expect("the start script can be run").success()
    }
}

impl Drop for Elasticsearch {
    fn drop(&mut self) {
        self.stop();
    }
}
