use kumon_collect::capture::CapturedRow;

use super::ProcessSettings;
use crate::Settings;
use crate::testing::{Node, Started};

/// A node of two CPUs on which nothing runs yet.
fn node() -> Node {
    let node = Node::new();
    node.write("proc/stat", "cpu 1 2 3 4\ncpu0 1 2 3 4\ncpu1 1 2 3 4\n");
    node.write("proc/meminfo", "MemTotal: 40960 kB\n");
    node.write("proc/self/mountinfo", "35 25 0:30 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
    node.write("proc/sys/kernel/task_delayacct", "1\n");
    node.write("sys/fs/cgroup/system.slice/nginx.service/cgroup.procs", "");
    node.link("proc/1/ns/net", "net:[1]");
    node
}

/// A process as its files tell.
struct Process {
    pid: u32,
    name: &'static str,
    start: u64,
    /// In ticks: user, system, children's user and system.
    times: [u64; 4],
    resident: u64,
}

impl Process {
    fn write(&self, node: &Node) {
        let Process { pid, name, start, times: [user, system, children_user, children_system], resident } =
            self;
        let stat = format!(
            "{pid} ({name}) S 1 2 3 0 -1 4194560 8 9 10 11 {user} {system} {children_user} {children_system} 20 0 3 0 \
            {start} 8192 {resident} 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 {user} 0 0\n"
        );
        node.write(&format!("proc/{pid}/stat"), &stat);
    }

    /// The files that are read of those with rows.
    fn write_details(&self, node: &Node, io: [u64; 6]) {
        let folder = format!("proc/{}", self.pid);
        let [reads, writes, read_bytes, write_bytes, read_chars, written_chars] = io;
        for (file, text) in [
            ("statm", format!("10 {} 4 3 0 5 0\n", self.resident)),
            (
                "io",
                format!(
                    "rchar: {read_chars}\nwchar: {written_chars}\nsyscr: {reads}\nsyscw: {writes}\n\
                    read_bytes: {read_bytes}\nwrite_bytes: {write_bytes}\ncancelled_write_bytes: 0\n"
                ),
            ),
            ("status", "Name:\tx\nUid:\t33\t0\t0\t0\nGid:\t34\t0\t0\t0\n".into()),
            ("cgroup", "1:name=systemd:/x\n0::/system.slice/nginx.service\n".into()),
        ] {
            node.write(&format!("{folder}/{file}"), &text);
        }
    }
}

const NGINX: Process =
    Process { pid: 42, name: "a b) (c\nd", start: 5000, times: [10, 20, 30, 40], resident: 100 };
const SHELL: Process = Process { pid: 43, name: "sh", start: 6000, times: [1, 1, 0, 0], resident: 50 };
const IDLE: Process = Process { pid: 2, name: "kthreadd", start: 1, times: [0; 4], resident: 0 };

fn settings(top_by_cpu: usize, top_by_memory: usize) -> Settings {
    let process = ProcessSettings { top_by_cpu, top_by_memory, ..ProcessSettings::default() };
    Settings { process, ..Settings::default() }
}

/// Without what changes from run to run.
fn rows(reading: &mut Started) -> Vec<CapturedRow> {
    let mut rows = reading.rows();
    for row in &mut rows {
        assert!(row.remove("interval").is_some() && row.remove("timestamp").is_some());
        for column in ["cpu_pct", "start", "entity_id", "cgroup_id", "user_name"] {
            row.remove(column);
        }
        assert_eq!(row.remove("event_module").as_deref(), Some("system"));
        assert_eq!(row.remove("event_dataset").as_deref(), Some("system.process"));
    }
    rows
}

fn names(rows: &[CapturedRow]) -> Vec<&str> {
    let mut names: Vec<&str> = rows.iter().map(|row| row["name"].as_str()).collect();
    names.sort_unstable();
    names
}

fn expect(row: &CapturedRow, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    assert_eq!(row, &expected);
}

#[test]
fn a_process_has_a_row_of_what_it_used_and_the_others_one_together() {
    let node = node();
    for process in [NGINX, SHELL, IDLE] {
        process.write(&node);
    }
    NGINX.write_details(&node, [1, 2, 3, 4, 5, 6]);
    node.link("proc/42/ns/net", "net:[7]");
    node.write("proc/42/net/dev", "Inter-|\neth0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n");
    let mut reading = node.start("process", settings(1, 1));
    Process { times: [14, 26, 31, 42], ..NGINX }.write(&node);
    Process { times: [2, 3, 1, 1], ..SHELL }.write(&node);
    NGINX.write_details(&node, [11, 22, 33, 44, 55, 66]);
    for descriptor in ["0", "1", "255"] {
        node.link(&format!("proc/42/fd/{descriptor}"), "/dev/null");
    }
    node.write("proc/42/net/dev", "Inter-|\neth0: 110 11 0 0 0 0 0 0 220 22 0 0 0 0 0 0\n");
    let rows = rows(&mut reading);
    let [nginx, others] = rows.as_slice() else { panic!("{rows:?}") };
    let mut nginx = nginx.clone();
    // A folder's size is not what it is in /proc.
    assert!(nginx.remove("open_descriptors").is_some());
    expect(
        &nginx,
        &[
            ("pid", "42"),
            ("name", "a b) (c\nd"),
            ("uid", "33"),
            ("gid", "34"),
            ("state", "sleeping"),
            ("user", "40000000"),
            ("system", "60000000"),
            ("children_user", "10000000"),
            ("children_system", "20000000"),
            ("io_wait", "40000000"),
            ("size", "40960"),
            ("resident", "409600"),
            ("resident_pct", "0.0098"),
            ("shared", "16384"),
            ("text", "12288"),
            ("data", "20480"),
            ("reads", "10"),
            ("writes", "20"),
            ("read_bytes", "30"),
            ("write_bytes", "40"),
            ("read_chars", "50"),
            ("written_chars", "60"),
            ("threads", "3"),
            ("received_bytes", "100"),
            ("received_packets", "10"),
            ("sent_bytes", "200"),
            ("sent_packets", "20"),
            ("processes", "1"),
        ],
    );
    expect(
        others,
        &[
            ("name", "other"),
            ("user", "10000000"),
            ("system", "20000000"),
            ("children_user", "10000000"),
            ("children_system", "10000000"),
            ("resident", "204800"),
            ("threads", "6"),
            ("processes", "2"),
        ],
    );
}

#[test]
fn those_with_most_cpu_time_and_those_with_most_memory_have_rows() {
    let node = node();
    for process in [NGINX, SHELL, IDLE] {
        process.write(&node);
    }
    let mut reading = node.start("process", settings(1, 1));
    Process { times: [2, 1, 0, 0], ..SHELL }.write(&node);
    assert_eq!(names(&rows(&mut reading)), ["a b) (c\nd", "other", "sh"]);
    // Nobody ran: of CPU time there is no most.
    assert_eq!(names(&rows(&mut reading)), ["a b) (c\nd", "other"]);
    let mut reading = node.start("process", settings(10, 10));
    assert_eq!(names(&rows(&mut reading)), ["a b) (c\nd", "other", "sh"]);
    let mut reading = node.start("process", settings(0, 0));
    assert_eq!(names(&rows(&mut reading)), ["other"]);
}

#[test]
fn another_process_of_the_same_pid_begins_anew() {
    let node = node();
    NGINX.write(&node);
    NGINX.write_details(&node, [100; 6]);
    let mut reading = node.start("process", settings(1, 1));
    // It was started in the interval: all it has used it has used since.
    let now = kumon_collect::boottime() / 10_000_000 + 100;
    let other = Process { start: now, times: [7, 0, 0, 0], name: "other one", ..NGINX };
    other.write(&node);
    other.write_details(&node, [1, 2, 3, 4, 5, 6]);
    let row = rows(&mut reading).remove(0);
    let of = |row: &CapturedRow| {
        ["name", "user", "reads"].map(|column| row.get(column).cloned().unwrap_or_default())
    };
    assert_eq!(of(&row), ["other one", "70000000", "1"]);
    // It was there before, but could not be seen: what it did in the interval is unknown.
    Process { start: 4000, times: [900, 0, 0, 0], name: "hidden", ..NGINX }.write(&node);
    let row = rows(&mut reading).remove(0);
    assert_eq!(of(&row), ["hidden", "", ""]);
    assert_eq!(row["resident"], "409600");
}

#[test]
fn what_can_not_be_read_is_empty_and_what_has_ended_is_gone() {
    let node = node();
    NGINX.write(&node);
    SHELL.write(&node);
    node.write("proc/sys/kernel/task_delayacct", "0\n");
    node.write("proc/44/stat", "44 (cut o");
    node.write("proc/45/comm", "it ended while it was read\n");
    let mut reading = node.start("process", settings(2, 2));
    node.remove("proc/43");
    let [row] = rows(&mut reading).try_into().unwrap();
    for column in ["io_wait", "reads", "size", "uid", "open_descriptors", "received_bytes"] {
        assert_eq!(row.get(column), None, "{column}");
    }
    assert_eq!((row["user"].as_str(), row["threads"].as_str()), ("0", "3"));
}

#[test]
fn a_filter_lets_its_processes_through_and_no_others() {
    let node = node();
    for process in [NGINX, SHELL, IDLE] {
        process.write(&node);
    }
    NGINX.write_details(&node, [0; 6]);
    SHELL.write_details(&node, [0; 6]);
    node.write("proc/43/cgroup", "0::/\n");
    for (filter, expected) in [
        (r#"{"comm": ["sh"]}"#, &["sh"][..]),
        (r#"{"cgroup": ["/system.slice"]}"#, &["a b) (c\nd"]),
        (r#"{"cgroup": ["/system.slice/nginx.service"], "uid": [33]}"#, &["a b) (c\nd"]),
        (r#"{"uid": [0]}"#, &[]),
    ] {
        let process = format!(r#"{{"filter": {filter}, "top_by_cpu": 0, "top_by_memory": 9}}"#);
        let process = serde_json::from_str(&process).unwrap();
        let mut reading = node.start("process", Settings { process, ..Settings::default() });
        assert_eq!(names(&rows(&mut reading)), expected, "{filter}");
    }
}
