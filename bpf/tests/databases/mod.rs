//! Real database servers for the tests, each with a folder and socket of its own, as an unprivileged user.

// Each test file uses its part of it, and a failure here is a failed test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod session;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use kumon_testing::{Child, require, require_bpf, require_program, wait_for};
use rustix::process::Signal;
use tempfile::TempDir;

pub use session::Session;

/// The user `nobody`, as whom both servers are content to run.
pub const NOBODY: u32 = 65_534;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    /// In a root folder of its own, as in a container.
    MySql,
    PostgreSql,
}

/// A running server, killed and removed when dropped.
pub struct Database {
    pub kind: Kind,
    server: Child,
    folder: TempDir,
}

/// The kinds of servers that a test of dbslower can run with.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::MariaDb, Kind::MySql, Kind::PostgreSql];
    kinds.retain(|kind| require_bpf() && kind.required());
    kinds
}

impl Kind {
    /// As the column `database` names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadb",
            Kind::MySql => "mysql",
            Kind::PostgreSql => "postgresql",
        }
    }

    /// The name of the server's process.
    pub fn process(self) -> &'static str {
        match self {
            Kind::MariaDb => "mariadbd",
            Kind::MySql => "mysqld",
            Kind::PostgreSql => "postgres",
        }
    }

    /// Whether the server is installed.
    pub fn required(self) -> bool {
        match self {
            Kind::MariaDb => require_program("mariadbd") && require_program("mariadb"),
            // The clients are MariaDB's.
            Kind::MySql => Kind::MariaDb.required() && require(mysql().join("complete").exists(), "MySQL"),
            Kind::PostgreSql => require(postgresql().is_some(), "postgresql"),
        }
    }
}

impl Database {
    /// Starts a server and returns once it answers.
    pub fn start(kind: Kind) -> Database {
        match kind {
            Kind::MariaDb => Database::start_with(kind, |folder| start_mariadb(folder, mariadbd())),
            Kind::MySql => Database::start_with(kind, start_mysql),
            Kind::PostgreSql => Database::start_with(kind, start_postgresql),
        }
    }

    /// The server of this kind that the tests of a file share: starting one takes most of a test's time.
    pub fn shared(kind: Kind) -> &'static Database {
        static SHARED: [OnceLock<Database>; 3] = [const { OnceLock::new() }; 3];
        SHARED[kind as usize].get_or_init(|| {
            let database = Database::start(kind);
            database.end_with_this_process();
            database
        })
    }

    /// Nothing drops what is static: a process that waits for the end of this one, however it ends, does it.
    fn end_with_this_process(&self) {
        let script = "read line; kill -QUIT $0; while kill -0 $0 2>&-; do sleep 0.1; done; rm -r \"$1\"";
        let mut guardian = Command::new("sh");
        guardian.args(["-c", script, &self.id().to_string()]).arg(self.folder.path());
        let guardian = guardian.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        std::mem::forget(guardian.unwrap());
    }

    /// Starts MariaDB from an executable that nobody outside its mount namespace can see.
    pub fn start_mariadb_contained() -> Database {
        Database::start_with(Kind::MariaDb, |folder| {
            let script = format!(
                "mount -t tmpfs contained /mnt && cp /usr/sbin/mariadbd /mnt/ && \
                 exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups /mnt/mariadbd \"$@\""
            );
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "--propagation=private", "sh", "-c", &script, "sh"]);
            start_mariadb(folder, unshare)
        })
    }

    /// Starts MariaDB by a path that `make` makes in a folder which holds a copy of its executable, `mariadbd`.
    pub fn start_mariadb_by(make: impl Fn(&Path) -> PathBuf) -> Database {
        Database::start_with(Kind::MariaDb, |folder| {
            std::fs::copy("/usr/sbin/mariadbd", folder.join("mariadbd")).unwrap();
            start_mariadb(folder, unprivileged(make(folder)))
        })
    }

    fn start_with(kind: Kind, start: impl FnOnce(&Path) -> Child) -> Database {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let database = Database { kind, server: start(folder.path()), folder };
        let answers = || database.client("SELECT 1").output().unwrap().status.success();
        wait_for("the database server to answer", Duration::from_secs(60), answers);
        database
    }

    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// A comment that tells this server's statements from those of others on the machine.
    pub fn mark(&self) -> String {
        format!("/* {} */", self.folder.path().file_name().unwrap().display())
    }

    /// A marked statement that takes `seconds`, which may be a parameter.
    pub fn sleep(&self, seconds: impl std::fmt::Display) -> String {
        let function = if self.kind == Kind::PostgreSql { "pg_sleep" } else { "SLEEP" };
        format!("SELECT {} {function}({seconds})", self.mark())
    }

    /// A client that runs `sql` and prints the bare result.
    pub fn client(&self, sql: &str) -> Command {
        let mut client = self.connection();
        let option = if self.kind == Kind::PostgreSql { "--command" } else { "--execute" };
        client.args([option, sql]).stdin(Stdio::null());
        client
    }

    /// Runs `sql` and returns what it printed.
    pub fn query(&self, sql: &str) -> String {
        text(self.client(sql).output().unwrap())
    }

    /// Runs statements one after the other over one connection.
    pub fn script(&self, statements: &str) {
        let file = self.folder.path().join("script.sql");
        std::fs::write(&file, statements).unwrap();
        let script = File::open(&file).unwrap();
        let status = self.connection().stdin(script).stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
    }

    /// A connection that stays.
    pub fn session(&self) -> Session {
        let mut client = self.connection();
        if self.kind != Kind::PostgreSql {
            client.arg("--unbuffered");
        }
        Session::start(client)
    }

    fn connection(&self) -> Command {
        let folder = self.folder.path();
        let mut client = match self.kind {
            Kind::MariaDb | Kind::MySql => {
                let mut client = Command::new("mariadb");
                client.args(["--no-defaults", "--user=root", "--skip-column-names", "--comments"]);
                client.arg(option("--socket", &folder.join("socket")));
                client
            }
            Kind::PostgreSql => {
                let mut client = Command::new(postgresql().unwrap().join("psql"));
                client.args(["--no-psqlrc", "--username=postgres", "--dbname=postgres"]);
                client.args(["--tuples-only", "--no-align"]).arg(option("--host", folder));
                client
            }
        };
        client.stdout(Stdio::piped()).stderr(Stdio::piped());
        client
    }

    /// Prepares `sql`, whose only parameter is a number of seconds, and executes it by the binary protocol of
    /// MariaDB and MySQL or the extended one of PostgreSQL.
    pub fn execute_prepared(&self, sql: &str, seconds: f64) {
        let mut client = match self.kind {
            Kind::MariaDb | Kind::MySql => {
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

    /// Kills the server as the kernel would when memory runs out, and removes what it could not.
    pub fn kill(mut self) {
        let pid_file = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
        self.server.kill().unwrap();
        // PostgreSQL's lock on its data is a piece of shared memory, whose id the file's seventh line ends with.
        if let Ok(text) = pid_file {
            let id = text.lines().nth(6).unwrap().split_whitespace().next_back().unwrap();
            Command::new("ipcrm").args(["--shmem-id", id]).status().unwrap();
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // PostgreSQL removes its shared memory when it is asked to end at once; MariaDB has none.
        let runs = matches!(self.server.inner().try_wait(), Ok(None));
        if runs && self.kind == Kind::PostgreSql {
            self.server.signal(Signal::QUIT);
            self.server.wait(Duration::from_secs(20));
        }
    }
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Starts MariaDB by a command that takes the server's options.
fn start_mariadb(folder: &Path, mut server: Command) -> Child {
    let data = new_data(folder, Path::new("/usr/sbin/mariadbd"), |data| {
        let mut install = unprivileged("mariadb-install-db");
        install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        install.arg(option("--datadir", data));
        install
    });
    server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
    server.arg(option("--datadir", &data)).arg(option("--socket", &folder.join("socket")));
    Child::spawn(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// The folder `data` in `folder`, as `install` makes it for this server. Making one takes longer than all that a test
/// does with it; it is kept for the servers to come.
fn new_data(folder: &Path, server: &Path, install: impl FnOnce(&Path) -> Command) -> PathBuf {
    let executable = std::fs::metadata(server).unwrap();
    let name = server.file_name().unwrap().display();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "{name}-{}-{}",
        executable.len(),
        executable.mtime()
    ));
    let data = folder.join("data");
    if kept.exists() {
        copy(&kept, &data);
    } else {
        text(install(&data).output().unwrap());
        // Others may be at it as well: what has the name is whole.
        let new = match tempfile::tempdir_in(kept.parent().unwrap()) {
            // On other kernels (scripts/second-kernel) the target folder can't be written to.
            Err(e) if e.kind() == std::io::ErrorKind::ReadOnlyFilesystem => return data,
            new => new.unwrap(),
        };
        copy(&data, &new.path().join("data"));
        let first = std::fs::rename(new.path().join("data"), &kept);
        assert!(first.is_ok() || kept.exists(), "{first:?}");
    }
    data
}

fn copy(from: &Path, to: &Path) {
    text(Command::new("cp").arg("--archive").args([from, to]).output().unwrap());
}

fn mariadbd() -> Command {
    unprivileged("/usr/sbin/mariadbd")
}

fn start_mysql(folder: &Path) -> Child {
    copy(&mysql().join("srv/data"), folder);
    let script = format!(
        "mount --bind \"$1\" \"$0/srv\" && exec chroot --userspec={NOBODY}:{NOBODY} \"$0\" /usr/sbin/mysqld \
         --no-defaults --datadir=/srv/data --socket=/srv/socket --tmpdir=/srv --secure-file-priv= \
         --skip-networking --mysqlx=OFF --skip-log-bin --innodb-flush-log-at-trx-commit=0 \
         --innodb-redo-log-capacity=8M --innodb-buffer-pool-size=32M"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation=private", "sh", "-c", &script]).arg(mysql()).arg(folder);
    Child::spawn(unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// The root folder that scripts/setup puts MySQL into.
fn mysql() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/mysql")
}

fn start_postgresql(folder: &Path) -> Child {
    let programs = postgresql().unwrap();
    let data = new_data(folder, &programs.join("postgres"), |data| {
        let mut init = unprivileged(programs.join("initdb"));
        init.args(["--username=postgres", "--auth=trust", "--no-sync"]).arg(option("--pgdata", data));
        init
    });
    let mut server = unprivileged(programs.join("postgres"));
    server.arg("-D").arg(data).arg("-k").arg(folder).args(["-c", "listen_addresses="]);
    // The kind that is in its folder, which is removed also after it was killed.
    server.args(["-c", "dynamic_shared_memory_type=mmap"]);
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
