//! The agent's side of the control protocol.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kumon_query::OnRow;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::protocol::{self, Answer, Refusal, Request};

/// A request line is a query and some options.
const MAX_REQUEST: usize = 1 << 20;
/// How long somebody who connects may take to send it.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// Somebody who reads a long answer page by page.
const READING_LIMIT: Duration = Duration::from_secs(600);
/// Connections at a time, each with a thread; more are refused.
const MOST_CONNECTIONS: usize = 32;

/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who answers requests.
pub(crate) trait Responder: Send + Sync + 'static {
    /// Hands the rows of the answer over and returns what ends it.
    fn respond(&self, request: Request, peer: Peer, row: &mut OnRow<'_>) -> Answer;
}

/// Who asks, as the kernel knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
}

impl Peer {
    /// Whether it may change what the agent does: root, and the user that it runs as.
    pub(crate) fn may_change(self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }
}

/// The thread that takes connections.
pub(crate) struct ControlServer {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ControlServer {
    /// Listens on `path`; the user and the group that the process runs as may ask, as its umask leaves it.
    ///
    /// # Errors
    /// When it can't listen there.
    pub(crate) fn start(path: &Path, responder: impl Responder) -> Result<ControlServer> {
        // A crash leaves the socket behind; the state folder's lock says that nobody uses it.
        let _ = fs::remove_file(path);
        let listener =
            UnixListener::bind(path).with_context(|| format!("{}: can't listen", path.display()))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let responder = Arc::new(responder);
        let serve = move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = connection else {
                    // Without files left to open, say: it would fail again at once.
                    std::thread::sleep(ACCEPT_PAUSE);
                    continue;
                };
                // Each thread holds one reference, this one too.
                if Arc::strong_count(&responder) > MOST_CONNECTIONS {
                    refuse(&stream);
                    continue;
                }
                let responder = responder.clone();
                let answer = move || answer(&stream, &*responder);
                let started = std::thread::Builder::new().name("answer".into()).spawn(answer);
                started.map_err(|e| log::warn!("a request can't be answered: {e}")).ok();
            }
        };
        let thread = std::thread::Builder::new().name("control".into()).spawn(serve)?;
        Ok(ControlServer { path: path.to_owned(), stopping, thread })
    }

    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread from accept().
        let woken = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
        if woken.is_ok() {
            // Its only panic would be a bug, and it holds nothing.
            let _ = self.thread.join();
        }
    }
}

/// An empty socket has room for a line, so that this waits for nobody.
fn refuse(stream: &UnixStream) {
    let reason = format!("{MOST_CONNECTIONS} others are being answered; try again in some seconds");
    let _ = write_line(&mut &*stream, &Answer::Refused(Refusal::because(reason)));
}

/// A broken connection is its client's affair.
fn answer(stream: &UnixStream, responder: &impl Responder) {
    if let Err(e) = converse(stream, responder) {
        log::debug!("a request's connection failed: {e}");
    }
}

fn converse(stream: &UnixStream, responder: &impl Responder) -> io::Result<()> {
    let peer = Peer { uid: socket_peercred(stream)?.uid.as_raw() };
    let Some(line) = read_line(stream)? else { return Ok(()) };
    stream.set_write_timeout(Some(READING_LIMIT))?;
    let mut writer = io::BufWriter::new(stream);
    let answer = match protocol::read(&line) {
        Ok(request) => {
            responder.respond(request, peer, &mut |row| write_line(&mut writer, &Answer::Row(row.to_owned())))
        }
        Err(answer) => answer,
    };
    write_line(&mut writer, &answer)?;
    writer.flush()
}

/// The line that the client sends, cut at its greatest length; none of one that hangs up.
fn read_line(mut stream: &UnixStream) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + SILENCE_LIMIT;
    let (mut line, mut chunk) = (Vec::new(), [0; 4096]);
    while line.len() < MAX_REQUEST {
        // As a whole: who sends a byte now and then is no better than who sends none.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut chunk)?;
        let received = &chunk[..count];
        let end = received.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&received[..end.unwrap_or(count)]);
        if end.is_some() || count == 0 {
            break;
        }
    }
    Ok(Some(line).filter(|line| !line.is_empty()))
}

fn write_line(writer: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, answer)?;
    writer.write_all(b"\n")
}
