//! One connection over which statements go one after the other.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use kumon_testing::{Child, wait_for};
use tempfile::NamedTempFile;

/// A client that reads its statements from a pipe; it ends when this is dropped.
pub struct Session {
    input: RefCell<ChildStdin>,
    output: NamedTempFile,
    messages: NamedTempFile,
    queries: Cell<usize>,
    _client: Child,
}

impl Session {
    /// Starts it by a command that prints nothing but results.
    pub(super) fn start(mut client: Command) -> Session {
        let [output, messages] = [(); 2].map(|()| NamedTempFile::new().unwrap());
        client.stdin(Stdio::piped()).stdout(output.reopen().unwrap()).stderr(messages.reopen().unwrap());
        let mut client = Child::spawn(&mut client);
        let input = RefCell::new(client.inner().stdin.take().unwrap());
        Session { input, output, messages, queries: Cell::new(0), _client: client }
    }

    /// Runs statements, each ended with `;` but the last one, and returns what it printed of their results.
    pub fn query(&self, statements: &str) -> String {
        const LIMIT: Duration = Duration::from_secs(60);
        let number = self.queries.replace(self.queries.get() + 1);
        let end = format!("end of query {number}\n");
        let before = text(&self.output).len();
        writeln!(self.input.borrow_mut(), "{statements};\nSELECT '{}';", end.trim_end()).unwrap();
        let mut printed = String::new();
        wait_for("the results of a session's statements", LIMIT, || {
            printed = text(&self.output).split_off(before);
            printed.ends_with(&end)
        });
        printed.truncate(printed.len() - end.len());
        printed
    }

    /// What the client was told besides the results.
    pub fn messages(&self) -> String {
        text(&self.messages)
    }
}

fn text(file: &NamedTempFile) -> String {
    std::fs::read_to_string(file.path()).unwrap()
}
