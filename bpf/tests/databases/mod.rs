//! Real database servers for the tests, each with a folder and socket of its own, as an unprivileged user.

// Each test file uses its part of it, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kumon_testing::{Child, require, require_program, wait_for};
use rustix::process::Signal;
use tempfile::TempDir;

/// The user `nobody`, as whom both servers are content to run.
const NOBODY: u32 = 65_534;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    PostgreSql,
}

/// A running server, killed and removed when dropped.
pub struct Database {
    pub kind: Kind,
    server: Child,
    folder: TempDir,
}

impl Kind {
    /// As the column `database` names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb",
            Kind::PostgreSql => "postgresql",
        }
    }

    /// Whether the server is installed.
    pub fn required(self) -> bool {
        match self {
            Kind::MariaDb => require_program("mariadbd") && require_program("mariadb"),
            Kind::PostgreSql => require(postgresql().is_some(), "postgresql"),
        }
    }

    /// A statement that takes `seconds`.
    pub fn sleep(self, seconds: f64) -> String {
        match self {
            Kind::MariaDb => format!("SELECT SLEEP({seconds})"),
            Kind::PostgreSql => format!("SELECT pg_sleep({seconds})"),
        }
    }
}

impl Database {
    /// Starts a server and returns once it answers.
    pub fn start(kind: Kind) -> Database {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let data = folder.path().join("data");
        let server = match kind {
            Kind::MariaDb => start_mariadb(folder.path(), &data),
            Kind::PostgreSql => start_postgresql(folder.path(), &data),
        };
        let database = Database { kind, server, folder };
        let answers = || database.client("SELECT 1").output().unwrap().status.success();
        wait_for("the database server to answer", Duration::from_secs(60), answers);
        database
    }

    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// A client that runs `sql`; a script of several statements sends them one by one.
    pub fn client(&self, sql: &str) -> Command {
        let mut client = match self.kind {
            Kind::MariaDb => {
                let mut client = Command::new("mariadb");
                client.args(["--no-defaults", "--user=root", "--skip-column-names", "--socket"]);
                client.arg(self.folder.path().join("socket"));
                client.args(["--execute", sql]);
                client
            }
            Kind::PostgreSql => {
                let mut client = Command::new(postgresql().unwrap().join("psql"));
                client.args(["--no-psqlrc", "--username=postgres", "--tuples-only", "--no-align"]);
                client.arg("--host").arg(self.folder.path()).args(["--command", sql, "postgres"]);
                client
            }
        };
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    }

    /// Runs `sql` and returns what it printed.
    pub fn query(&self, sql: &str) -> String {
        let output = self.client(sql).output().unwrap();
        text(output)
    }

    /// Runs a file of statements, one after the other over one connection.
    pub fn script(&self, statements: &str) {
        let file = self.folder.path().join("script.sql");
        std::fs::write(&file, statements).unwrap();
        let mut client = self.client("");
        // The last --command or --execute is the empty one.
        let mut script = Command::new(client.get_program());
        let skipped = ["--execute", "--command", ""];
        script.args(client.get_args().filter(|arg| !skipped.iter().any(|skip| arg == skip)));
        script.stdin(std::fs::File::open(&file).unwrap()).stdout(Stdio::null());
        assert!(script.status().unwrap().success());
        client.stdin(Stdio::null());
    }

    /// Prepares `sql`, whose only parameter is a number of seconds, and executes it by the binary protocol of
    /// MariaDB or the extended one of PostgreSQL.
    pub fn execute_prepared(&self, sql: &str, seconds: f64) {
        let mut client = match self.kind {
            Kind::MariaDb => {
                let source = format!(
                    "DBI:MariaDB:mariadb_socket={};mariadb_server_prepare=1",
                    self.folder.path().join("socket").display()
                );
                let program = "use DBI; my $db = DBI->connect($ARGV[0], 'root', '', {RaiseError => 1}); \
                               my $statement = $db->prepare($ARGV[1]); \
                               $statement->bind_param(1, $ARGV[2], DBI::SQL_DOUBLE); \
                               $statement->execute; $statement->fetchall_arrayref;";
                let mut perl = Command::new("perl");
                perl.args(["-e", program, &source, sql, &seconds.to_string()]);
                perl
            }
            Kind::PostgreSql => {
                let script = self.folder.path().join("pgbench.sql");
                let sql = sql.replace('?', ":seconds");
                std::fs::write(&script, format!("{sql};\n")).unwrap();
                let mut pgbench = Command::new(postgresql().unwrap().join("pgbench"));
                pgbench.args([
                    "--no-vacuum",
                    "--protocol=prepared",
                    "--transactions=1",
                    "--username=postgres",
                ]);
                pgbench.arg(format!("--define=seconds={seconds}")).arg("--host").arg(self.folder.path());
                pgbench.arg("--file").arg(&script).arg("postgres");
                pgbench
            }
        };
        text(client.output().unwrap());
    }

    /// Kills the server as the kernel would when memory runs out, and waits for the end of all its processes.
    pub fn kill(mut self) {
        self.server.kill().unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // PostgreSQL removes its shared memory when it is asked to end at once; MariaDB has none.
        if self.kind == Kind::PostgreSql {
            self.server.signal(Signal::QUIT);
            self.server.wait(Duration::from_secs(20));
        }
    }
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn start_mariadb(folder: &Path, data: &Path) -> Child {
    let mut install = unprivileged("mariadb-install-db");
    install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    install.arg(option("--datadir", data));
    text(install.output().unwrap());
    let mut server = unprivileged("/usr/sbin/mariadbd");
    server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
    server.arg(option("--datadir", data)).arg(option("--socket", &folder.join("socket")));
    Child::spawn(server.stdout(Stdio::null()).stderr(Stdio::null()))
}

fn start_postgresql(folder: &Path, data: &Path) -> Child {
    let programs = postgresql().unwrap();
    let mut init = unprivileged(programs.join("initdb"));
    init.args(["--username=postgres", "--auth=trust", "--no-sync", "--pgdata"]).arg(data);
    text(init.output().unwrap());
    let mut server = unprivileged(programs.join("postgres"));
    server.arg("-D").arg(data).arg("-k").arg(folder).args(["-c", "listen_addresses="]);
    Child::spawn(server.stdout(Stdio::null()).stderr(Stdio::null()))
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null());
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Where Debian keeps the newest PostgreSQL's programs.
fn postgresql() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    programs.filter(|programs| programs.join("postgres").exists()).max()
}
