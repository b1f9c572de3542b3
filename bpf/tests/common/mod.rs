//! Runs collectors as the agent does and reads the files they wrote.

// Each test file uses its part of it, and a failure here is a failed test.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

mod busy;
pub mod cable;
pub mod containers;
mod load;
pub mod network;
mod quota;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use kumon_bpf::{Enabled, FileHooks, Settings, collectors};
use kumon_collect::{Loss, MaxRows, RateLimited, Scheduler};
use kumon_schema::unescape;
use kumon_spool::{Limits, RowBatch, Spool, SpoolError};
use kumon_testing::{Child, keep_log, require, require_bpf, require_program, wait_for};
use rustix::process::Signal;
use tempfile::{NamedTempFile, TempDir};

pub use busy::{BusyCpus, nearly};
pub use load::Load;
pub use quota::Quota;

/// How often the kernel's events are taken unless a test says otherwise.
const POLL: Duration = Duration::from_millis(20);

/// Python: waits until no session of a local port is left but in TIME_WAIT. The last packets of a session may be
/// handled after both of its sockets were closed.
pub const SETTLE: &str = "
import time
def settle(port):
    def open_ones():
        for line in open('/proc/net/tcp').readlines()[1:]:
            local, remote, state = line.split()[1:4]
            if state not in ('06', '0A') and '%04X' % port in (local[-4:], remote[-4:]): yield line
    while any(open_ones()): time.sleep(0.01)
";

/// Python: `nap(times)` sleeps a millisecond again and again until the kernel has switched the process out so often. So
/// many waits for a CPU follow, for each switch out ends with one. Of a single sleep that isn't certain: where a machine
/// has its CPU taken away, the timer may fire before the process has gone to sleep.
pub const NAP: &str = "
import resource, time
def nap(times):
    def switches(): return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    enough = switches() + times
    while switches() < enough: time.sleep(0.001)
";

/// The same budget for each metric of single events. With 0 there is none: for loads of which each event is to have its row, or
/// is to meet another limit.
pub fn with_budget(mut settings: Settings, rows_per_second: u32) -> Settings {
    let rows = MaxRows::try_from(rows_per_second).unwrap();
    settings.process.exec.max_rows_per_second = rows;
    settings.process.exit.max_rows_per_second = rows;
    settings.sched.runqslower.max_rows_per_second = rows;
    settings.tcp.tcplife.max_rows_per_second = rows;
    settings.drop.tcpdrop.max_rows_per_second = rows;
    settings.file.filelife.max_rows_per_second = rows;
    settings.file.filegone.max_rows_per_second = rows;
    settings.db.dbslower.max_rows_per_second = rows;
    settings
}

/// The settings of both file metrics by each kind of hooks that this kernel has; none where nothing can be tested.
pub fn file_settings() -> Vec<Settings> {
    let mut all = Vec::new();
    if !require_bpf() || !require_program("python3") {
        return all;
    }
    for file_hooks in [FileHooks::Fentry, FileHooks::Kprobe, FileHooks::Tracepoint] {
        let mut settings = Settings::default();
        settings.file.file_hooks = file_hooks;
        settings.file.filelife.enabled = Enabled::Yes;
        settings.file.filegone.enabled = Enabled::Yes;
        let collectors = collectors(&settings);
        let collector = collectors.iter().find(|collector| collector.name() == "file").unwrap();
        if collector.probe().iter().all(|hook| hook.strategy.is_ok()) {
            all.push(settings);
        }
    }
    let least = if kernel_has_kprobes() && kernel_is_at_least(TASK_STORAGE) { 3 } else { 1 };
    assert!(
        all.len() >= least,
        "of the hooks for files only {:?} work",
        all.iter().map(|of| of.file.file_hooks).collect::<Vec<_>>()
    );
    all
}

/// What some originals are made of. Where the kernel has none, scripts/second-kernel has one that does.
pub fn kernel_has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe/type").exists()
}

/// The first Linux whose tracing programs can keep something with a task.
pub const TASK_STORAGE: (u32, u32) = (5, 12);
/// The first Linux whose tracing programs can ask for a socket's cookie.
pub const SOCKET_COOKIES: (u32, u32) = (5, 12);
/// The first Linux whose programs can be linked to network interfaces.
pub const TCX: (u32, u32) = (6, 6);
/// The first Linux whose uprobes know where they were attached.
pub const UPROBE_COOKIES: (u32, u32) = (5, 15);

/// Whether this is Linux `version` or later: KuMon itself never asks that, so tests know by it what it should find.
pub fn kernel_is_at_least(version: (u32, u32)) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= version
}

/// Collectors at work in a thread, with a spool of their own.
pub struct Collecting {
    spool: TempDir,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Loss>, Vec<RateLimited>)>,
}

/// What they left behind.
pub struct Collected {
    spool: TempDir,
    pub losses: Vec<Loss>,
    /// Who made what their budgets left out.
    pub rate_limited: Vec<RateLimited>,
}

/// One of libbpf-tools' originals at work, its output in a file.
pub struct Original {
    child: Child,
    output: NamedTempFile,
}

impl Original {
    /// Starts it with a tracefs of its own, which it needs for its tracepoints, and without buffering its lines.
    pub fn start(command: &str) -> Original {
        let output = NamedTempFile::new().unwrap();
        let script = format!(
            "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; \
             exec stdbuf -oL {command}"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let child = Child::spawn(unshare.stdout(output.reopen().unwrap()));
        Original { child, output }
    }

    pub fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(self.output.path()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The lines about the load, once there are so many: it writes some time after the event, long after where the
    /// machine is busy.
    pub fn lines_of(&self, count: usize, of_load: impl Fn(&String) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        wait_for("the original to write what it saw", Duration::from_secs(30), || {
            lines = self.lines();
            lines.retain(&of_load);
            lines.len() >= count
        });
        lines
    }

    /// Waits until it has written so many lines about the load, and stops it; all that there are then.
    pub fn stop_after(self, count: usize, of_load: impl Fn(&String) -> bool) -> Vec<String> {
        self.lines_of(count, &of_load);
        let mut lines = self.stop();
        lines.retain(of_load);
        lines
    }

    /// Interrupts it as the terminal would, and returns all it wrote.
    pub fn stop(mut self) -> Vec<String> {
        self.child.signal(Signal::INT);
        self.child.wait(Duration::from_secs(10));
        self.lines()
    }
}

/// The first histogram an original printed under the heading `unit`: counts by their buckets' lower bounds.
pub fn log2_histogram(lines: &[String], unit: &str) -> BTreeMap<u64, u64> {
    let heading = |line: &&String| line.split_whitespace().next() == Some(unit);
    let bucket = |line: &String| {
        // `      64 -> 127        : 18       |*****   |`
        let (bounds, rest) = line.split_once(" : ")?;
        let low = bounds.split_whitespace().next()?.parse().ok()?;
        Some((low, rest.split_whitespace().next()?.parse().ok()?))
    };
    lines.iter().skip_while(|line| !heading(line)).skip(1).map_while(bucket).collect()
}

/// The power of two that holds a percentile; 0 for the first bucket.
pub fn percentile_bucket(histogram: &BTreeMap<u64, u64>, percent: u64) -> u32 {
    let total: u64 = histogram.values().sum();
    let mut below = 0;
    let found = histogram.iter().find(|(_, count)| {
        below += *count;
        below * 100 >= total * percent
    });
    found.unwrap().0.checked_ilog2().unwrap_or(0)
}

/// Programs that differ in nothing but their names.
pub struct Programs(TempDir);

impl Programs {
    pub fn new() -> Programs {
        let folder = tempfile::tempdir().unwrap();
        // Other users have to get in.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        Programs(folder)
    }

    /// A copy of a program under another name.
    pub fn copy(&self, of: &str, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        if !path.exists() {
            std::fs::copy(of, &path).unwrap();
        }
        path
    }
}

/// What wait4(2) tells of a child that ended.
pub struct Usage {
    /// User and system time, ns.
    pub cpu_time: i64,
    pub voluntary_switches: i64,
    pub involuntary_switches: i64,
}

/// Waits for the end of a child.
pub fn usage_of(pid: u32) -> Usage {
    // SAFETY: rusage is plain data, and the pid is that of a child nobody else waits for.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::wait4(pid as i32, std::ptr::null_mut(), 0, &raw mut usage), pid as i32);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec * 1_000_000_000 + time.tv_usec * 1_000;
    Usage {
        cpu_time: ns(usage.ru_utime) + ns(usage.ru_stime),
        voluntary_switches: usage.ru_nvcsw,
        involuntary_switches: usage.ru_nivcsw,
    }
}

/// User and system time of a living process in ns, from /proc/pid/stat.
pub fn cpu_time_now(pid: u32) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: i64 = fields[11].parse::<i64>().unwrap() + fields[12].parse::<i64>().unwrap();
    ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second() as i64
}

#[track_caller]
pub fn assert_close(ours: i64, theirs: i64, percent: i64) {
    assert!((ours - theirs).abs() * 100 <= theirs * percent, "{ours} is not within {percent} % of {theirs}");
}

/// A cgroup v2 that is removed in the end.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    /// One that is named like a container's, and the container's id; none where that can't be tested.
    pub fn of_container() -> Option<(Cgroup, String)> {
        let id = format!("{:064x}", std::process::id());
        let cgroup = Cgroup::new(&format!("docker-{id}.scope"));
        require(cgroup.is_some(), "a cgroup v2 mount").then_some((cgroup?, id))
    }

    /// Below the mount that /proc/self/mountinfo names; none where cgroup v2 is not mounted.
    pub fn new(name: &str) -> Option<Cgroup> {
        let path = Cgroup::mount()?.join(name);
        std::fs::create_dir(&path).unwrap();
        Some(Cgroup(path))
    }

    pub fn mount() -> Option<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        line.split(' ').nth(4).map(PathBuf::from)
    }

    /// A command that runs in it from before its exec on.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0).arg(program);
        command
    }

    /// What the kernel knows it by.
    pub fn id(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&self.0).unwrap())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is busy until the last of its processes is reaped, and they are.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A disk of its own (a loop device): nobody else's requests come between those of the tests, nor theirs between its.
pub struct Disk {
    folder: TempDir,
    /// As /sys/block names it.
    pub name: String,
    /// Interrupts tell that a request is complete.
    _busy: BusyCpus,
}

impl Disk {
    pub fn make() -> Option<Disk> {
        Disk::make_as(None)
    }

    /// As a loop device that is free, or as this one.
    pub fn make_as(device: Option<&str>) -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let losetup =
            Command::new("losetup").arg(device.unwrap_or("--find")).arg("--show").arg(file).output();
        let shown = losetup.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        let shown = shown.and_then(|shown| String::from_utf8(shown).ok());
        let device = device.map(str::to_owned).or(shown);
        let name = device.as_deref().and_then(|device| device.trim().strip_prefix("/dev/"));
        require(name.is_some(), "loop devices").then(|| {
            let disk = Disk { name: name.unwrap().to_owned(), folder, _busy: BusyCpus::keep() };
            assert!(disk.schedule("none"));
            disk
        })
    }

    /// Gives it an I/O scheduler; false where the kernel doesn't have it.
    pub fn schedule(&self, scheduler: &str) -> bool {
        std::fs::write(format!("/sys/block/{}/queue/scheduler", self.name), scheduler).is_ok()
    }

    pub fn device(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// Direct reads by `dd` under another name.
    pub fn read(&self, name: &str, block: &str, count: u32) {
        self.dd(name, &[&format!("if={}", self.device()), "of=/dev/null", "iflag=direct"], block, count);
    }

    /// Direct writes by `dd` under another name.
    pub fn write(&self, name: &str, block: &str, count: u32) {
        self.dd(name, &["if=/dev/zero", &format!("of={}", self.device()), "oflag=direct"], block, count);
    }

    fn dd(&self, name: &str, arguments: &[&str], block: &str, count: u32) {
        let program = self.folder.path().join(name);
        if !program.exists() {
            std::fs::copy("/usr/bin/dd", &program).unwrap();
        }
        let mut dd = Command::new(program);
        dd.args(arguments).args([&format!("bs={block}"), &format!("count={count}"), "status=none"]);
        assert!(dd.status().unwrap().success(), "{dd:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device()]).status();
    }
}

/// A row of a file, by column.
#[derive(Debug, Clone)]
pub struct Row(HashMap<String, String>);

impl Collecting {
    /// Starts one collector; returns once every hook is attached.
    pub fn start(name: &'static str, settings: Settings) -> Collecting {
        Collecting::start_polling(name, settings, POLL)
    }

    /// Like [`Collecting::start`], taking the kernel's events at another interval.
    pub fn start_polling(name: &'static str, settings: Settings, interval: Duration) -> Collecting {
        Collecting::start_after(name, settings, interval, || ())
    }

    /// Like [`Collecting::start`], in a network namespace.
    pub fn start_in(namespace: &network::Namespace, name: &'static str, settings: Settings) -> Collecting {
        let path = namespace.path();
        Collecting::start_after(name, settings, POLL, move || network::enter(&path))
    }

    fn start_after(
        name: &'static str,
        settings: Settings,
        interval: Duration,
        prepare: impl FnOnce() + Send + 'static,
    ) -> Collecting {
        keep_log();
        let spool = tempfile::tempdir().unwrap();
        let root = spool.path().to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, started) = channel();
        let thread = spawn(move || {
            prepare();
            let mut collectors = collectors(&settings);
            collectors.retain(|collector| collector.name() == name);
            let mut scheduler = Scheduler::start(collectors, RowBatch::new(Arc::default())).unwrap();
            let mut spool = Spool::open(&root, Limits::default()).unwrap();
            assert_no_fault(&scheduler);
            ready.send(()).unwrap();
            while !stopped.load(Ordering::Acquire) {
                let own_processes = spool.processes().to_vec();
                scheduler.poll(&own_processes, &mut spool);
                assert_no_fault(&scheduler);
                flush(&mut spool);
                sleep(interval);
            }
            let own_processes = spool.processes().to_vec();
            scheduler.finish(&own_processes, &mut spool);
            assert_no_fault(&scheduler);
            flush(&mut spool);
            (scheduler.losses(), scheduler.rate_limited())
        });
        started.recv().expect("the collectors start");
        Collecting { spool, stop, thread }
    }

    /// The spool's folder.
    pub fn spool(&self) -> &Path {
        self.spool.path()
    }

    /// The rows written so far.
    pub fn rows(&self, metric: &str) -> Vec<Row> {
        read(self.spool.path(), metric)
    }

    /// Detaches, takes the rest, unloads.
    pub fn stop(self) -> Collected {
        self.stop.store(true, Ordering::Release);
        let (losses, rate_limited) = self.thread.join().unwrap();
        Collected { losses, rate_limited, spool: self.spool }
    }
}

fn assert_no_fault(scheduler: &Scheduler) {
    for state in scheduler.states() {
        assert_eq!(state.health.fault(), None, "{}", state.name);
    }
}

/// Flushes as the agent does, to which a thread for shedding that could not be started now is no failure: the kernel starts
/// none while another thread of the process execs, as that of a test does.
fn flush(spool: &mut Spool) {
    let busy = |e: &SpoolError| {
        let source = e.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|source| source.kind() == std::io::ErrorKind::WouldBlock)
    };
    let result = spool.flush();
    assert!(result.as_ref().err().is_none_or(busy), "{result:?}");
}

impl Collected {
    pub fn rows(&self, metric: &str) -> Vec<Row> {
        read(self.spool.path(), metric)
    }

    /// All that a metric lost in the kernel.
    pub fn lost(&self, metric: &str) -> u64 {
        self.losses.iter().filter(|loss| loss.metric == metric).map(|loss| loss.count).sum()
    }
}

impl Row {
    /// The column's text as it stands in the file.
    pub fn text(&self, column: &str) -> &str {
        self.0.get(column).unwrap_or_else(|| panic!("no column {column} in {self:?}"))
    }

    /// The column's bytes as the kernel gave them.
    pub fn bytes(&self, column: &str) -> Vec<u8> {
        unescape(self.text(column))
    }

    pub fn number(&self, column: &str) -> i64 {
        let text = self.text(column);
        text.parse().unwrap_or_else(|_| panic!("{column} '{text}' is no number in {self:?}"))
    }
}

fn read(spool: &Path, metric: &str) -> Vec<Row> {
    let Ok(entries) = std::fs::read_dir(spool.join(metric)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    paths.iter().flat_map(|path| rows(&std::fs::read(path).unwrap())).collect()
}

fn rows(text: &[u8]) -> Vec<Row> {
    let mut records = records(text).into_iter();
    let header = records.next().unwrap_or_default();
    records
        .map(|record| {
            assert_eq!(record.len(), header.len(), "{record:?}");
            Row(header.iter().cloned().zip(record).collect())
        })
        .collect()
}

fn records(mut text: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv_core::Reader::new();
    let (mut fields, mut ends) = (vec![0; 1 << 20], [0; 64]);
    let mut records = Vec::new();
    loop {
        let (result, read, _, count) = reader.read_record(text, &mut fields, &mut ends);
        if !matches!(result, csv_core::ReadRecordResult::Record) {
            return records;
        }
        let starts = std::iter::once(0).chain(ends);
        let field = |(start, end)| String::from_utf8(fields[start..end].to_vec()).unwrap();
        records.push(starts.zip(ends).take(count).map(field).collect());
        text = &text[read..];
    }
}
