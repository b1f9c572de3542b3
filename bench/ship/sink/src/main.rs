//! A stand-in for Elasticsearch's `_bulk` that is so fast that the shipper is what gets measured. As Elasticsearch, it
//! knows ids: `create` with a known `_id` is answered 409 and not counted. Rows are told apart by their number, the
//! field `seq`, so that lost and doubled ones are counted exactly; where a row also says when it was written (`sent`,
//! ns since 1970), the time until its arrival is kept.
//!
//! It listens on a free port of 127.0.0.1, prints `listening on ADDRESS`, and ends when its standard input does: with
//! whoever started it, however that one ended.

mod bulk;
mod fault;
mod ledger;
mod server;

use std::cell::RefCell;
use std::io::{self, Read};
use std::process::ExitCode;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::server::Server;

fn main() -> ExitCode {
    std::thread::spawn(|| {
        // What is read doesn't matter, nor why it ended.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // One thread: a second one would take the core that the shipper runs on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| LocalSet::new().block_on(&runtime, serve())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bulk-sink can't listen on 127.0.0.1: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let server = Rc::new(RefCell::new(Server::default()));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = server.clone();
        tokio::task::spawn_local(async move {
            let answer = service_fn(move |request| server::answer(server.clone(), request));
            // A shipper that goes away in mid-request is its own affair; what is missing then shows in the counts.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
