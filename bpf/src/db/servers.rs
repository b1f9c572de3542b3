//! Finds the database servers that run, attaches the programs to them, and detaches when they are gone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libbpf_rs::{Link, ProgramMut, UprobeOpts};

use super::NAME;
use super::executable::{self, Executable};
use super::skeleton::DbProgs;

/// File names of servers' executables; mysqld is MySQL's, and MariaDB's before 10.5.
pub(super) const NAMES: [&str; 4] = ["mariadbd", "mysqld", "postgres", "postmaster"];

/// How often it is looked whether a server still runs. A new one is told by the kernel.
const CHECK: Duration = Duration::from_secs(2);

/// Which file it is, whatever path leads to it, in containers too.
type FileId = (u64, u64);

/// The servers' executables that are known and what is attached to them.
#[derive(Default)]
pub(super) struct Servers {
    known: HashMap<FileId, Server>,
    /// The kernel's count of started servers when it was last looked for them.
    started: Option<u64>,
    checked: Option<Instant>,
    /// Whether it was said that a server can't be followed for want of a capability.
    warned: bool,
}

/// An executable that runs. One that could not be attached has no links; it is not tried again while it runs.
struct Server {
    path: PathBuf,
    processes: HashSet<u32>,
    /// Dropping them detaches.
    _links: Vec<Link>,
}

impl Servers {
    /// Looks for servers when one was started since the last time (`started` counts them), and whether the known
    /// ones still run every two seconds.
    pub(super) fn update(&mut self, started: u64, now: Instant, programs: &DbProgs<'_>) {
        let due = self.checked.is_none_or(|checked| now.duration_since(checked) >= CHECK);
        if due {
            self.checked = Some(now);
        }
        let gone = due && self.known.iter().any(|(file, server)| !server.runs(*file));
        if gone || self.started != Some(started) {
            self.started = Some(started);
            self.scan(programs);
        }
    }

    /// Detaches from all.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    fn scan(&mut self, programs: &DbProgs<'_>) {
        let found = self.running();
        // Only while one of its processes runs a file surely stays the same to the kernel: file systems such as 9p
        // make another inode of it for the next, with the same number.
        self.known.retain(|file, server| {
            let runs = found.get(file).is_some_and(|(_, running)| !running.is_disjoint(&server.processes));
            if !runs {
                log::info!("{NAME}: the last process of {} is gone", server.path.display());
            }
            runs
        });
        for (file, (path, processes)) in found {
            if let Some(server) = self.known.get_mut(&file) {
                server.processes = processes;
                continue;
            }
            let Some(&process) = processes.iter().next() else { continue };
            // What leads to the file itself, whatever its path in the server's mount namespace.
            let links = match attach(&exe(process), programs) {
                Ok(links) => {
                    log::info!("{NAME}: follows the statements of {} (process {process})", path.display());
                    links
                }
                // It ended meanwhile, as those do that set up a server's files; others may run.
                Err(_) if file_id(process) != Some(file) => {
                    self.started = None;
                    continue;
                }
                Err(why) => {
                    log::warn!(
                        "{NAME}: statements of {} (process {process}) are not seen: {why}",
                        path.display()
                    );
                    Vec::new()
                }
            };
            self.known.insert(file, Server { path, processes, _links: links });
        }
    }

    /// The executables of servers that have processes now.
    fn running(&mut self) -> HashMap<FileId, (PathBuf, HashSet<u32>)> {
        let mut found: HashMap<FileId, (PathBuf, HashSet<u32>)> = HashMap::new();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            match fs::read_link(exe(process)) {
                Ok(path) if is_server(&path) => {
                    // A process may end between the two looks.
                    let Some(file) = file_id(process) else { continue };
                    found.entry(file).or_insert_with(|| (path, HashSet::new())).1.insert(process);
                }
                Err(e)
                    if e.kind() == io::ErrorKind::PermissionDenied && !self.warned && is_named(process) =>
                {
                    self.warned = true;
                    log::warn!(
                        "{NAME}: the server with the process id {process} can't be followed, because \
                         /proc/{process}/exe can't be read ({e}): run as root or with CAP_SYS_PTRACE"
                    );
                }
                _ => {}
            }
        }
        found
    }
}

impl Server {
    /// Whether one of the processes that were seen is still there.
    fn runs(&self, file: FileId) -> bool {
        self.processes.iter().any(|process| file_id(*process) == Some(file))
    }
}

/// Attaches the programs for the server whose executable is at `path`.
fn attach(path: &Path, programs: &DbProgs<'_>) -> Result<Vec<Link>, String> {
    let file = executable::open(path).map_err(|e| format!("opening its executable: {e}"))?;
    let executable = Executable::read(&file)?;
    let uprobe = |program: &ProgramMut<'_>, function: &str, cookie| {
        let options = UprobeOpts { cookie, ..UprobeOpts::default() };
        const EVERY_PROCESS: i32 = -1;
        program
            .attach_uprobe_with_opts(EVERY_PROCESS, path, executable.function(function)?, options)
            .map_err(|e| format!("attaching to its function {function}: {e}"))
    };
    if executable.function("pgstat_report_activity").is_ok() {
        return Ok(vec![
            uprobe(&programs.postgres_activity, "pgstat_report_activity", 0)?,
            uprobe(&programs.postgres_done, "EndCommand", 0)?,
            uprobe(&programs.postgres_done, "AbortCurrentTransaction", 0)?,
        ]);
    }
    // MySQL 8.0 and later; before, the text was handed over by reference.
    const SET_QUERY: &str = "_ZN3THD9set_queryE17MYSQL_LEX_CSTRING";
    if executable.function(SET_QUERY).is_ok() {
        return Ok(vec![
            uprobe(&programs.mysql_text, SET_QUERY, 0)?,
            uprobe(&programs.mysql_command, "_ZN3THD11set_commandE19enum_server_command", 0)?,
        ]);
    }
    const DISPATCH: &str = "_Z16dispatch_command19enum_server_commandP3THDPc";
    if executable.function(DISPATCH).is_err() {
        return Err("it is neither a PostgreSQL nor a MariaDB server, nor MySQL 8.0 or later".to_owned());
    }
    let query_offset = executable.query_offset()?;
    Ok(vec![
        uprobe(&programs.mariadb_begin, DISPATCH, 0)?,
        uprobe(&programs.mariadb_end, "_ZN3THD16update_all_statsEv", query_offset)?,
    ])
}

fn exe(process: u32) -> PathBuf {
    format!("/proc/{process}/exe").into()
}

fn file_id(process: u32) -> Option<FileId> {
    fs::metadata(exe(process)).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Whether a process has a server's name, which everybody may read.
fn is_named(process: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    NAMES.contains(&name.trim_end())
}

/// An executable that was replaced by an update while it runs has ` (deleted)` behind its path.
fn is_server(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    NAMES.contains(&name.strip_suffix(" (deleted)").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::is_server;

    #[test]
    fn servers_are_known_by_the_name_of_their_executable() {
        for path in ["/usr/sbin/mariadbd", "/usr/lib/postgresql/15/bin/postgres", "/sbin/mysqld (deleted)"] {
            assert!(is_server(Path::new(path)), "{path}");
        }
        for path in ["/usr/bin/mariadb", "/usr/bin/psql", "/usr/sbin/mysqld_exporter", "/"] {
            assert!(!is_server(Path::new(path)), "{path}");
        }
    }
}
