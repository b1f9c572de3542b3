//! The stand-in's HTTP side. For shippers: `_bulk`, and an answer to whatever else they ask an Elasticsearch at first.
//! For the benchmark: `/reset?rows=N`, `/wait?seconds=S` (answers when all rows are there, or after that time) and
//! `/report`. `/fault?kind=KIND&value=V&requests=N` makes the faults of [`crate::fault`].

use std::cell::RefCell;
use std::error::Error;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Request, Response, StatusCode};
use tokio::sync::watch;

use crate::bulk::Bulk;
use crate::fault::Faults;
use crate::ledger::Ledger;

#[derive(Default)]
pub(crate) struct Server {
    bulk: Bulk,
    ledger: Ledger,
    expected: u64,
    /// Whether all the expected rows are there.
    complete: watch::Sender<bool>,
    inflated: Vec<u8>,
    faults: Faults,
}

type Shared = Rc<RefCell<Server>>;

pub(crate) async fn answer(
    server: Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let (status, body) = match head.uri.path() {
        path if path.ends_with("/_bulk") => {
            let gzipped = head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
            let body = body.collect().await?.to_bytes();
            let fault = server.borrow_mut().faults.next();
            if let Some(status) = fault.before().await {
                (status, error("refused on demand"))
            } else {
                let taken = server.borrow_mut().bulk(&body, gzipped, query.contains("filter_path="));
                fault.after().await?;
                taken
            }
        }
        "/reset" => {
            server.borrow_mut().reset(parameter(query, "rows"));
            (StatusCode::OK, b"{}".to_vec())
        }
        "/fault" => {
            let kind = text(query, "kind").unwrap_or("none");
            let (value, requests) = (parameter(query, "value"), parameter(query, "requests"));
            match server.borrow_mut().faults.set(kind, value, requests) {
                Ok(()) => (StatusCode::OK, b"{}".to_vec()),
                Err(e) => (StatusCode::BAD_REQUEST, error(&e)),
            }
        }
        "/wait" => {
            wait(&server, Duration::from_secs(parameter(query, "seconds"))).await;
            (StatusCode::OK, b"{}".to_vec())
        }
        "/report" => (StatusCode::OK, server.borrow().ledger.report().to_string().into_bytes()),
        "/" => {
            (StatusCode::OK, br#"{"version":{"number":"9.4.3"},"tagline":"You Know, for Search"}"#.to_vec())
        }
        _ => (StatusCode::OK, b"{}".to_vec()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    // Without it, Elasticsearch's own clients refuse to go on.
    headers.insert("x-elastic-product", hyper::header::HeaderValue::from_static("Elasticsearch"));
    Ok(response)
}

impl Server {
    fn reset(&mut self, rows: u64) {
        self.ledger = Ledger::expecting(rows as usize);
        self.expected = rows;
        self.complete.send_replace(rows == 0);
    }

    fn bulk(&mut self, wire: &[u8], gzipped: bool, short: bool) -> (StatusCode, Vec<u8>) {
        let body = if gzipped {
            self.inflated.clear();
            if let Err(e) = GzDecoder::new(wire).read_to_end(&mut self.inflated) {
                return (StatusCode::BAD_REQUEST, error(&format!("not gzip: {e}")));
            }
            &self.inflated[..]
        } else {
            wire
        };
        self.ledger.request(wire.len(), body.len(), gzipped);
        let answer = self.bulk.take(body, short, &mut self.ledger);
        if self.ledger.rows == self.expected {
            self.complete.send_replace(true);
        }
        answer.map_or_else(|e| (StatusCode::BAD_REQUEST, error(&e)), |answer| (StatusCode::OK, answer))
    }
}

async fn wait(server: &Shared, limit: Duration) {
    let mut complete = server.borrow().complete.subscribe();
    // Whether they are there, or time is up, or nobody sends any more: the report says what there is.
    let _ = tokio::time::timeout(limit, complete.wait_for(|complete| *complete)).await;
}

fn parameter(query: &str, name: &str) -> u64 {
    text(query, name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn text<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn error(reason: &str) -> Vec<u8> {
    serde_json::json!({"error": {"type": "illegal_argument_exception", "reason": reason}, "status": 400})
        .to_string()
        .into_bytes()
}
