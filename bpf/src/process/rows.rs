//! From the events of process.bpf.c to rows.

use kumon_collect::{PollContext, Process, Subject};
use kumon_schema::rows;

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
        if self.mask { kumon_mask::command_line(&args) } else { args.join(&b' ') }
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

#[cfg(test)]
mod tests {
    use kumon_collect::capture::{Capture, CapturedRow};

    use super::{Rows, types, way};
    use crate::active::EventRows;
    use crate::events::{comm, event_bytes};

    fn process(metric: types::metric) -> types::process_info {
        let (name, parent_name) = (comm(b"curl"), comm(b"bash"));
        types::process_info {
            metric,
            pid: 7,
            ppid: 6,
            uid: 1000,
            gid: 100,
            time: 5_000,
            name,
            parent_name,
            ..Default::default()
        }
    }

    fn emitted(metric: &str, event: &[u8]) -> CapturedRow {
        let mut capture = Capture::new();
        capture.poll(false, |context| Rows { mask: true }.emit(event, context));
        let rows = capture.rows(metric);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.into_iter().next().unwrap()
    }

    fn exec(return_value: i32, filename: &[u8], names: &[u8], args: &[u8]) -> CapturedRow {
        let head = types::exec_event {
            process: process(types::metric::METRIC_EXEC),
            return_value,
            args_count: 2,
            filename_bytes: filename.len() as u32,
            names_bytes: names.len() as u32,
            args_bytes: args.len() as u32,
            way: way::WAY_TO_ROOT,
            ..Default::default()
        };
        emitted("exec", &event_bytes(&head, &[filename, names, args].concat()))
    }

    #[test]
    fn an_exec_tells_the_file_that_runs_and_masks_its_arguments() {
        let row = exec(0, b"./curl\0", b"curl\0bin\0usr\0", b"curl\0--user=me:secret\0");
        for (column, expected) in [
            ("action", "exec"),
            ("pid", "7"),
            ("ppid", "6"),
            ("name", "curl"),
            ("parent_name", "bash"),
            ("executable", "/usr/bin/curl"),
            ("filename", "./curl"),
            ("uid", "1000"),
            ("return_value", "0"),
        ] {
            assert_eq!(row[column], expected, "{column}");
        }
        assert!(!row["command_line"].contains("secret"), "{row:?}");
    }

    #[test]
    fn a_failed_exec_tells_the_path_that_it_was_to_run() {
        let row = exec(-2, b"../gone\0", b"here\0tmp\0", b"gone\0");
        assert_eq!((row["action"].as_str(), row["executable"].as_str()), ("exec-failed", "/tmp/gone"));
        assert_eq!(row["return_value"], "-2");
    }

    #[test]
    fn an_end_is_an_exit_code_or_a_signal() {
        let exit = |status| {
            let process = process(types::metric::METRIC_EXIT);
            emitted("exit", &event_bytes(&types::exit_event { process, status, padding: 0 }, b""))
        };
        let columns =
            |row: &CapturedRow| ["exit_code", "signal", "core_dumped"].map(|column| row.get(column).cloned());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(columns(&exit(3 << 8)), [some("3"), None, None]);
        assert_eq!(columns(&exit(11 | 0x80)), [None, some("11"), some("true")]);
        assert_eq!(exit(0)["duration"], "5000");
    }

    #[test]
    fn events_that_are_too_short_make_no_row() {
        let whole = event_bytes(
            &types::exec_event { process: process(types::metric::METRIC_EXEC), ..Default::default() },
            b"",
        );
        let mut capture = Capture::new();
        for length in 0..whole.len() {
            capture.poll(false, |context| Rows { mask: true }.emit(&whole[..length], context));
        }
        assert!(capture.rows("exec").is_empty() && capture.rows("exit").is_empty());
        // Lengths that lie beyond the event's end are no reason to read there.
        let head = types::exec_event {
            process: process(types::metric::METRIC_EXEC),
            filename_bytes: u32::MAX,
            names_bytes: u32::MAX,
            args_bytes: u32::MAX,
            ..Default::default()
        };
        capture.poll(false, |context| Rows { mask: true }.emit(&event_bytes(&head, b"x"), context));
        assert_eq!(capture.rows("exec").len(), 1);
    }
}
