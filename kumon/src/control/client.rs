//! A command's side of the control protocol.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kumon_query::{OnRow, Search, SearchError, SearchRequest, SearchResponse};
use kumon_shipper::{LetterFilter, Replayed};

use super::protocol::{self, Answer, CollectorsReport, Refusal, Request, Switch, Switched};

/// A long answer to another question may come first.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// One side of a running agent, asked through its socket.
pub(crate) struct Client {
    path: PathBuf,
}

impl Client {
    /// `None` when no agent listens there.
    ///
    /// # Errors
    /// When one may listen, but not for this user.
    pub(crate) fn connect(path: &Path) -> Result<Option<Client>> {
        match UnixStream::connect(path) {
            Ok(_) => Ok(Some(Client { path: path.to_owned() })),
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
        match self.ask(&Request::ReplayDeadLetters(filter.clone()), None)? {
            Answer::Replayed(replayed) => Ok(replayed),
            other => Err(anyhow!(self.no_answer(other))),
        }
    }

    /// How each metric is collected.
    ///
    /// # Errors
    /// When the agent doesn't answer.
    pub(crate) fn collectors(&self) -> Result<CollectorsReport> {
        match self.ask(&Request::Collectors, Some(ANSWER_LIMIT))? {
            Answer::Collectors(report) => Ok(report),
            other => Err(anyhow!(self.no_answer(other))),
        }
    }

    /// Switches metrics on or off; answers what became of each, or why nothing was done.
    ///
    /// # Errors
    /// When the agent doesn't answer.
    pub(crate) fn switch(&self, switch: &Switch) -> Result<Result<Vec<Switched>, Refusal>> {
        // Loading programs takes as long as it takes.
        match self.ask(&Request::SwitchCollectors(switch.clone()), None)? {
            Answer::Switched(switched) => Ok(Ok(switched)),
            Answer::Refused(refusal) => Ok(Err(refusal)),
            other => Err(anyhow!(self.no_answer(other))),
        }
    }

    /// The answer to a request that has no rows.
    fn ask(&self, request: &Request, limit: Option<Duration>) -> Result<Answer> {
        self.converse(request, limit, &mut |_| Ok(())).map_err(|e| anyhow!(self.unanswered(&e)))
    }

    /// What ends the answer; its rows are handed over before.
    fn converse(
        &self,
        request: &Request,
        limit: Option<Duration>,
        row: &mut OnRow<'_>,
    ) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(limit)?;
        let mut request = protocol::line(request)?;
        request.push(b'\n');
        // An agent that has its hands full answers before it has read that, and hangs up.
        let sent = stream.write_all(&request);
        let (mut reader, mut line) = (BufReader::new(stream), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                sent?;
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "its answer has no end; it ended, or is a KuMon of another version",
                ));
            }
            match serde_json::from_str(&line)? {
                Answer::Row(hit) => row(&hit)?,
                end => return Ok(end),
            }
        }
    }

    fn unanswered(&self, error: &io::Error) -> String {
        format!("{}: the agent did not answer: {error}; see 'kumon status'", self.path.display())
    }

    /// Of an answer to something else.
    fn no_answer(&self, answer: Answer) -> String {
        match answer {
            Answer::Refused(Refusal { reason, .. }) => format!("{}: {reason}", self.path.display()),
            _ => format!("{}: the agent answered something else", self.path.display()),
        }
    }
}

impl Search for Client {
    fn stream(&self, request: &SearchRequest, row: &mut OnRow<'_>) -> Result<SearchResponse, SearchError> {
        let unavailable = |message| Err(SearchError::Unavailable { message });
        match self.converse(&Request::Search(request.clone()), Some(ANSWER_LIMIT), row) {
            Ok(Answer::Found(response)) => Ok(response),
            Ok(Answer::Failed(error)) => Err(error),
            Ok(other) => unavailable(self.no_answer(other)),
            Err(e) => unavailable(self.unanswered(&e)),
        }
    }
}
