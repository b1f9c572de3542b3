//! Finds the database servers that run, and lets go of those that are gone.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::NAME;
use super::probes;
use super::server::Server;
use super::skeleton::DbProgs;

/// File names of servers' executables; mysqld is MySQL's, and MariaDB's before 10.5.
pub(super) const NAMES: [&str; 4] = ["mariadbd", "mysqld", "postgres", "postmaster"];

/// How often it is looked whether a server still runs. A new one is told by the kernel.
const CHECK: Duration = Duration::from_secs(2);

/// When it is first looked into executables with other names, whether they are a server's: not while everything starts …
const FIRST_CHECK_OF_OTHERS: Duration = Duration::from_secs(2);
/// … and how often from then on.
const CHECK_OTHERS: Duration = Duration::from_secs(60);
/// No server is smaller, and most other programs are.
const SERVER_BYTES: u64 = 1 << 20;

/// Which file it is, whatever path leads to it, in containers too.
pub(super) type FileId = (u64, u64);

/// The servers' executables that are known and what is attached to them.
#[derive(Default)]
pub(super) struct Servers {
    known: HashMap<FileId, Server>,
    /// The kernel's count of started servers when it was last looked for them.
    started: Option<u64>,
    checked: Option<Instant>,
    /// Executables with other names that run, and whether they are a server's; when it is looked again.
    others: HashMap<FileId, bool>,
    others_due: Option<Instant>,
    /// Whether it was said that a server can't be followed for want of a capability.
    warned: bool,
    /// Whether it was said that servers can't be looked for, since that last succeeded.
    unlisted: bool,
}

impl Servers {
    /// Looks for servers when one was started since the last time (`started` counts them) or could not be attached and is
    /// to be tried again, and whether the known ones still run every two seconds.
    pub(super) fn update(&mut self, started: u64, now: Instant, programs: &DbProgs<'_>) {
        let due = self.checked.is_none_or(|checked| now.duration_since(checked) >= CHECK);
        if due {
            self.checked = Some(now);
        }
        let gone = due && self.known.iter().any(|(file, server)| !server.runs(*file));
        let again = self.known.values().any(|server| server.is_due(now));
        let others = now >= *self.others_due.get_or_insert(now + FIRST_CHECK_OF_OTHERS);
        if others {
            self.others_due = Some(now + CHECK_OTHERS);
            self.check_others();
        }
        if gone || again || others || self.started != Some(started) {
            self.started = Some(started);
            self.scan(now, programs);
        }
    }

    /// Detaches from all.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    fn scan(&mut self, now: Instant, programs: &DbProgs<'_>) {
        let found = match self.running() {
            Ok(found) => found,
            Err(e) => {
                // Without a free descriptor, perhaps. The next poll looks anew.
                self.started = None;
                if !std::mem::replace(&mut self.unlisted, true) {
                    log::warn!(
                        "{NAME}: can't look for database servers: listing /proc: {e}; it is tried again"
                    );
                }
                return;
            }
        };
        self.unlisted = false;
        // Only while one of its processes runs a file surely stays the same to the kernel: file systems such as 9p
        // make another inode of it for the next, with the same number.
        self.known.retain(|file, server| {
            let runs = found.get(file).is_some_and(|(_, running)| !running.is_disjoint(&server.processes));
            if !runs {
                server.say_gone();
            }
            runs
        });
        for (file, (path, processes)) in found {
            let server = self.known.entry(file).or_insert_with(|| Server::new(path, now));
            server.processes = processes;
            if server.is_due(now) {
                server.follow(file, now, programs);
            }
        }
    }

    /// Looks into the executables that run under other names than servers usually have and are not known yet.
    fn check_others(&mut self) {
        let mut others = HashMap::new();
        // Where it fails, the scan for servers says so.
        for process in processes().into_iter().flatten() {
            let Ok(metadata) = fs::metadata(exe(process)) else { continue };
            let file = (metadata.dev(), metadata.ino());
            let is_new = || metadata.len() >= SERVER_BYTES && probes::is_server(&exe(process));
            let known = self.others.get(&file).copied();
            others.entry(file).or_insert_with(|| known.unwrap_or_else(is_new));
        }
        self.others = others;
    }

    /// The executables of servers that have processes now.
    fn running(&mut self) -> io::Result<HashMap<FileId, (PathBuf, BTreeSet<u32>)>> {
        let mut found: HashMap<FileId, (PathBuf, BTreeSet<u32>)> = HashMap::new();
        let any_other = self.others.values().any(|is_server| *is_server);
        for process in processes()? {
            match fs::read_link(exe(process)) {
                Ok(path) if is_server(&path) || any_other => {
                    // A process may end between the two looks.
                    let Some(file) = file_id(process) else { continue };
                    if !is_server(&path) && self.others.get(&file) != Some(&true) {
                        continue;
                    }
                    found.entry(file).or_insert_with(|| (path, BTreeSet::new())).1.insert(process);
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
        Ok(found)
    }
}

/// The ids of the processes there are.
fn processes() -> io::Result<Vec<u32>> {
    let names = fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// What leads to the file that a process runs, whatever its path in the process's mount namespace.
pub(super) fn exe(process: u32) -> PathBuf {
    format!("/proc/{process}/exe").into()
}

pub(super) fn file_id(process: u32) -> Option<FileId> {
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
