//! Certificates, and requests that are too large (the same node: each takes seconds to start).

use std::process::{Command, Stdio};
use std::time::Duration;

use kumon_shipper::elasticsearch::ClientCertificate;
use kumon_shipper::{Sink, SinkError};
use kumon_testing::{Child, Elasticsearch, free_port, require_elasticsearch, wait_for};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::support::{Access, batch, count, install_template, write};

#[test]
fn an_own_ca_is_trusted_when_named_and_a_request_that_is_too_large_is_sent_in_parts() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::start_with(true, &["http.max_content_length=64kb"]);
    install_template(&node, "tls");

    let mut access = Access::of(&node);
    let unknown = refused(&access);
    assert!(unknown.contains("output.elasticsearch.ca_file"), "{unknown}");

    access.options.ca_file = Some(node.ca_file());
    let mut sink = access.sink();
    assert_eq!(sink.send(&batch("tls", "small", [json!(1)])).unwrap().created, 1);

    let plain = Access::new(vec![node.url().replace("https:", "http:")], node.password());
    let message = unavailable(&plain);
    assert!(message.contains("write https://"), "{message}");

    for gzip in [false, true] {
        access.options.gzip = gzip;
        let mut values: Vec<Value> = (0..2000).map(Value::from).collect();
        values[700] = json!("x".repeat(100_000));
        let outcome = access.sink().send(&batch("tls", &format!("gzip-{gzip}"), values)).unwrap();
        assert_eq!((outcome.created, outcome.rejected.len()), (1999, 1));
        assert_eq!(outcome.rejected[0].document, 700);
        assert!(outcome.rejected[0].reason.contains("max_content_length"), "{:?}", outcome.rejected);
    }
    assert_eq!(count(&node, "tls"), 1 + 2 * 1999);
}

#[test]
fn an_expired_certificate_and_a_server_without_tls_are_told_apart() {
    if !require_elasticsearch() {
        return;
    }
    let mut access = Access::new(vec![], "secret");
    let mut certificate = CertificateParams::new(vec!["localhost".into()]).unwrap();
    certificate.not_before = date_time_ymd(2020, 1, 1);
    certificate.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let signed = certificate.self_signed(&key).unwrap();
    let certificate_file = write(&access.folder, "server.crt", &signed.pem());
    let key_file = write(&access.folder, "server.key", &key.serialize_pem());
    let port = free_port();
    // Elasticsearch itself does not start with an expired certificate; the handshake is all that counts here.
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
    server.arg("-cert").arg(&certificate_file).arg("-key").arg(&key_file);
    let _server = Child::spawn(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("openssl s_server to listen", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    access.options.hosts = vec![format!("https://localhost:{port}")];
    access.options.ca_file = Some(certificate_file);
    let message = refused(&access);
    assert!(message.contains("has expired"), "{message}");

    let plain = Elasticsearch::shared();
    let access = Access::new(vec![plain.url().replace("http:", "https:")], plain.password());
    let message = refused(&access);
    assert!(message.contains("does not speak HTTPS"), "{message}");
}

#[test]
fn a_client_certificate_is_asked_for_by_name_and_shown_when_set() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::start_with(true, &["xpack.security.http.ssl.client_authentication=required"]);
    install_template(&node, "tls.client");
    let mut access = Access::of(&node);
    access.options.ca_file = Some(node.ca_file());
    let message = refused(&access);
    assert!(message.contains("client_certificate_file"), "{message}");

    let (certificate_file, key_file) = node.certificate_and_key();
    access.options.client_certificate = Some(ClientCertificate { certificate_file, key_file });
    assert_eq!(access.sink().send(&batch("tls.client", "g", [json!(1)])).unwrap().created, 1);
}

fn refused(access: &Access) -> String {
    match access.sink().send(&batch("tls", "refused", [json!(1)])) {
        Err(SinkError::Refused(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn unavailable(access: &Access) -> String {
    match access.sink().send(&batch("tls", "unavailable", [json!(1)])) {
        Err(SinkError::Unavailable(message)) => message,
        other => panic!("{other:?}"),
    }
}
