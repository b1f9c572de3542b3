//! Python at work, which says what it did.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// It is told to go on by a line.
pub struct Load {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Load {
    pub fn start(mut command: Command) -> Load {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Load { child, lines }
    }

    pub fn pid(&self) -> i64 {
        self.child.id().into()
    }

    /// The words of the next line that it says.
    pub fn told(&mut self) -> Option<Vec<String>> {
        let line = self.lines.next()?.unwrap();
        Some(line.split_whitespace().map(str::to_owned).collect())
    }

    pub fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// All that it still says, and its end.
    pub fn end(mut self) -> Vec<Vec<String>> {
        let told = std::iter::from_fn(|| self.told()).collect();
        assert!(self.child.wait().unwrap().success());
        told
    }
}
