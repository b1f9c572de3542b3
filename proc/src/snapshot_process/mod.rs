//! The metric snapshot_process: the processes that stand at this moment, of /proc/PID.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use kumon_collect::settings::interval;
use kumon_collect::{Emitter, boottime};
use kumon_schema::{Time, rows};
use serde::Deserialize;

use crate::Root;
use crate::error::ReadError;
use crate::metric::{Metric, Period};
use crate::tasks::{Task, Tasks};

/// Settings of the metric snapshot_process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotProcessSettings {
    pub enabled: bool,
    /// Time between two snapshots.
    #[serde(deserialize_with = "interval")]
    pub interval: Duration,
    /// Whether arguments that look like secrets are masked.
    pub mask: bool,
}

impl Default for SnapshotProcessSettings {
    /// Off: 500 processes would be 144,000 rows a day.
    fn default() -> SnapshotProcessSettings {
        SnapshotProcessSettings { enabled: false, interval: Duration::from_secs(300), mask: true }
    }
}

/// As much of a command line as the metric exec keeps.
const MAX_ARGS_BYTES: u64 = 4096;

pub(crate) struct SnapshotProcess {
    tasks: Tasks,
    mask: bool,
}

impl Metric for SnapshotProcess {
    const NAME: &'static str = "snapshot_process";
    const FILE: &'static str = "/proc/PID/stat";
    /// The command line is read of the process's memory: while that is locked, reading it waits.
    const MAY_HANG: bool = true;
    type Settings = SnapshotProcessSettings;

    fn start(root: &Root, settings: &SnapshotProcessSettings) -> Result<SnapshotProcess, ReadError> {
        Ok(SnapshotProcess { tasks: Tasks::of_node(root)?, mask: settings.mask })
    }

    fn read(&mut self, period: Period, emitter: &mut Emitter<'_>) -> Result<(), ReadError> {
        // Of the wall clock's times what it is ahead of the time since the boot.
        let ahead = period.timestamp - boottime() as i64;
        for task in self.tasks.all()? {
            let row = rows::SnapshotProcess {
                timestamp: period.timestamp,
                ppid: task.parent.into(),
                command_line: &self.command_line(&task),
                state: state(&task.state),
                start: Some(Time(task.start as i64 + ahead)),
                threads: Some(task.threads),
            };
            emitter.emit(&row, &task.subject());
        }
        Ok(())
    }
}

impl SnapshotProcess {
    /// Empty of a kernel thread, of a process that is to be reaped, and of one that has ended.
    fn command_line(&self, task: &Task) -> Vec<u8> {
        let mut text = Vec::new();
        let file = File::open(self.tasks.folder(task.pid).join("cmdline"));
        // What was read before an error is there.
        let _ = file.and_then(|file| file.take(MAX_ARGS_BYTES).read_to_end(&mut text));
        let text = text.strip_suffix(b"\0").unwrap_or(&text);
        let args: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        if self.mask { kumon_mask::command_line(&args) } else { args.join(&b' ') }
    }
}

/// By its letter of proc(5).
fn state(letter: &u8) -> &[u8] {
    match letter {
        b'R' => b"running",
        b'S' => b"sleeping",
        b'D' => b"uninterruptible",
        b'T' => b"stopped",
        b't' => b"traced",
        b'Z' => b"zombie",
        b'I' => b"idle",
        _ => std::slice::from_ref(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::SnapshotProcessSettings;
    use crate::Settings;
    use crate::testing::Node;

    fn enabled(mask: bool) -> Settings {
        let snapshot_process =
            SnapshotProcessSettings { enabled: true, mask, ..SnapshotProcessSettings::default() };
        Settings { snapshot_process, ..Settings::default() }
    }

    fn process(node: &Node, pid: u32, name: &str, state: char, cmdline: &str) {
        let rest = "1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 0 1000 200 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0";
        node.write(&format!("proc/{pid}/stat"), &format!("{pid} ({name}) {state} {rest}\n"));
        node.write(&format!("proc/{pid}/status"), "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t100\t1\t1\t1\n");
        node.write(&format!("proc/{pid}/cmdline"), cmdline);
    }

    #[test]
    fn each_process_has_a_row_with_its_secrets_masked() {
        let node = Node::new();
        process(&node, 20, "a) R (b\n", 'S', "mysql\0--password=hunter2\0-e\0SELECT 1\0");
        process(&node, 3, "kthreadd", 'I', "");
        // One ends while it is looked at, and what is no process has no row.
        node.write("proc/30/status", "");
        node.write("proc/sys/kernel/osrelease", "");
        let rows = node.start("snapshot_process", enabled(true)).rows();
        let columns = ["pid", "name", "uid", "gid", "ppid", "threads", "state", "command_line"];
        let told: Vec<Vec<&str>> = rows
            .iter()
            .map(|row| columns.map(|column| row.get(column).map_or("", String::as_str)).to_vec())
            .collect();
        let expected = [
            vec!["3", "kthreadd", "1000", "100", "1", "3", "idle", ""],
            vec!["20", "a) R (b\n", "1000", "100", "1", "3", "sleeping", "mysql --password=*** -e SELECT 1"],
        ];
        assert_eq!(told, expected);
        let rows = node.start("snapshot_process", enabled(false)).rows();
        assert_eq!(rows[1]["command_line"], "mysql --password=hunter2 -e SELECT 1");
    }

    #[test]
    fn snapshots_are_off_unless_asked_for_and_say_where_there_is_no_proc() {
        assert!(!Settings::default().snapshot_process.enabled);
        let message = Node::new().refusal("snapshot_process", enabled(true));
        assert!(message.contains("/proc: No such file"), "{message}");
    }
}
