//! Runs the real binary in folders of its own.

// Each test file uses its part of it, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use kumon_testing::{Child, Elasticsearch, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// What the operator's patience is worth: nothing that these tests wait for may take longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Folders and a configuration of one test, deleted when dropped.
pub struct Node {
    folder: TempDir,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A running `kumon`, killed when dropped.
pub struct Kumon {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Node {
    /// With a configuration of the folders' paths and `more`, which is YAML.
    pub fn new(more: &str) -> Node {
        let node = Node { folder: tempfile::Builder::new().prefix("kumon-").tempdir().unwrap() };
        node.configure(more);
        node
    }

    /// Replaces the configuration in one step. Agents of several tests can't all have the page's usual port: without
    /// `web` in `more` they have no page.
    pub fn configure(&self, more: &str) {
        let (spool, state, dashboards) = (self.spool(), self.state(), self.path("dashboards"));
        let (spool, state, dashboards) = (spool.display(), state.display(), dashboards.display());
        let paths = format!("path: {{ spool: {spool}, state: {state}, dashboards: {dashboards} }}\n");
        let web = if more.contains("web:") { "" } else { "\nweb: { enabled: false }\n" };
        self.write_configuration(&(paths + more + web));
    }

    /// The section `output` of the configuration for this Elasticsearch, whose password is put into a file.
    pub fn output(&self, elasticsearch: &Elasticsearch) -> String {
        let (url, username) = (elasticsearch.url(), elasticsearch.username());
        let password = self.path("password");
        fs::write(&password, elasticsearch.password()).unwrap();
        let password = password.display();
        let mut keys = format!("hosts: ['{url}'], username: {username}, password_file: {password}");
        if url.starts_with("https") {
            keys += &format!(", ca_file: {}", elasticsearch.ca_file().display());
        }
        format!("output: {{ elasticsearch: {{ {keys} }} }}\n")
    }

    /// Replaces the configuration with exactly this text.
    pub fn write_configuration(&self, text: &str) {
        let new = self.path("kumon.yml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.config()).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.path("kumon.yml")
    }

    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `kumon --config … <arguments>`, without the variables of whoever runs the tests.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kumon();
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.spawn(&mut self.command(arguments)).wait()
    }

    /// Starts a command that goes on.
    pub fn start(&self, arguments: &[&str]) -> Kumon {
        self.spawn(&mut self.command(arguments))
    }

    /// Starts `run`, `collect` or `ship`, and returns when it is at work.
    pub fn start_agent(&self, arguments: &[&str]) -> Kumon {
        let mut agent = self.start(arguments);
        let sides = match arguments[0] {
            "collect" => ["collect"].as_slice(),
            "ship" => &["ship"],
            _ => &["collect", "ship"],
        };
        for side in sides {
            wait_for(&format!("the agent to {side}"), PATIENCE, || {
                let ended = agent.child.inner().try_wait().unwrap();
                assert!(ended.is_none(), "{ended:?}: {}", agent.stderr());
                self.status_file(side)["pid"].as_u64() == Some(agent.id().into())
            });
        }
        agent
    }

    /// Starts any command that is to end with the test, its output in files.
    pub fn spawn(&self, command: &mut Command) -> Kumon {
        let output = |name: &str| {
            let numbered = (0..).map(|number| self.path(&format!("{name}.{number}")));
            let path = numbered.into_iter().find(|path| !path.exists()).unwrap();
            (File::create(&path).unwrap(), path)
        };
        let ((out, stdout), (err, stderr)) = (output("stdout"), output("stderr"));
        let child = Child::spawn(command.stdin(Stdio::null()).stdout(out).stderr(err));
        Kumon { child, stdout, stderr }
    }

    /// The status file of a side (`collect`, `ship`), null when there is none.
    pub fn status_file(&self, side: &str) -> Value {
        let text = fs::read(self.state().join(side).join("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// `kumon query` as JSON: the rows, newest first; none when nothing matches.
    ///
    /// # Panics
    /// When it fails otherwise.
    pub fn rows(&self, metric: &str, query: &str) -> Vec<Value> {
        let ended = self.run(&["query", metric, query, "--format", "json"]);
        assert!(
            ended.code == Some(0) || ended.stderr.contains("no match"),
            "query {metric} {query}: {ended:?}"
        );
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs `/bin/true` under a name, `count` times: a row of exec and one of exit each.
    pub fn mark(&self, name: &str, count: usize) {
        for _ in 0..count {
            mark(&self.path(""), OsStr::new(name), &[]);
        }
    }

    /// Waits until `kumon status` says all of `parts` and exits with `code`.
    pub fn wait_for_status(&self, code: i32, parts: &[&str]) {
        wait_for(&format!("the status to be {code} and say {parts:?}"), PATIENCE, || {
            let status = self.run(&["status"]);
            status.code == Some(code) && parts.iter().all(|part| status.stdout.contains(part))
        });
    }

    /// The spool's files of a metric, oldest first.
    pub fn files(&self, metric: &str) -> Vec<PathBuf> {
        files(&self.spool().join(metric), "csv")
    }
}

impl Ended {
    /// Fails unless it ended with `code` and says all of `parts` on standard error.
    pub fn expect(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "'{part}' is missing in: {}", self.stderr);
        }
    }
}

impl Kumon {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap()).into_owned()
    }

    /// What it wrote to standard error so far: its log.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Waits until its log has all of `parts`.
    pub fn wait_for_log(&self, parts: &[&str]) {
        let missing = |log: &str| parts.iter().find(|part| !log.contains(**part)).copied();
        let start = std::time::Instant::now();
        while let Some(part) = missing(&self.stderr()) {
            assert!(start.elapsed() < PATIENCE, "'{part}' is missing in: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let status = self.child.wait(PATIENCE);
        self.ended(status)
    }

    /// Sends `signal` and waits for its end, at most `limit`.
    pub fn stop(mut self, signal: Signal, limit: Duration) -> Ended {
        self.signal(signal);
        let status = self.child.wait(limit);
        self.ended(status)
    }

    /// SIGTERM, and its end.
    pub fn terminate(self) -> Ended {
        self.stop(Signal::TERM, PATIENCE)
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
    }

    fn ended(&self, status: ExitStatus) -> Ended {
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

/// The binary, without the variables of whoever runs the tests.
pub fn kumon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kumon"));
    clean(&mut command);
    command
}

/// Runs as nobody, with a copy of the binary that nobody may run.
pub fn as_nobody(node: &Node, arguments: &[&str]) -> Command {
    as_nobody_with(node, "-all", arguments)
}

/// The same with capabilities, such as `+bpf,+perfmon`.
pub fn as_nobody_with(node: &Node, capabilities: &str, arguments: &[&str]) -> Command {
    let binary = node.path("kumon");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_kumon"), &binary).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities, "--"]);
    command.arg(binary).arg("--config").arg(node.config()).args(arguments);
    clean(&mut command);
    command
}

/// Takes the variables that would configure KuMon away from a command.
pub fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"KUMON_") {
            command.env_remove(name);
        }
    }
}

/// Runs `/bin/true` under the name `name` with `arguments`: what a row of exec and one of exit tell about.
pub fn mark(folder: &Path, name: &OsStr, arguments: &[&OsStr]) {
    let program = folder.join(name);
    if !program.exists() {
        std::os::unix::fs::symlink("/bin/true", &program).unwrap();
    }
    let ended = Command::new(&program).arg0(name).args(arguments).status().unwrap();
    assert!(ended.success(), "{program:?}: {ended}");
}

/// The files of a folder with this extension, ordered by name; none where there is no folder.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

/// A CSV file's records as an independent reader gives them, header first.
pub fn records(path: &Path) -> Vec<Vec<String>> {
    let bytes = fs::read(path).unwrap();
    let (mut reader, mut rest) = (csv_core::Reader::new(), &bytes[..]);
    let (mut fields, mut ends) = (vec![0; 1 << 20], [0; 256]);
    let mut records = Vec::new();
    loop {
        let (result, read, _, count) = reader.read_record(rest, &mut fields, &mut ends);
        if !matches!(result, csv_core::ReadRecordResult::Record) {
            return records;
        }
        let starts = std::iter::once(0).chain(ends);
        let field = |(start, end)| String::from_utf8(fields[start..end].to_vec()).unwrap();
        records.push(starts.zip(ends).take(count).map(field).collect());
        rest = &rest[read..];
    }
}

/// The rows of CSV files, by column.
pub fn rows(paths: &[PathBuf]) -> Vec<HashMap<String, String>> {
    let mut rows = Vec::new();
    for path in paths {
        let mut records = records(path).into_iter();
        let header = records.next().unwrap();
        for record in records {
            assert_eq!(record.len(), header.len(), "{}: {record:?}", path.display());
            rows.push(header.iter().cloned().zip(record).collect());
        }
    }
    rows
}
