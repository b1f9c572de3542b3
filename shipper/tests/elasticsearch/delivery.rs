//! What arrives, what is refused, and how that is said.

use std::sync::Arc;

use kumon_shipper::elasticsearch::Authentication;
use kumon_shipper::{Outcome, Sink, SinkError};
use kumon_testing::{Elasticsearch, free_port, require_elasticsearch};
use serde_json::{Value, json};

use crate::support::{Access, batch, count, install_template, write};

#[test]
fn a_resend_of_what_arrived_is_success_and_does_not_double() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    install_template(node, "delivery.resend");
    for gzip in [true, false] {
        let mut access = Access::of(node);
        access.options.gzip = gzip;
        let mut sink = access.sink();
        let generation = format!("gzip-{gzip}");
        let first = batch("delivery.resend", &generation, (0..100).map(Value::from));
        assert_eq!(sink.send(&first).unwrap(), Outcome { created: 100, ..Outcome::default() });
        let overlapping = batch("delivery.resend", &generation, (50..150).map(Value::from));
        let outcome = sink.send(&overlapping).unwrap();
        assert_eq!(outcome, Outcome { created: 50, duplicates: 50, ..Outcome::default() });
    }
    assert_eq!(count(node, "delivery.resend"), 300);
}

#[test]
fn a_document_that_does_not_fit_is_rejected_with_the_reason_and_the_others_arrive() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    install_template(node, "delivery.reject");
    let bad = batch("delivery.reject", "g", [json!(1), json!("no number"), json!(3)]);
    let outcome = Access::of(node).sink().send(&bad).unwrap();
    assert_eq!((outcome.created, outcome.rejected.len()), (2, 1));
    assert_eq!(outcome.rejected[0].document, 1);
    assert!(outcome.rejected[0].reason.contains("failed to parse field [n] of type [long]"), "{outcome:?}");
    assert_eq!(count(node, "delivery.reject"), 2);
}

#[test]
fn a_line_that_is_no_json_is_found_and_rejected_alone() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    install_template(node, "delivery.broken");
    let mut broken = batch("delivery.broken", "g", (0..9).map(Value::from));
    let fifth = &broken.documents[4];
    let start = fifth.encoded.end - "\n".len() - broken.json(fifth).len();
    Arc::get_mut(&mut broken).unwrap().body[start] = b'}';
    let outcome = Access::of(node).sink().send(&broken).unwrap();
    assert_eq!((outcome.created, outcome.rejected.len()), (8, 1), "{outcome:?}");
    assert_eq!(outcome.rejected[0].document, 4);
}

#[test]
fn a_wrong_password_names_what_to_check() {
    if !require_elasticsearch() {
        return;
    }
    let access = Access::new(vec![Elasticsearch::shared().url()], "wrong");
    let message = refused(&access);
    assert!(message.contains("does not accept the credentials"), "{message}");
    assert!(message.contains("username and password_file"), "{message}");
}

#[test]
fn a_missing_template_is_not_worked_around_but_said() {
    if !require_elasticsearch() {
        return;
    }
    let access = Access::of(Elasticsearch::shared());
    let message = held_for(&access, "delivery.nothing.of.that.name");
    assert!(message.contains("kumon setup"), "{message}");
}

#[test]
fn a_host_that_nobody_listens_on_is_passed_over_and_named_when_it_is_the_only_one() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    install_template(node, "delivery.failover");
    let dead = format!("http://127.0.0.1:{}", free_port());
    let one = batch("delivery.failover", "g", [json!(1)]);

    let both = Access::new(vec![dead.clone(), node.url()], node.password());
    assert_eq!(both.sink().send(&one).unwrap().created, 1);

    let alone = Access::new(vec![dead.clone()], node.password());
    match alone.sink().send(&one) {
        Err(SinkError::Unavailable(message)) => {
            assert!(message.contains(&dead) && message.contains("Connection refused"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_api_key_with_the_documented_privileges_is_enough_and_one_without_is_told_what_it_lacks() {
    if !require_elasticsearch() {
        return;
    }
    let node = Elasticsearch::shared();
    install_template(node, "delivery.key");
    let enough = ["create_doc", "auto_configure", "view_index_metadata", "read"];
    let mut access = Access::of(node);
    let file = write(&access.folder, "key", &(api_key(node, &enough) + "\n"));
    access.options.authentication = Authentication::ApiKey { file };
    let mut sink = access.sink();
    assert_eq!(sink.send(&batch("delivery.key", "g", [json!(1)])).unwrap().created, 1);

    let file = write(&access.folder, "key", &api_key(node, &["create_doc", "auto_configure"]));
    access.options.authentication = Authentication::ApiKey { file };
    let outcome = access.sink().send(&batch("delivery.key", "no look-ups", [json!(1)])).unwrap();
    assert_eq!(outcome.created, 1);

    let file = write(&access.folder, "key", &api_key(node, &["read", "view_index_metadata"]));
    access.options.authentication = Authentication::ApiKey { file };
    let message = refused_for(&access, "delivery.key");
    assert!(message.contains("create_doc") && message.contains("unauthorized"), "{message}");
}

fn api_key(node: &Elasticsearch, privileges: &[&str]) -> String {
    let role = json!({"index": [{"names": ["logs-*", "metrics-*"], "privileges": privileges}]});
    let (status, key) = node.request(
        "POST",
        "_security/api_key",
        json!({"name": privileges.join("-"), "role_descriptors": {"shipper": role}}),
    );
    assert_eq!(status, 200, "{key}");
    key["encoded"].as_str().unwrap().to_owned()
}

fn refused(access: &Access) -> String {
    refused_for(access, "delivery.refused")
}

fn refused_for(access: &Access, dataset: &str) -> String {
    match access.sink().send(&batch(dataset, "refused", [json!(1)])) {
        Err(SinkError::Refused(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// Why the stream of a dataset has to wait.
fn held_for(access: &Access, dataset: &str) -> String {
    let outcome = access.sink().send(&batch(dataset, "refused", [json!(1)])).unwrap();
    let [held] = &outcome.held[..] else { panic!("{outcome:?}") };
    assert!(held.needs_person && held.stream.dataset == dataset, "{held:?}");
    held.reason.clone()
}
