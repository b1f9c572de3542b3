//! From the events of process.bpf.c to rows.

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::rows;

use super::mask;
use super::skeleton::types::{self, way};
use crate::active::EventRows;
use crate::{events, path};

/// Makes the rows of exec and exit.
pub(super) struct Rows {
    /// Whether secrets in arguments are masked.
    pub(super) mask: bool,
}

impl EventRows for Rows {
    fn emit(&mut self, event: &[u8], context: &mut PollContext<'_>) {
        // SAFETY: the types are integers and arrays of them.
        unsafe {
            match events::read::<types::metric>(event) {
                Some(types::metric::METRIC_EXEC) => {
                    if let Some(exec) = events::read::<types::exec_event>(event) {
                        self.exec(&exec, &event[size_of::<types::exec_event>()..], context);
                    }
                }
                Some(types::metric::METRIC_EXIT) => {
                    if let Some(exit) = events::read::<types::exit_event>(event) {
                        emit_exit(&exit, context);
                    }
                }
                _ => {}
            }
        }
    }
}

impl Rows {
    fn exec(&mut self, event: &types::exec_event, text: &[u8], context: &mut PollContext<'_>) {
        let process = &event.process;
        let (filename, text) = split(text, event.filename_bytes);
        let (names, text) = split(text, event.names_bytes);
        let (args, _) = split(text, event.args_bytes);
        let filename = filename.strip_suffix(b"\0").unwrap_or(filename);
        let row = rows::Exec {
            timestamp: context.clock.wall(process.time),
            action: if event.return_value == 0 { b"exec" } else { b"exec-failed" },
            ppid: process.ppid.into(),
            parent_name: events::name(&process.parent_name),
            executable: &executable(event, filename, names),
            filename,
            incomplete: Some(event.way == way::WAY_INCOMPLETE),
            command_line: &self.command_line(args),
            args_count: Some(event.args_count.into()),
            truncated: Some(event.truncated != 0),
            return_value: event.return_value.into(),
            effective_uid: Some(event.effective_uid.into()),
            effective_gid: Some(event.effective_gid.into()),
        };
        context.emitter.emit(&row, &subject(process));
    }

    /// The arguments lie one after the other, each with its NUL; the last one lacks it where they were cut.
    fn command_line(&self, args: &[u8]) -> Vec<u8> {
        let args = args.strip_suffix(b"\0").unwrap_or(args);
        let args: Vec<&[u8]> = args.split(|&byte| byte == 0).collect();
        if self.mask { mask::command_line(&args) } else { args.join(&b' ') }
    }
}

fn emit_exit(event: &types::exit_event, context: &mut PollContext<'_>) {
    let process = &event.process;
    let status = Status(event.status);
    let row = rows::Exit {
        timestamp: context.clock.wall(process.time),
        ppid: process.ppid.into(),
        parent_name: events::name(&process.parent_name),
        exit_code: status.exit_code(),
        signal: status.signal(),
        core_dumped: status.core_dumped(),
        duration: process.time.saturating_sub(process.start),
    };
    context.emitter.emit(&row, &subject(process));
}

fn subject(process: &types::process_info) -> Subject<'_> {
    Subject::Process(Process {
        pid: process.pid,
        start: process.start,
        name: events::name(&process.name),
        uid: Some(process.uid),
        gid: Some(process.gid),
        cgroup: process.cgroup,
        seen: process.time,
    })
}

fn split(text: &[u8], bytes: u32) -> (&[u8], &[u8]) {
    text.split_at(text.len().min(bytes as usize))
}

/// The path of the file that runs, as /proc/PID/exe has it; of a failed exec the path that it was to run.
fn executable(event: &types::exec_event, filename: &[u8], names: &[u8]) -> Vec<u8> {
    let failed = event.return_value != 0;
    if event.way == way::WAY_NOWHERE {
        return names.strip_suffix(b"\0").unwrap_or(names).to_vec();
    }
    // It could not be read.
    if names.is_empty() && (filename.is_empty() || !failed) {
        return Vec::new();
    }
    let mut path = path::absolute(names, if failed { filename } else { b"" });
    if event.deleted != 0 {
        path.extend_from_slice(b" (deleted)");
    }
    path
}

/// How a process ended, encoded as wait(2) does.
struct Status(u32);

impl Status {
    fn signal(&self) -> Option<u64> {
        let signal = self.0 & 0x7f;
        (signal != 0).then_some(signal.into())
    }

    fn exit_code(&self) -> Option<u64> {
        self.signal().is_none().then_some(u64::from(self.0 >> 8 & 0xff))
    }

    fn core_dumped(&self) -> Option<bool> {
        self.signal().map(|_| self.0 & 0x80 != 0)
    }
}
