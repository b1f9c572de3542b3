//! What an operator sees when the output can't be reached or refuses: shipping halts and says why, collecting goes on,
//! and no row is lost.
//!
//! Runs beside other tests.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Kumon, Node, PATIENCE};
use kumon_testing::{
    Child, Elasticsearch, free_port, require_bpf, require_elasticsearch, require_program, wait_for,
};
use rustix::process::Signal;
use serde_json::Value;

/// A node that ships to `hosts` as the user elastic, with this password.
fn shipping_to(hosts: &str, password: &str, more: &str) -> Node {
    let node = Node::new("");
    fs::write(node.path("password"), password).unwrap();
    let password = node.path("password").display().to_string();
    node.configure(&format!(
        "namespace: n{}\noutput:\n  elasticsearch: {{ hosts: ['{hosts}'], username: elastic, \
         password_file: {password}{more} }}\n",
        std::process::id()
    ));
    node
}

/// What an agent does whose output fails: it says why, keeps collecting, keeps the rows, and ends when told to.
fn assert_halts(node: &Node, agent: Kumon, parts: &[&str]) {
    agent.wait_for_log(&["shipping halts, rows wait in their files"]);
    agent.wait_for_log(parts);
    node.wait_for_status(1, &[&["halted since"], parts].concat());
    node.mark("waiting", 3);
    let waiting = || common::rows(&node.files("exec")).iter().filter(|row| row["name"] == "waiting").count();
    wait_for("the rows in the files", PATIENCE, || waiting() == 3);
    agent.stop(Signal::TERM, Duration::from_secs(15)).expect(0, parts);
    assert_eq!(waiting(), 3);
}

#[test]
fn a_refused_connection_halts_shipping() {
    if !require_bpf() {
        return;
    }
    let url = format!("http://127.0.0.1:{}", free_port());
    let node = shipping_to(&url, "secret", "");
    let agent = node.start_agent(&["run"]);
    assert_halts(&node, agent, &[&url, "refused"]);
}

#[test]
fn whoever_signals_need_not_wait_for_the_last_rows_of_a_duration() {
    if !require_bpf() {
        return;
    }
    let node = shipping_to(&format!("http://127.0.0.1:{}", free_port()), "secret", "");
    let agent = node.start_agent(&["run", "--duration", "3s"]);
    node.mark("kept", 1);
    // Summaries of 10 s are written early when collecting ends.
    wait_for("the last rows", PATIENCE, || !node.files("cputime").is_empty());
    agent.stop(Signal::INT, Duration::from_secs(10)).expect(1, &["rows are not delivered", "next start"]);
    assert!(common::rows(&node.files("exec")).iter().any(|row| row["name"] == "kept"));
}

#[test]
fn a_server_that_never_answers_does_not_keep_the_agent_from_ending() {
    if !require_bpf() {
        return;
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let node = shipping_to(&url, "secret", "");
    let agent = node.start_agent(&["run"]);
    // Held to the end: closed, it would be an answer.
    let _request = silent.accept().unwrap();
    node.mark("kept", 1);
    agent.stop(Signal::TERM, Duration::from_secs(15)).expect(0, &["is unanswered"]);
    assert!(common::rows(&node.files("exec")).iter().any(|row| row["name"] == "kept"));
}

#[test]
fn a_server_that_never_answers_does_not_keep_a_reload_from_being_ended() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let node = shipping_to(&url, "secret", "");
    let folder = node.spool().join("exec");
    fs::create_dir_all(&folder).unwrap();
    fs::write(
        folder.join("schema-v0.json"),
        r#"{"name":"exec","version":0,"kind":"event","fields":[{"name":"pid","type":"integer"}]}"#,
    )
    .unwrap();
    fs::write(folder.join("exec-0123456789abcdef0123456789ab.v0.csv"), "pid\n42\n").unwrap();
    let agent = node.start_agent(&["ship"]);
    // Held to the end: closed, it would be an answer.
    let _request = silent.accept().unwrap();
    agent.signal(Signal::HUP);
    agent.wait_for_log(&["taking it in"]);
    agent.stop(Signal::TERM, Duration::from_secs(15)).expect(0, &["is unanswered"]);
}

#[test]
fn an_expired_certificate_halts_shipping() {
    if !require_bpf() || !require_program("openssl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key_pair = rcgen::KeyPair::generate().unwrap();
    fs::write(&certificate, parameters.self_signed(&key_pair).unwrap().pem()).unwrap();
    fs::write(&key, key_pair.serialize_pem()).unwrap();
    let port = free_port();
    // Elasticsearch doesn't start with an expired certificate; the handshake is all that counts here.
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
    server.arg("-cert").arg(&certificate).arg("-key").arg(&key);
    let _server = Child::spawn(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("openssl s_server to listen", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let ca = format!(", ca_file: {}", certificate.display());
    let node = shipping_to(&format!("https://localhost:{port}"), "secret", &ca);
    let agent = node.start_agent(&["run"]);
    assert_halts(&node, agent, &[&format!("https://localhost:{port}"), "expired"]);
}

#[test]
fn a_wrong_password_halts_shipping_until_it_is_put_right() {
    if !require_bpf() || !require_elasticsearch() {
        return;
    }
    let server = Elasticsearch::shared();
    let node = shipping_to(&server.url(), "wrong", "");
    let agent = node.start_agent(&["run"]);
    assert_halts(&node, agent, &[&server.url(), "password_file"]);

    let agent = node.start_agent(&["run"]);
    fs::write(node.path("password"), server.password()).unwrap();
    agent.signal(Signal::HUP);
    let path = format!(
        "logs-kumon.exec-n{}/_count?q=process.name:waiting&ignore_unavailable=true",
        std::process::id()
    );
    agent.wait_for_log(&["kumon.yml: loaded", "no index template", "run 'kumon setup'"]);
    node.run(&["setup"]).expect(0, &[]);
    wait_for("the rows that waited", PATIENCE, || {
        server.request("POST", &path.replace("_count?q=process.name:waiting&", "_refresh?"), Value::Null);
        server.request("GET", &path, Value::Null).1["count"] == 3
    });
    node.wait_for_status(0, &[]);
    agent.terminate().expect(0, &[]);
}
