//! The channels against real servers: a mail server over TLS, and receivers of HTTP posts.
//!
//! Runs beside other tests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kumon_alerts::{Alert, Channels, Engine, test};
use kumon_testing::{Child, free_port, require, wait_for};
use serde_json::{Value, json};
use support::http::Receiver;
use support::{Rows, alert, row};

const PATIENCE: Duration = Duration::from_secs(20);
/// A process may be called so.
const HOSTILE: &str = "a\r\nBcc: x@example.org\r\n<!channel> *b* \u{202e}";

fn channels(section: Value) -> Channels {
    serde_json::from_value(section).unwrap()
}

fn storm() -> Alert {
    alert(
        "storm",
        "title: Storm of files\nmetric: filelife\naggregation: count\nthreshold: '> 2'\n\
         group_by: [process.name]\nseverity: warning\n",
    )
}

/// An engine in `folder` that sends through `channels`.
fn engine(folder: &Path, channels: &Channels, alert: Alert) -> Engine {
    Engine::new(vec![alert], channels.clone(), folder.into(), "node1".into(), None).unwrap()
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Rows that make the storm fire for that process.
fn files_of(name: &str) -> Vec<Value> {
    (0..3).map(|_| row(5, &json!({"process.name": name}))).collect()
}

/// A mail server with a certificate of a CA of its own.
struct MailServer {
    port: u16,
    folder: tempfile::TempDir,
    _process: Child,
}

impl MailServer {
    /// `None` where aiosmtpd is missing.
    fn start(mode: &str) -> Option<MailServer> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = project.join("../.cache/venv/bin/python");
        let has = Command::new(&python).args(["-c", "import aiosmtpd"]).status().is_ok_and(|s| s.success());
        if !require(has, "aiosmtpd in .cache/venv") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (key, signed) = certificate();
        fs::write(folder.path().join("key.pem"), key).unwrap();
        fs::write(folder.path().join("certificate.pem"), signed).unwrap();
        fs::write(folder.path().join("password"), "geheim\n").unwrap();
        let port = free_port();
        let mut command = Command::new(python);
        command.arg(project.join("tests/support/smtp_server.py")).arg(port.to_string());
        let path = |name: &str| folder.path().join(name);
        command.arg(path("certificate.pem")).arg(path("key.pem")).arg(mode).arg(path("mails"));
        // It complains loudly about what the tests do on purpose.
        let process = Child::spawn(command.stderr(Stdio::null()));
        wait_for("the mail server", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(MailServer { port, folder, _process: process })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn channel(&self, tls: &str) -> Value {
        json!({"email": {
            "host": "localhost", "port": self.port, "tls": tls, "username": "kumon",
            "password_file": self.file("password"), "ca_file": self.file("certificate.pem"),
            "from": "KuMon <kumon@example.org>", "to": ["ops@example.org", "Zweite <zwei@example.org>"],
        }})
    }

    fn mails(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("mails")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A key and a certificate for localhost that signs itself.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.signing_key.serialize_pem(), made.cert.pem())
}

#[test]
fn mail_goes_through_tls_with_a_password_and_hostile_names_stay_text() {
    let Some(server) = MailServer::start("starttls") else { return };
    let (folder, mut rows) = (tempfile::tempdir().unwrap(), Rows::new());
    let channels = channels(json!({"mail": server.channel("starttls")}));
    rows.add("filelife", &files_of(HOSTILE));
    engine(folder.path(), &channels, storm()).round(&rows.store, now());

    let mails = server.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0]["to"], json!(["ops@example.org", "zwei@example.org"]));
    let headers = mails[0]["headers"].as_array().unwrap();
    let header =
        |name: &str| headers.iter().find(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned());
    assert_eq!(header("Bcc"), None);
    assert_eq!(header("Auto-Submitted").as_deref(), Some("auto-generated"));
    let subject = header("Subject").unwrap();
    assert!(subject.starts_with("[KuMon] warning: Storm of files (process.name=a\\r\\nBcc: x@"), "{subject}");
    let body = mails[0]["body"].as_str().unwrap();
    for part in
        ["process.name=a\\r\\nBcc", "\\u{202e}: 3, fires since 20", "count > 2 over 5m", "told by node1"]
    {
        assert!(body.contains(part), "{part}: {body}");
    }
}

#[test]
fn mail_goes_through_a_connection_that_is_tls_from_the_first_byte() {
    let Some(server) = MailServer::start("tls") else { return };
    let results = test(&storm(), &channels(json!({"mail": server.channel("tls")})), "node1", now()).unwrap();
    assert_eq!(results, [("mail".to_owned(), Ok(()))]);
    assert!(server.mails()[0]["body"].as_str().unwrap().contains("This is a test of the channel"));
}

#[test]
fn mail_is_not_sent_past_a_wrong_password_or_an_unknown_certificate_and_no_secret_is_shown() {
    let Some(server) = MailServer::start("starttls") else { return };
    fs::write(server.file("password"), "topsecret").unwrap();
    let mut unknown_ca = server.channel("starttls");
    unknown_ca["email"].as_object_mut().unwrap().remove("ca_file");
    let mut missing = server.channel("starttls");
    missing["email"]["password_file"] = json!(server.file("nothing"));
    let channels = channels(json!({
        "a-wrong-password": server.channel("starttls"), "b-unknown-ca": unknown_ca, "c-missing-file": missing,
    }));
    let results = test(&storm(), &channels, "node1", now()).unwrap();
    let errors: Vec<String> =
        results.into_iter().map(|(_, result)| result.unwrap_err().to_string()).collect();
    for (error, expected) in errors.iter().zip(["uthentication", "UnknownIssuer", "nothing can't be read"]) {
        assert!(error.contains(expected) && !error.contains("topsecret"), "{expected}: {error}");
    }
    assert!(server.mails().is_empty());
}

#[test]
fn slack_reads_nothing_of_a_hostile_name_as_its_own() {
    let (folder, mut rows, receiver) = (tempfile::tempdir().unwrap(), Rows::new(), Receiver::start(&[]));
    let url = folder.path().join("url");
    fs::write(&url, format!("{}/services/T0/B0/secret\n", receiver.url)).unwrap();
    rows.add("filelife", &files_of(HOSTILE));
    engine(folder.path(), &channels(json!({"chat": {"slack": {"url_file": url}}})), storm())
        .round(&rows.store, now());
    let posts = receiver.posts();
    assert_eq!(posts[0].path, "/services/T0/B0/secret");
    let body: Value = serde_json::from_str(&posts[0].body).unwrap();
    assert_eq!((&body["mrkdwn"], &body["parse"]), (&json!(false), &json!("none")));
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt;") && !text.contains('<'), "{text}");
    assert!(text.contains("count &gt; 2 over 5m"), "{text}");
}

#[test]
fn an_sms_is_a_form_post_for_each_number_and_short() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start(&["400 Bad Request"]));
    let token = folder.path().join("token");
    fs::write(&token, "geheim").unwrap();
    let channels = channels(json!({"phone": {"sms": {
        "url": format!("{}/2010-04-01/Accounts/AC1/Messages.json", receiver.url), "username": "AC1",
        "password_file": token, "from": "+15005550006", "to": ["+15005550001", "+15005550002"],
    }}}));
    let results = test(&storm(), &channels, "node1", now()).unwrap();
    assert_eq!(
        results[1],
        ("phone +15005550002".to_owned(), Ok(())),
        "one refused number keeps no other silent"
    );
    assert!(results[0].1.as_ref().unwrap_err().needs_person);
    let post = &receiver.posts()[1];
    assert_eq!(post.header("content-type"), "application/x-www-form-urlencoded");
    // AC1:geheim
    assert_eq!(post.header("authorization"), "Basic QUMxOmdlaGVpbQ==");
    assert_eq!(post.body, "From=%2B15005550006&To=%2B15005550002&Body=%5BKuMon%5D+test%3A+Storm+of+files");
}

#[test]
fn a_webhook_gets_json_and_many_groups_at_once_are_one_message() {
    let (folder, mut rows, receiver) = (tempfile::tempdir().unwrap(), Rows::new(), Receiver::start(&[]));
    let authorization = folder.path().join("authorization");
    fs::write(&authorization, "Bearer abc").unwrap();
    let hook = json!({"webhook": {"url": receiver.url, "authorization_file": authorization}});
    let channels = channels(json!({
        "hook": hook.clone(),
        "off": {"enabled": false, "webhook": {"url": "http://127.0.0.1:1/"}},
        "critical-only": {"min_severity": "critical", "webhook": {"url": "http://127.0.0.1:1/"}},
    }));
    for number in 0..40 {
        rows.add("filelife", &files_of(&format!("p{number}")));
    }
    let mut engine = engine(folder.path(), &channels, storm());
    engine.round(&rows.store, now());
    let posts = receiver.posts();
    assert_eq!((posts.len(), engine.next_delivery()), (1, None), "the other channels take nothing");
    assert_eq!(posts[0].header("authorization"), "Bearer abc");
    let body: Value = serde_json::from_str(&posts[0].body).unwrap();
    assert_eq!(body["alerts"][0]["firing"].as_array().unwrap().len(), 40);
    assert_eq!(body["alerts"][0]["firing"][0]["value"], 3.0);
    assert!(body["subject"].as_str().unwrap().ends_with("(40 groups)"), "{body}");
    assert!(body["text"].as_str().unwrap().contains("and 20 more"), "{body}");
}

#[test]
fn a_restart_repeats_nothing_loses_nothing_and_retries_what_was_refused() {
    let (folder, mut rows) = (tempfile::tempdir().unwrap(), Rows::new());
    let receiver = Receiver::start(&["503 Service Unavailable", "429 Too Many Requests\r\nretry-after: 120"]);
    let channels = channels(json!({"hook": {"webhook": {"url": receiver.url}}}));
    rows.add("filelife", &files_of("cc1"));
    let start = now();
    let again = |round: Option<i64>, at: i64| {
        let mut engine = engine(folder.path(), &channels, storm());
        match round {
            Some(now) => engine.round(&rows.store, now),
            None => engine.deliver(at),
        }
        (receiver.posts().len(), engine.next_delivery().map(|due| due - at))
    };
    assert_eq!(again(Some(start), start), (1, Some(10_000)), "refused: to be tried again");
    // Each time a new engine: what was killed in between.
    assert_eq!(again(None, start + 1000), (2, Some(120_000)), "refused again: when the server said");
    assert_eq!(again(None, start + 2000), (3, None), "delivered");
    assert_eq!(again(Some(start + 3000), start + 3000), (3, None), "still fires, and was told");
    let later = start + 400_000;
    assert_eq!(again(Some(later), later), (4, None), "its end is told by one that never saw the beginning");
    let body: Value = serde_json::from_str(&receiver.posts()[3].body).unwrap();
    assert_eq!(body["alerts"][0]["recovered"][0]["group"], "process.name=cc1");
    assert_eq!(again(Some(later + 1000), later + 1000), (4, None));
}

#[test]
fn a_damaged_memory_is_set_aside_and_the_alert_told_again() {
    let (folder, mut rows, receiver) = (tempfile::tempdir().unwrap(), Rows::new(), Receiver::start(&[]));
    let channels = channels(json!({"hook": {"webhook": {"url": receiver.url}}}));
    rows.add("filelife", &files_of("cc1"));
    fs::write(folder.path().join("state.json"), "{\"alerts\": 3").unwrap();
    engine(folder.path(), &channels, storm()).round(&rows.store, now());
    assert_eq!(receiver.posts().len(), 1);
    assert!(folder.path().join("state.json.damaged").exists());
}

#[test]
fn a_secret_url_is_in_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("url");
    let address = format!("http://127.0.0.1:{}/services/secret", free_port());
    for (text, expected) in [(address.as_str(), "127.0.0.1 did not take it"), ("ftp://x/secret", "http://")] {
        fs::write(&url, text).unwrap();
        let channels = channels(json!({"chat": {"slack": {"url_file": url}}}));
        let error = test(&storm(), &channels, "node1", now()).unwrap().remove(0).1.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}
