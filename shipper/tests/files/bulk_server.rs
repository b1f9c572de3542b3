//! A stand-in for Elasticsearch's HTTP side: it knows ids, and on demand does to each request one of the things that
//! no real node does when it is asked to. It lives in the test, and so outlives the shippers that are killed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::random::Random;

/// The shipper gives a request up after so long.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(300);
/// A body is too large for the stand-in above so many bytes, while it makes faults.
const TOO_LARGE: usize = 1200;

pub(crate) struct BulkServer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    faulty: bool,
    /// Requests refused since it is away; `None` while it is there.
    away: Option<u64>,
    ids: HashSet<String>,
    numbers: Vec<u64>,
    resends: u64,
}

/// What is done to a request.
#[derive(Clone, Copy)]
enum Fault {
    Status(u16),
    TooLarge,
    CutBefore,
    CutAfterAcceptance,
    LateAfterAcceptance,
    CutAnswer,
    /// Of a proxy.
    Page(u16),
    Items,
}

/// What is wrong with a stream's shard, its node, or the cluster, for a moment: status and type.
const ERRORS: [(u16, &str); 7] = [
    (429, "es_rejected_execution_exception"),
    (503, "unavailable_shards_exception"),
    (500, "node_closed_exception"),
    (403, "cluster_block_exception"),
    (404, "index_not_found_exception"),
    (400, "validation_exception"),
    (400, "index_closed_exception"),
];

const FAULTS: [Fault; 14] = [
    Fault::Status(429),
    Fault::Status(503),
    Fault::Status(502),
    Fault::TooLarge,
    Fault::CutBefore,
    Fault::CutAfterAcceptance,
    Fault::LateAfterAcceptance,
    Fault::CutAnswer,
    Fault::Page(200),
    Fault::Page(302),
    Fault::Page(400),
    Fault::Page(403),
    Fault::Items,
    Fault::Items,
];

impl BulkServer {
    pub(crate) fn start(seed: u64) -> BulkServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            random: Random(seed),
            faulty: false,
            away: None,
            ids: HashSet::new(),
            numbers: Vec::new(),
            resends: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                // Whoever is killed cuts its connection: nothing to be said about that.
                thread::spawn(move || stream.ok().and_then(|stream| serve(&stream, &state)));
            }
        });
        BulkServer { url, state }
    }

    /// Whether every third request fails from now on.
    pub(crate) fn fail(&self, faulty: bool) {
        self.state.lock().unwrap().faulty = faulty;
    }

    /// Whether each request is answered that there is no Elasticsearch behind this proxy.
    pub(crate) fn away(&self, away: bool) {
        self.state.lock().unwrap().away = away.then_some(0);
    }

    /// Requests that came since it is away.
    pub(crate) fn refused(&self) -> u64 {
        self.state.lock().unwrap().away.unwrap_or(0)
    }

    /// The rows' numbers in the order of arrival.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.state.lock().unwrap().numbers.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().unwrap().numbers.len()
    }

    /// Documents that were there already.
    pub(crate) fn resends(&self) -> u64 {
        self.state.lock().unwrap().resends
    }
}

/// One connection; ends with it.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    // An answer in two parts must not wait for the other side to confirm the first.
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (request, body) = read_request(&mut reader)?;
        if !request.contains("_bulk") {
            answer(stream, 404, b"{}")?;
            continue;
        }
        let fault = state.lock().unwrap().next_fault();
        match fault {
            Some(Fault::Status(status)) => answer(stream, status, br#"{"error":"too busy"}"#)?,
            Some(Fault::TooLarge) if body.len() > TOO_LARGE => answer(stream, 413, b"{}")?,
            Some(Fault::CutBefore) => return None,
            Some(Fault::CutAfterAcceptance) => {
                state.lock().unwrap().take(&body, 0);
                return None;
            }
            Some(Fault::LateAfterAcceptance) => {
                let outcome = state.lock().unwrap().take(&body, 0);
                thread::sleep(TIMEOUT + TIMEOUT / 4);
                answer(stream, 200, &outcome)?;
            }
            Some(Fault::CutAnswer) => {
                let outcome = state.lock().unwrap().take(&body, 0);
                head(stream, 200, outcome.len())?;
                (&mut &*stream).write_all(&outcome[..outcome.len() / 2]).ok()?;
                return None;
            }
            Some(Fault::Page(status)) => answer(stream, status, b"<html>a proxy's</html>")?,
            Some(Fault::Items) => {
                let outcome = state.lock().unwrap().take(&body, 3);
                answer(stream, 200, &outcome)?;
            }
            Some(Fault::TooLarge) | None => {
                let outcome = state.lock().unwrap().take(&body, 0);
                answer(stream, 200, &outcome)?;
            }
        }
    }
}

impl State {
    fn next_fault(&mut self) -> Option<Fault> {
        if let Some(refused) = &mut self.away {
            *refused += 1;
            return Some(Fault::Status(503));
        }
        let fault = self.random.below(FAULTS.len() as u64) as usize;
        (self.faulty && self.random.below(3) == 0).then_some(FAULTS[fault])
    }

    /// Takes a request's documents, but for one in `refuse` at random, which may be tried again. All of them are refused
    /// for the same reason.
    fn take(&mut self, body: &[u8], refuse: u64) -> Vec<u8> {
        let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let (mut items, mut errors) = (Vec::new(), false);
        let (refusal, kind) = ERRORS[self.random.below(ERRORS.len() as u64) as usize];
        while let (Some(action), Some(document)) = (lines.next(), lines.next()) {
            let action: Value = serde_json::from_slice(action).unwrap();
            let document: Value = serde_json::from_slice(document).unwrap();
            let id = action["create"]["_id"].as_str().unwrap().to_owned();
            let status = if refuse > 0 && self.random.below(refuse) == 0 {
                refusal
            } else if self.ids.insert(id) {
                // KuMon's own rows have none but the process's.
                let n = document.get("n").unwrap_or(&document["process.pid"]);
                let n = n.as_u64().or_else(|| n.as_str()?.parse().ok());
                self.numbers.push(n.unwrap_or_else(|| panic!("no number in {document}")));
                201
            } else {
                self.resends += 1;
                409
            };
            errors |= status != 201;
            let kind = if status == 409 { "version_conflict_engine_exception" } else { kind };
            let error = json!({"type": kind, "reason": "some reason"});
            items.push(match status {
                201 => json!({"create": {"status": 201}}),
                _ => json!({"create": {"status": status, "error": error}}),
            });
        }
        // `errors` first, as Elasticsearch writes it.
        format!("{{\"errors\":{errors},\"items\":{}}}", Value::from(items)).into_bytes()
    }
}

/// The request line and the body; `None` once the other side is gone.
fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut request).ok().filter(|read| *read > 0)?;
    while reader.read_line(&mut line).ok().filter(|read| *read > 0)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((request, body))
}

fn answer(stream: &TcpStream, status: u16, body: &[u8]) -> Option<()> {
    head(stream, status, body.len())?;
    (&mut &*stream).write_all(body).ok()
}

fn head(mut stream: &TcpStream, status: u16, length: usize) -> Option<()> {
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()
}
