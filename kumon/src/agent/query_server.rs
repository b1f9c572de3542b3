//! What other processes ask of the agent that has the embedded store open, over a Unix socket in the shipper's state
//! folder: one JSON line there; a line for each row and one that ends the answer back.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kumon_query::{OnRow, Search, SearchError, SearchRequest, SearchResponse};
use kumon_shipper::{DeadLetterFolder, Handle, LetterFilter, Replayed, replay};
use kumon_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::live_store::LiveStore;

/// A request line is a query and some options.
const MAX_REQUEST: u64 = 1 << 20;
/// A long answer to another question may come first.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Somebody who connects and says nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// Somebody who reads a long answer page by page.
const READING_LIMIT: Duration = Duration::from_secs(600);
/// Connections at a time, each with a thread; the next one is closed unanswered.
const MOST_CONNECTIONS: usize = 32;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Search(SearchRequest),
    ReplayDeadLetters(LetterFilter),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// A row of an answer that [`Answer::Found`] or [`Answer::Failed`] ends.
    Row(Box<RawValue>),
    Found(SearchResponse),
    Failed(SearchError),
    Replayed(Result<Replayed, String>),
}

/// The server's thread.
pub(super) struct QueryServer {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl QueryServer {
    /// Listens on `path`; the user and the group that the process runs as may ask, as its umask leaves it.
    pub(super) fn start(
        path: &Path,
        store: Store,
        shipper: Handle,
        letters: DeadLetterFolder,
    ) -> Result<QueryServer> {
        // A crash leaves the socket behind; the state folder's lock says that nobody uses it.
        let _ = fs::remove_file(path);
        let listener =
            UnixListener::bind(path).with_context(|| format!("{}: can't listen", path.display()))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        // Who asks from outside is to see all that there is at that moment.
        let store = LiveStore::new(store, shipper.clone(), Duration::ZERO);
        let asked = Arc::new(Asked { store, shipper, letters });
        let serve = move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Each thread holds one reference, this one too.
                if Arc::strong_count(&asked) <= MOST_CONNECTIONS {
                    let asked = asked.clone();
                    let answer = move || asked.answer(connection);
                    let started = std::thread::Builder::new().name("answer".into()).spawn(answer);
                    started.map_err(|e| log::warn!("a query can't be answered: {e}")).ok();
                }
            }
        };
        let thread = std::thread::Builder::new().name("query".into()).spawn(serve)?;
        Ok(QueryServer { path: path.to_owned(), stopping, thread })
    }

    pub(super) fn stop(self) {
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

/// What the threads of the connections share.
struct Asked {
    /// Each search holds a page of rows at most; who is slow to ask or to read the answer keeps nobody waiting.
    store: LiveStore,
    shipper: Handle,
    letters: DeadLetterFolder,
}

impl Asked {
    /// A broken connection is its client's affair.
    fn answer(&self, connection: io::Result<UnixStream>) {
        if let Err(e) = connection.and_then(|stream| self.converse(&stream)) {
            log::debug!("a query's connection failed: {e}");
        }
    }

    fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE_LIMIT))?;
        stream.set_write_timeout(Some(READING_LIMIT))?;
        let mut line = String::new();
        if BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut writer = io::BufWriter::new(stream);
        let answer = match serde_json::from_str(&line)? {
            Request::Search(request) => {
                self.search(&request, &mut |row| write_line(&mut writer, &Answer::Row(row.to_owned())))
            }
            Request::ReplayDeadLetters(filter) => {
                Answer::Replayed(replay(&self.letters, &filter, &mut self.shipper.clone()))
            }
        };
        write_line(&mut writer, &answer)?;
        writer.flush()
    }

    fn search(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Answer {
        match self.store.stream(request, row) {
            Ok(response) => Answer::Found(response),
            Err(error) => Answer::Failed(error),
        }
    }
}

fn write_line(writer: &mut impl Write, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, answer)?;
    writer.write_all(b"\n")
}

/// The store of a running agent, asked through its socket.
pub(crate) struct Remote {
    path: PathBuf,
}

impl Remote {
    /// `None` when no agent listens there.
    ///
    /// # Errors
    /// When one may listen, but not for this user.
    pub(crate) fn connect(path: &Path) -> Result<Option<Remote>> {
        match UnixStream::connect(path) {
            Ok(_) => Ok(Some(Remote { path: path.to_owned() })),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e).with_context(|| {
                format!("{}: ask as root or as a member of the group that KuMon runs as", path.display())
            }),
            Err(_) => Ok(None),
        }
    }

    /// Has the agent send dead letters once more; answers what became of them, or why that can't be done now.
    ///
    /// # Errors
    /// When the agent doesn't answer.
    pub(crate) fn replay(&self, filter: &LetterFilter) -> Result<Result<Replayed, String>> {
        // However long that takes; an agent that ends closes the connection.
        match self.ask(&Request::ReplayDeadLetters(filter.clone()), None, &mut |_| Ok(())) {
            Ok(Answer::Replayed(replayed)) => Ok(replayed),
            Ok(_) => Err(anyhow!("{}: the agent answered something else", self.path.display())),
            Err(e) => {
                Err(anyhow!("{}: the agent did not answer: {e}; see 'kumon status'", self.path.display()))
            }
        }
    }

    /// What ends the answer; its rows are handed over before.
    fn ask(&self, request: &Request, limit: Option<Duration>, row: &mut OnRow<'_>) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(limit)?;
        serde_json::to_writer(&mut stream, request)?;
        stream.write_all(b"\n")?;
        let (mut reader, mut line) = (BufReader::new(stream), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its answer has no end"));
            }
            match serde_json::from_str(&line)? {
                Answer::Row(hit) => row(&hit)?,
                end => return Ok(end),
            }
        }
    }
}

impl Search for Remote {
    fn stream(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        match self.ask(&Request::Search(request.clone()), Some(ANSWER_LIMIT), row) {
            Ok(Answer::Found(response)) => Ok(response),
            Ok(Answer::Failed(error)) => Err(error),
            Ok(_) => Err(SearchError::Unavailable {
                message: format!("{}: the agent answered something else", self.path.display()),
            }),
            Err(e) => Err(SearchError::Unavailable {
                message: format!(
                    "{}: the agent did not answer: {e}; see 'kumon status'",
                    self.path.display()
                ),
            }),
        }
    }
}
