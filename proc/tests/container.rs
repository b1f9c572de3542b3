//! The metric container beside what the files of cgroups tell, with loads of known numbers in a container of runc's and in a
//! cgroup like a service's. On a node with cgroup v1 it reads those files, else those of v2.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Numbers, compare, number, share};
use kumon_proc::Settings;
use kumon_testing::{Child, require, require_program, require_root, wait_for};
use rustix::fs::Advice;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A cgroup of either version.
struct Cgroup {
    path: String,
}

impl Cgroup {
    fn is_of_v1() -> bool {
        Path::new("/sys/fs/cgroup/memory").exists()
    }

    /// Its folders in all hierarchies.
    fn folders(&self) -> Vec<PathBuf> {
        let trees: &[&str] = if Cgroup::is_of_v1() {
            &["cpu", "cpuacct", "memory", "blkio", "pids", "unified"]
        } else {
            &["."]
        };
        trees.iter().map(|tree| Path::new("/sys/fs/cgroup").join(tree).join(&self.path[1..])).collect()
    }

    fn make(path: String) -> Cgroup {
        let cgroup = Cgroup { path };
        for folder in cgroup.folders() {
            fs::create_dir_all(folder).unwrap();
        }
        cgroup
    }

    fn read(&self, file: &str) -> String {
        let folders = self.folders();
        let text = folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok());
        text.unwrap_or_default()
    }

    fn pairs(&self, file: &str, into: &mut Numbers) {
        for line in self.read(file).lines() {
            let (name, number) = line.rsplit_once(' ').unwrap();
            into.insert(format!("{file} {name}"), number.parse().unwrap_or(0));
        }
    }

    /// What its files tell, by the columns that say the same, in their units.
    fn numbers(&self) -> Numbers {
        let mut told = Numbers::new();
        let mut found = Numbers::new();
        for file in ["cpuacct.stat", "memory.stat", "memory.events", "memory.oom_control"] {
            self.pairs(file, &mut told);
        }
        // With the controller cpu v1 has another one of that name.
        let hierarchies = self.folders();
        for (file, folder) in [("v2", hierarchies.last()), ("v1", hierarchies.first())] {
            let text = fs::read_to_string(folder.unwrap().join("cpu.stat")).unwrap();
            for line in text.lines() {
                let (name, number) = line.split_once(' ').unwrap();
                told.insert(format!("{file} {name}"), number.parse().unwrap());
            }
        }
        let one = |file: &str| self.read(file).trim().parse::<u64>().ok();
        let names: &[(&str, &str, u64)] = if Cgroup::is_of_v1() {
            &[
                ("cpu_user", "cpuacct.stat user", 10_000_000),
                ("cpu_system", "cpuacct.stat system", 10_000_000),
                ("cpu_periods", "v1 nr_periods", 1),
                ("cpu_throttled", "v1 nr_throttled", 1),
                ("cpu_throttled_time", "v1 throttled_time", 1),
                ("memory_rss", "memory.stat total_rss", 1),
                ("memory_cache", "memory.stat total_cache", 1),
                ("memory_mapped_file", "memory.stat total_mapped_file", 1),
                ("memory_active_anon", "memory.stat total_active_anon", 1),
                ("memory_inactive_anon", "memory.stat total_inactive_anon", 1),
                ("memory_active_file", "memory.stat total_active_file", 1),
                ("memory_inactive_file", "memory.stat total_inactive_file", 1),
                ("memory_unevictable", "memory.stat total_unevictable", 1),
                ("memory_pages_in", "memory.stat total_pgpgin", 1),
                ("memory_pages_out", "memory.stat total_pgpgout", 1),
                ("page_faults", "memory.stat total_pgfault", 1),
                ("major_page_faults", "memory.stat total_pgmajfault", 1),
                ("oom_kills", "memory.oom_control oom_kill", 1),
            ]
        } else {
            &[
                ("cpu_time", "v2 usage_usec", 1000),
                ("cpu_user", "v2 user_usec", 1000),
                ("cpu_system", "v2 system_usec", 1000),
                ("cpu_periods", "v2 nr_periods", 1),
                ("cpu_throttled", "v2 nr_throttled", 1),
                ("cpu_throttled_time", "v2 throttled_usec", 1000),
                ("memory_rss", "memory.stat anon", 1),
                ("memory_cache", "memory.stat file", 1),
                ("memory_mapped_file", "memory.stat file_mapped", 1),
                ("memory_active_anon", "memory.stat active_anon", 1),
                ("memory_inactive_anon", "memory.stat inactive_anon", 1),
                ("memory_active_file", "memory.stat active_file", 1),
                ("memory_inactive_file", "memory.stat inactive_file", 1),
                ("memory_unevictable", "memory.stat unevictable", 1),
                ("page_faults", "memory.stat pgfault", 1),
                ("major_page_faults", "memory.stat pgmajfault", 1),
                ("oom_kills", "memory.events oom_kill", 1),
            ]
        };
        for (column, name, scale) in names {
            found.insert((*column).to_owned(), told.get(*name).copied().unwrap_or_default() * scale);
        }
        found.extend(one("cpuacct.usage").map(|time| ("cpu_time".to_owned(), time)));
        let usage = one("memory.usage_in_bytes").or_else(|| one("memory.current"));
        found.insert("memory_usage".into(), usage.unwrap());
        found.insert("pids".into(), one("pids.current").unwrap());
        for resource in ["cpu", "memory", "io"] {
            for line in self.read(&format!("{resource}.pressure")).lines() {
                let (kind, rest) = line.split_once(' ').unwrap();
                let total = rest.rsplit_once("total=").unwrap().1.parse::<u64>().unwrap();
                found.insert(format!("pressure_{resource}_{kind}"), total * 1000);
            }
        }
        found
    }

    /// What it did with disks in all, by the columns that say so.
    fn disk_numbers(&self) -> Numbers {
        let columns =
            ["read_bytes", "write_bytes", "reads", "writes", "sync_bytes", "async_bytes", "syncs", "asyncs"];
        let mut found: Numbers = columns.into_iter().map(|column| (column.to_owned(), 0)).collect();
        let mut add = |column: &str, number: &str| {
            *found.entry(column.to_owned()).or_default() += number.parse::<u64>().unwrap()
        };
        for (file, columns) in [
            (
                "blkio.throttle.io_service_bytes_recursive",
                ["read_bytes", "write_bytes", "sync_bytes", "async_bytes"],
            ),
            ("blkio.throttle.io_serviced_recursive", ["reads", "writes", "syncs", "asyncs"]),
        ] {
            let kinds = ["Read", "Write", "Sync", "Async"];
            for line in self.read(file).lines().filter(|line| !line.starts_with("Total")) {
                let words: Vec<&str> = line.split(' ').collect();
                if let Some(at) = kinds.iter().position(|kind| *kind == words[1]) {
                    add(columns[at], words[2]);
                }
            }
        }
        for word in self.read("io.stat").split_whitespace() {
            match word.split_once('=') {
                Some(("rbytes", number)) => add("read_bytes", number),
                Some(("wbytes", number)) => add("write_bytes", number),
                Some(("rios", number)) => add("reads", number),
                Some(("wios", number)) => add("writes", number),
                _ => {}
            }
        }
        found
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_for("the cgroup to be empty", LIMIT, || {
            self.folders()
                .iter()
                .filter(|folder| folder.exists())
                .all(|folder| fs::remove_dir(folder).is_ok())
        });
    }
}

/// A container that runc runs, and that ends with the test.
struct Container {
    id: String,
    cgroup: Option<Cgroup>,
    folder: TempDir,
}

impl Container {
    /// Runs a script of busybox's.
    fn run(script: &str, resources: &Value) -> Option<Container> {
        if !require_root() || !["runc", "busybox", "nsenter", "ip"].into_iter().all(require_program) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(common::output("which", &["busybox"]).trim(), bin.join("busybox")).unwrap();
        for program in ["sh", "cat", "dd", "sleep", "tail"] {
            symlink("busybox", bin.join(program)).unwrap();
        }
        let id = format!("{:064x}", std::process::id());
        let container = Container { cgroup: Some(Cgroup { path: format!("/{id}") }), id, folder };
        assert!(container.runc(&["spec"]));
        let spec = container.folder.path().join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&spec).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        config["linux"]["cgroupsPath"] = json!(format!("/{}", container.id));
        for (name, value) in resources.as_object().unwrap() {
            config["linux"]["resources"][name] = value.clone();
        }
        fs::write(spec, config.to_string()).unwrap();
        assert!(container.runc(&["run", "--detach", &container.id]));
        Some(container)
    }

    fn runc(&self, arguments: &[&str]) -> bool {
        let mut runc = Command::new("runc");
        runc.args(arguments).current_dir(self.folder.path());
        runc.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success()
    }

    fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("rootfs").join(name)
    }

    fn pid(&self) -> String {
        let state: Value = serde_json::from_str(&common::output("runc", &["state", &self.id])).unwrap();
        state["pid"].to_string()
    }

    /// What the interfaces of its network namespace but the loopback received and sent.
    fn traffic(&self) -> Numbers {
        let mut sum = Numbers::new();
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap();
        for line in text.lines().skip(2).filter(|line| !line.trim().starts_with("lo:")) {
            let numbers: Vec<u64> = line
                .split_once(':')
                .unwrap()
                .1
                .split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect();
            for (column, at) in
                [("received_bytes", 0), ("received_packets", 1), ("sent_bytes", 8), ("sent_packets", 9)]
            {
                *sum.entry(column.to_owned()).or_default() += numbers[at];
            }
        }
        sum
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.runc(&["delete", "--force", &self.id]);
        self.cgroup.take();
    }
}

/// The numbers of the disk that a folder is on; none where it is on no disk.
fn disk_of(folder: &Path) -> Option<(u64, u64)> {
    let device = fs::metadata(folder).unwrap().dev();
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    let mut disk = PathBuf::from(format!("/sys/dev/block/{}:{}", numbers.0, numbers.1));
    if disk.join("partition").exists() {
        disk = fs::canonicalize(disk).unwrap().parent().unwrap().to_owned();
    }
    let numbers = fs::read_to_string(disk.join("dev"));
    if !require(numbers.is_ok(), "a disk for temporary files") {
        return None;
    }
    let numbers = numbers.unwrap();
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    Some((major.parse().unwrap(), minor.parse().unwrap()))
}

/// Lets the kernel forget a file's content, so that reading it asks the disk.
fn forget(file: &Path) {
    let file = fs::File::open(file).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

#[test]
fn what_a_container_used_is_what_its_cgroup_tells() {
    // It is killed for the memory it takes, reads 4 MiB, writes 2, and goes on at its quota.
    let script = "until [ -e /go ]; do sleep 0.1; done; tail /dev/zero; cat /data >/dev/null; \
        dd if=/dev/zero of=/written bs=64k count=32 conv=fsync 2>/dev/null; : >/done; while :; do :; done";
    let mut resources = json!({
        "cpu": {"quota": 30_000, "period": 100_000},
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 50},
    });
    let Some((major, minor)) = disk_of(&std::env::temp_dir()) else { return };
    if Cgroup::is_of_v1() {
        // Since Linux 6.10 v1 counts for disks with a limit only: here one that limits nothing.
        let limit = json!([{"major": major, "minor": minor, "rate": 1u64 << 40}]);
        resources["blockIO"] = json!({"throttleWriteBpsDevice": limit});
    }
    let Some(container) = Container::run(script, &resources) else { return };
    fs::write(container.file("data"), vec![7; 4 << 20]).unwrap();
    forget(&container.file("data"));
    let interface = format!("kc{}", std::process::id());
    let pid = container.pid();
    let ip = |arguments: &[&str]| assert!(Command::new("ip").args(arguments).status().unwrap().success());
    ip(&["link", "add", &interface, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
    ip(&["addr", "add", "198.18.79.1/30", "dev", &interface]);
    ip(&["link", "set", &interface, "up"]);
    let inside = ["nsenter", "-n", "-t", &pid, "ip"];
    for arguments in
        [["addr", "add", "198.18.79.2/30", "dev", "eth0"].as_slice(), &["link", "set", "eth0", "up"]]
    {
        let status = Command::new(inside[0]).args(&inside[1..]).args(arguments).status();
        assert!(status.unwrap().success());
    }

    let source = || {
        let mut numbers = container.cgroup().numbers();
        numbers.extend(container.cgroup().disk_numbers());
        numbers.extend(container.traffic());
        numbers
    };
    let throttled = || container.cgroup().numbers()["cpu_throttled"];
    let before = throttled();
    let compared = compare("container", &Settings::default(), source, || {
        fs::write(container.file("go"), "").unwrap();
        let socket = UdpSocket::bind("198.18.79.1:0").unwrap();
        for _ in 0..100 {
            // Nobody listens there, which comes back as an error of the next one.
            let _ = socket.send_to(&[7; 100], "198.18.79.2:9");
        }
        wait_for("the container to be done", LIMIT, || container.file("done").exists());
        wait_for("it to be throttled", LIMIT, || throttled() >= before + 5);
    });

    let of_it = |row: &&common::Row| row["cgroup"] == container.cgroup().path;
    let row = compared.rows.iter().find(|row| of_it(row) && !row.contains_key("disk")).unwrap();
    assert_eq!(row["container_id"], container.id);
    let id = container.cgroup().folders().last().map(|folder| fs::metadata(folder).unwrap().ino());
    assert_eq!(number(row, "cgroup_id"), id.unwrap());
    let counters =
        ["cpu_time", "cpu_user", "cpu_system", "cpu_periods", "cpu_throttled", "cpu_throttled_time"]
            .into_iter()
            .chain(["page_faults", "major_page_faults", "oom_kills"])
            .chain(["received_bytes", "received_packets", "sent_bytes", "sent_packets"])
            .chain(["pressure_cpu_some", "pressure_io_some"]);
    for column in counters {
        compared.assert_added(row, column, column, 1);
    }
    let kinds = [
        "usage",
        "rss",
        "cache",
        "mapped_file",
        "active_anon",
        "inactive_anon",
        "active_file",
        "inactive_file",
    ];
    for kind in kinds {
        // The kernel sums up what each CPU has taken now and then.
        let column = format!("memory_{kind}");
        compared.assert_stands(row, &column, &column, 1, 1 << 20);
    }
    assert!(number(row, "memory_cache") >= 4 << 20, "{row:?}");
    assert_eq!((number(row, "memory_limit"), number(row, "pids_limit")), (64 << 20, 50));
    assert_eq!((row["cpu_limit"].as_str(), number(row, "pids")), ("0.3", 1));
    assert!(number(row, "oom_kills") >= 1 && number(row, "cpu_throttled") >= 5, "{row:?}");
    assert!(number(row, "received_packets") >= 100 && number(row, "received_bytes") >= 100 * 142, "{row:?}");
    // Less than the quota allows, of all CPUs.
    assert!(share(row, "cpu_pct") > 0.0 && share(row, "cpu_pct") < 0.35, "{row:?}");
    let used = share(row, "memory_pct");
    assert!((used - number(row, "memory_usage") as f64 / f64::from(64 << 20)).abs() < 0.001, "{row:?}");

    let disks: Vec<_> = compared.rows.iter().filter(|row| of_it(row) && row.contains_key("disk")).collect();
    let [disk] = disks.as_slice() else { panic!("{disks:?}") };
    assert!(Path::new("/sys/block").join(&disk["disk"]).exists(), "{disk:?}");
    let columns: &[&str] = &["read_bytes", "write_bytes", "reads", "writes"];
    let of_v1: &[&str] =
        if Cgroup::is_of_v1() { &["sync_bytes", "async_bytes", "syncs", "asyncs"] } else { &[] };
    for column in columns.iter().chain(of_v1) {
        compared.assert_added(disk, column, column, 1);
    }
    assert!(number(disk, "read_bytes") >= 4 << 20 && number(disk, "write_bytes") >= 2 << 20, "{disk:?}");
    assert_eq!(row.get("read_bytes"), None, "what disks did is in their rows only");
}

#[test]
fn what_a_service_used_is_what_its_cgroup_tells() {
    if !require_root() {
        return;
    }
    let name = format!("kumon-test-{}.service", std::process::id());
    let cgroup = Cgroup::make(format!("/{name}"));
    let mut child =
        Child::spawn(Command::new("sh").args(["-c", "read go; while :; do :; done"]).stdin(Stdio::piped()));
    for folder in cgroup.folders() {
        fs::write(folder.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    let time = || cgroup.numbers()["cpu_time"];
    let before = time();
    let compared = compare(
        "container",
        &Settings::default(),
        || cgroup.numbers(),
        || {
            drop(child.inner().stdin.take());
            wait_for("it to take CPU time", LIMIT, || time() >= before + 300_000_000);
        },
    );
    let row = compared.row("cgroup", &cgroup.path);
    for column in ["cpu_time", "cpu_user", "cpu_system"] {
        compared.assert_added(row, column, column, 1);
    }
    assert!(number(row, "cpu_time") >= 300_000_000, "{row:?}");
    assert_eq!((number(row, "pids"), row.get("container_id")), (1, None));
    for column in ["received_bytes", "memory_limit", "cpu_limit", "pids_limit"] {
        assert_eq!(row.get(column), None, "it uses the node's network, and nothing limits it");
    }
    drop(child);
}

#[test]
fn cgroups_that_come_and_go_meanwhile_are_no_fault() {
    if !require_root() {
        return;
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut made = 0;
            while !is_over.load(Ordering::Relaxed) || made == 0 {
                made += 1;
                drop(Cgroup::make(format!("/kumon-test-{}-{made}.scope", std::process::id())));
            }
        });
        for _ in 0..10 {
            compare("container", &Settings::default(), Numbers::new, || {});
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
