//! Attaches the programs to a server's executable.

use std::path::Path;

use libbpf_rs::{Link, ProgramMut, UprobeOpts};

use super::executable::{self, Executable};
use super::skeleton::DbProgs;

/// Why the statements of a server are not seen.
pub(super) enum Obstacle {
    /// What its executable is, which stays.
    Lasting(String),
    /// What the kernel or a file system refused, which may pass: descriptors or memory that run short, a tracer at the same
    /// place that asked for a reference counter.
    Passing(String),
}

/// What tells the servers apart: functions that each exports and no other program does.
const POSTGRESQL: &str = "pgstat_report_activity";
/// MySQL 8.0 and later; before, the text was handed over by reference.
const SET_QUERY: &str = "_ZN3THD9set_queryE17MYSQL_LEX_CSTRING";
const DISPATCH: &str = "_Z16dispatch_command19enum_server_commandP3THDPc";

/// Whether the executable at `path` is a server's, whatever it is called.
pub(super) fn is_server(path: &Path) -> bool {
    let Ok(file) = executable::open(path) else { return false };
    let Ok(executable) = Executable::read(&file) else { return false };
    [POSTGRESQL, SET_QUERY, DISPATCH].iter().any(|function| executable.function(function).is_ok())
}

/// Attaches the programs for the server whose executable is at `path`. What is returned detaches when it is dropped.
pub(super) fn attach(path: &Path, programs: &DbProgs<'_>) -> Result<Vec<Link>, Obstacle> {
    let file =
        executable::open(path).map_err(|e| Obstacle::Passing(format!("opening its executable: {e}")))?;
    let executable = Executable::read(&file)?;
    let uprobe = |program: &ProgramMut<'_>, function: &str, place: usize, cookie| {
        let options = UprobeOpts { cookie, ..UprobeOpts::default() };
        const EVERY_PROCESS: i32 = -1;
        program
            .attach_uprobe_with_opts(EVERY_PROCESS, path, place, options)
            .map_err(|e| Obstacle::Passing(format!("attaching to its function {function}: {e:#}")))
    };
    let at = |program: &ProgramMut<'_>, function: &str| {
        uprobe(program, function, executable.function(function)?, 0)
    };
    if executable.function(POSTGRESQL).is_ok() {
        return Ok(vec![
            at(&programs.postgres_activity, POSTGRESQL)?,
            at(&programs.postgres_done, "EndCommand")?,
            at(&programs.postgres_done, "AbortCurrentTransaction")?,
            at(&programs.postgres_commit, "CommitTransactionCommand")?,
            at(&programs.postgres_worker, "StartParallelWorkerTransaction")?,
            at(&programs.postgres_exit, "AbortOutOfAnyTransaction")?,
        ]);
    }
    if executable.function(SET_QUERY).is_ok() {
        return Ok(vec![
            at(&programs.mysql_text, SET_QUERY)?,
            at(&programs.mysql_command, "_ZN3THD11set_commandE19enum_server_command")?,
        ]);
    }
    const UPDATE_ALL_STATS: &str = "_ZN3THD16update_all_statsEv";
    if executable.function(DISPATCH).is_err() {
        let why = "it is neither a PostgreSQL nor a MariaDB server, nor MySQL 8.0 or later";
        return Err(Obstacle::Lasting(why.to_owned()));
    }
    let query_offset = executable.query_offset()?;
    Ok(vec![
        // The kernel has one reference counter for each place with probes, and refuses whoever asks for another one. At
        // this function's beginning stands bcc's dbslower, which asks for a random one (bcc's issue 5236).
        uprobe(&programs.mariadb_begin, DISPATCH, executable.behind_entry(DISPATCH)?, 0)?,
        uprobe(
            &programs.mariadb_end,
            UPDATE_ALL_STATS,
            executable.function(UPDATE_ALL_STATS)?,
            query_offset,
        )?,
    ])
}
