//! Faults that a healthy Elasticsearch does not show, from a stand-in that speaks just enough HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use kumon_shipper::elasticsearch::{Client, Method};
use kumon_shipper::{Outcome, Sink, SinkError};
use serde_json::{Value, json};

use crate::support::{Access, batch};

/// Answers `_bulk` requests with the given status and body, one after the other; `None` cuts the connection. A text is
/// the body as it is, or where a redirect leads. What else is asked is answered with "there is no such thing".
pub(crate) struct StandIn {
    pub(crate) url: String,
    bodies: Receiver<String>,
}

impl StandIn {
    pub(crate) fn start(answers: Vec<Option<(u16, Value)>>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, bodies) = channel();
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (request, body) = read_request(&stream);
                if !request.contains("_bulk") {
                    answer(&mut stream, 404, &json!({}));
                    continue;
                }
                let _ = sender.send(body);
                if let Some((status, body)) = answers.next().expect("an answer for each request") {
                    answer(&mut stream, status, &body);
                }
            }
        });
        StandIn { url, bodies }
    }

    fn sends(&self, generation: &str) -> Result<Outcome, SinkError> {
        let mut access = Access::new(vec![self.url.clone()], "secret");
        access.options.gzip = false;
        access.options.timeout = Duration::from_secs(5);
        access.sink().send(&batch("faults", generation, (0..3).map(Value::from)))
    }

    /// The ids in each request so far.
    fn requests(&self) -> Vec<Vec<String>> {
        let ids = |body: String| {
            let lines = body.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter_map(|line| Some(line["create"]["_id"].as_str()?.to_owned())).collect()
        };
        self.bodies.try_iter().map(ids).collect()
    }
}

fn read_request(stream: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (request, String::from_utf8(body).unwrap())
}

fn answer(stream: &mut TcpStream, status: u16, body: &Value) {
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let location = if (300..400).contains(&status) { format!("location: {body}\r\n") } else { String::new() };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n{location}content-length: \
         {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
}

fn items(statuses: [u16; 3]) -> Option<(u16, Value)> {
    let item = |status: u16| match status {
        201 => json!({"create": {"status": 201}}),
        _ => {
            json!({"create": {"status": status, "error": {"type": "some_exception", "reason": "some reason"}}})
        }
    };
    let errors = statuses != [201; 3];
    Some((200, json!({"errors": errors, "items": statuses.map(item)})))
}

#[test]
fn a_document_that_a_shard_had_no_room_for_is_sent_again_alone() {
    let stand_in = StandIn::start(vec![
        items([201, 429, 503]),
        Some((
            200,
            json!({"errors": true, "items": [
                {"create": {"status": 429, "error": {"type": "t", "reason": "r"}}},
                {"create": {"status": 201}},
            ]}),
        )),
        Some((200, json!({"errors": false, "items": [{"create": {"status": 201}}]}))),
    ]);
    assert_eq!(stand_in.sends("g").unwrap(), Outcome { created: 3, retried: 3, ..Outcome::default() });
    assert_eq!(stand_in.requests(), [vec!["g-0", "g-1", "g-2"], vec!["g-1", "g-2"], vec!["g-1"]]);
}

#[test]
fn a_shard_that_never_has_room_halts_its_stream() {
    let busy = Some((
        200,
        json!({"errors": true, "items": [
            {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue full"}}},
        ]}),
    ));
    let stand_in = StandIn::start(vec![items([201, 201, 429]), busy.clone(), busy.clone(), busy]);
    let outcome = stand_in.sends("g").unwrap();
    // The two that arrived are sent again with the third: the ids tell.
    assert_eq!((outcome.created, outcome.retried, outcome.held.len()), (0, 3, 1));
    assert!(outcome.held[0].reason.contains("queue full") && !outcome.held[0].needs_person, "{outcome:?}");
}

#[test]
fn an_overloaded_or_starting_cluster_is_unavailable_and_named() {
    for status in [429, 502, 503, 504] {
        let reason = json!({"error": {"type": "some_exception", "reason": "some reason"}});
        let stand_in = StandIn::start(vec![Some((status, reason))]);
        match stand_in.sends("g") {
            Err(SinkError::Unavailable(message)) => {
                assert!(message.contains(&stand_in.url) && message.contains("some reason"), "{message}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[test]
fn a_cut_connection_is_unavailable() {
    let stand_in = StandIn::start(vec![None]);
    match stand_in.sends("g") {
        Err(SinkError::Unavailable(message)) => {
            assert!(message.contains(&stand_in.url) && message.contains("ended the connection"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_web_server_that_is_no_elasticsearch_is_recognised() {
    let stand_in = StandIn::start(vec![Some((200, json!("Welcome to nginx!")))]);
    match stand_in.sends("g") {
        Err(SinkError::Refused(message)) => assert!(message.contains("is that one?"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_about_fewer_rows_than_were_sent_is_none_of_elasticsearch_s() {
    let created = json!({"create": {"status": 201}});
    for errors in [true, false] {
        let short = json!({"errors": errors, "items": [created, created]});
        let stand_in = StandIn::start(vec![Some((200, short))]);
        match stand_in.sends("g") {
            Err(SinkError::Refused(message)) => {
                assert!(message.contains("2 outcomes for 3 documents"), "{message}");
            }
            other => panic!("errors {errors}: {other:?}"),
        }
    }
}

#[test]
fn what_went_to_the_failure_store_is_counted_apart() {
    let used = json!({"create": {"status": 201, "failure_store": "used"}});
    let stored = json!({"create": {"status": 201}});
    let stand_in =
        StandIn::start(vec![Some((200, json!({"errors": false, "items": [used, stored, stored]})))]);
    assert_eq!(stand_in.sends("g").unwrap(), Outcome { created: 2, failure_store: 1, ..Outcome::default() });
}

/// One item of an answer: an error of this status and type, for one of three rows or for it alone.
fn failed(status: u16, kind: &str, alone: bool) -> Option<(u16, Value)> {
    let created = json!({"create": {"status": 201}});
    let failed = json!({"create": {"status": status, "error": {"type": kind, "reason": "some reason"}}});
    let items = if alone { vec![failed] } else { vec![created.clone(), failed, created] };
    Some((200, json!({"errors": true, "items": items})))
}

#[test]
fn a_row_that_a_pipeline_fails_on_is_refused_after_a_few_tries_and_the_others_go() {
    for kind in ["fail_processor_exception", "null_pointer_exception", "some_new_exception"] {
        let mut answers = vec![failed(500, kind, false)];
        answers.extend(vec![failed(500, kind, true); 3]);
        let stand_in = StandIn::start(answers);
        let outcome = stand_in.sends("g").unwrap();
        assert_eq!((outcome.created, outcome.retried, outcome.held.len()), (2, 0, 0), "{outcome:?}");
        let refused = &outcome.rejected[0];
        assert!(refused.document == 1 && refused.reason.contains(kind), "{refused:?}");
        assert_eq!(stand_in.requests(), [vec!["g-0", "g-1", "g-2"], vec!["g-1"], vec!["g-1"], vec!["g-1"]]);
    }
}

#[test]
fn what_is_wrong_with_the_cluster_pauses_the_stream_and_refuses_no_row() {
    for (status, kind) in [
        (400, "validation_exception"),
        (400, "index_closed_exception"),
        (403, "cluster_block_exception"),
        (403, "security_exception"),
        (404, "index_not_found_exception"),
        (503, "unavailable_shards_exception"),
    ] {
        let stand_in = StandIn::start(vec![failed(status, kind, false)]);
        let outcome = stand_in.sends("g").unwrap();
        assert_eq!((outcome.created, outcome.rejected.len(), outcome.held.len()), (0, 0, 1), "{kind}");
        assert!(outcome.held[0].reason.contains(kind), "{outcome:?}");
    }
}

#[test]
fn a_redirect_is_not_followed_and_blames_no_credentials() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let base = format!("http://{}", elsewhere.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        let stand_in = StandIn::start(vec![Some((status, json!(format!("{base}/_bulk?timeout=3s"))))]);
        match stand_in.sends("g") {
            Err(SinkError::Refused(message)) => {
                assert!(
                    message.contains(&format!("write {base} into output.elasticsearch.hosts")),
                    "{message}"
                );
                assert!(!message.contains("password"), "{message}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    assert!(elsewhere.accept().is_err(), "the redirect was followed");
}

#[test]
fn what_a_proxy_says_refuses_no_row_even_with_the_status_of_a_refusal() {
    for (status, body) in
        [(400, "<h1>400 The plain HTTP request was sent to HTTPS port</h1>"), (400, ""), (422, "no")]
    {
        let stand_in = StandIn::start(vec![Some((status, json!(body)))]);
        match stand_in.sends("g") {
            Err(SinkError::Refused(message)) => {
                assert!(message.contains("not as Elasticsearch would"), "{message}")
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

/// Whatever is wrong with the whole request, is not wrong with its rows, as long as none like it was ever taken.
#[test]
fn an_elasticsearch_that_knows_no_such_request_refuses_no_row() {
    let unknown = || {
        let reason = "request [/_bulk] contains unrecognized parameter: [require_data_stream]";
        Some((400, json!({"error": {"type": "illegal_argument_exception", "reason": reason}, "status": 400})))
    };
    let stand_in = StandIn::start(vec![unknown(), unknown()]);
    match stand_in.sends("g") {
        Err(SinkError::Refused(message)) => assert!(message.contains("unrecognized parameter"), "{message}"),
        other => panic!("{other:?}"),
    }
}

/// A server whose answers have no end.
#[test]
fn of_an_answer_without_end_only_the_beginning_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                read_request(&stream);
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(chunk.as_bytes());
                }
            });
        }
    });
    let mut access = Access::new(vec![url], "secret");
    (access.options.gzip, access.options.timeout) = (false, Duration::from_secs(15));
    match access.sink().send(&batch("faults", "g", (0..3).map(Value::from))) {
        Err(SinkError::Refused(message)) => assert!(message.contains("bytes: an empty body"), "{message}"),
        other => panic!("{other:?}"),
    }
}

/// A server that cuts the first connection that asks for something, and answers the next.
#[test]
fn a_search_whose_connection_is_cut_is_repeated_and_a_change_is_not() {
    let asked = |method: Method, path: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                read_request(&stream);
                if number > 0 {
                    answer(&mut stream, 200, &json!({"count": 7}));
                }
            }
        });
        let mut access = Access::new(vec![url], "secret");
        access.options.gzip = false;
        Client::new(access.options).unwrap().request(method, path, Some(&json!({})))
    };
    for path in ["metrics-kumon.cpu-default/_search?size=1", "_count"] {
        assert_eq!(asked(Method::POST, path).unwrap().json()["count"], 7, "{path}");
    }
    let failure = asked(Method::PUT, "_ilm/policy/kumon.cpu").unwrap_err();
    assert!(failure.unclear && failure.message.contains("ended the connection"), "{failure}");
}
