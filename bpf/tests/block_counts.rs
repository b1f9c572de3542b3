//! bitesize: which requests count, that each counts once, and under which name.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, Disk, Programs, Row};
use kumon_bpf::Settings;
use kumon_testing::{require, require_bpf, require_program, wait_for};
use tempfile::TempDir;

const MIB: i64 = 1 << 20;

fn start() -> Collecting {
    let mut settings = Settings::default();
    settings.block.bitesize.interval = Duration::from_secs(60);
    settings.block.biolatency.interval = Duration::from_secs(60);
    Collecting::start("block", settings)
}

/// What a process's rows tell in sum, by name.
fn sums(collected: &Collected, pid: u32) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for row in collected.rows("bitesize").iter().filter(|row| row.text("pid") == pid.to_string()) {
        *sums.entry(row.text("name").to_owned()).or_default() += row.number("sum");
    }
    sums
}

/// All of it is told, once. Where the kernel issues a waiting request of somebody else's in an interrupt, that counts too.
#[track_caller]
fn assert_bytes(told: i64, expected: i64) {
    assert!((expected..=expected * 21 / 20).contains(&told), "{told} bytes told of {expected}");
}

/// Runs it to its end.
fn run(command: &mut Command) -> u32 {
    let mut child = command.spawn().unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    child.id()
}

fn python(script: &str, argument: &Path) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script]).arg(argument);
    python
}

#[test]
fn discards_and_written_zeroes_are_no_bytes_read_or_written() {
    if !require_bpf() || !require_program("blkdiscard") {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let collecting = start();
    let pids = [&["--length", "16MiB"][..], &["--zeroout", "--offset", "32MiB"]]
        .map(|options| run(Command::new("blkdiscard").args(options).arg(disk.device())));
    disk.write("kumon-writer", "64k", 20);
    let collected = collecting.stop();

    let of_disk = |row: &Row| row.text("disk") == disk.name;
    let operations: Vec<Row> = collected.rows("biolatency").into_iter().filter(of_disk).collect();
    for operation in ["discard", "other", "write"] {
        assert!(operations.iter().any(|row| row.text("operation") == operation), "{operations:?}");
    }
    for pid in pids {
        // The program itself may be read from its disk.
        let bytes: i64 = sums(&collected, pid).into_values().sum();
        assert!(bytes < 8 * MIB, "{pid}: {bytes}");
    }
    let written = collected.rows("bitesize").into_iter().filter(|row| row.text("name") == "kumon-writer");
    assert_bytes(written.map(|row| row.number("sum")).sum(), 20 * (64 << 10));
}

#[test]
fn each_request_counts_under_the_name_that_its_process_had() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let Some(disk) = Disk::make() else { return };
    let programs = Programs::new();
    let dd = programs.copy("/usr/bin/dd", "kumon-third");
    let script = "
import mmap, os, sys
disk, dd = sys.argv[1:]
place = mmap.mmap(-1, 1 << 20)
def read(count):
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    for i in range(count): assert os.preadv(fd, [place], i << 20) == 1 << 20
def rename(name): open('/proc/self/comm', 'w').write(name)
rename('kumon-first'); read(5)
rename('kumon-second'); read(11)
rename('kumon-first'); read(2)
os.execv(dd, [dd, 'if=' + disk, 'of=/dev/null', 'iflag=direct', 'bs=1M', 'count=23', 'status=none'])
";
    // What it takes to start it is read before.
    run(Command::new(&dd).args(["if=/dev/null", "of=/dev/null", "status=none"]));
    let collecting = start();
    let pid = run(python(script, Path::new(&disk.device())).arg(&dd));
    let collected = collecting.stop();
    let mut sums = sums(&collected, pid);
    sums.retain(|name, _| name.starts_with("kumon-"));
    assert_eq!(sums.keys().collect::<Vec<_>>(), ["kumon-first", "kumon-second", "kumon-third"]);
    for (told, mib) in sums.into_values().zip([7, 11, 23]) {
        assert_bytes(told, mib * MIB);
    }
}

/// A program none of whose pages is in memory; none where the temporary folder isn't on a disk.
fn unread(programs: &Programs, name: &str) -> PathBuf {
    let program = programs.copy("/bin/true", name);
    let file = fs::File::open(&program).unwrap();
    file.sync_all().unwrap();
    // SAFETY: it takes numbers and no pointer.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(result, 0);
    program
}

#[test]
fn a_program_that_is_read_when_it_is_started_has_its_own_name() {
    if !require_bpf() {
        return;
    }
    let programs = Programs::new();
    let collecting = start();
    let read = unread(&programs, "kumon-unread");
    let by_shell = unread(&programs, "kumon-by-shell");
    let refused = unread(&programs, "kumon-refused");
    fs::write(&refused, b"\x7fELF and nothing that could be run").unwrap();
    unread(&programs, "kumon-refused");
    let started = run(&mut Command::new(&read));
    let replaced = run(Command::new("sh").args(["-c", "exec \"$0\""]).arg(&by_shell));
    assert!(Command::new(&refused).spawn().is_err());
    let collected = collecting.stop();
    let (started, replaced) = (sums(&collected, started), sums(&collected, replaced));
    if !require(!started.is_empty(), "a temporary folder on a disk") {
        return;
    }
    assert_eq!(started.keys().collect::<Vec<_>>(), ["kumon-unread"]);
    assert!(replaced.contains_key("kumon-by-shell"), "{replaced:?}");
    // An exec that fails leaves the process what it was.
    assert!(collected.rows("bitesize").iter().all(|row| !row.text("name").is_empty()));
}

/// Reads in more threads than the disk has room for: it gives some of the requests back.
const READ_BY_MANY: &str = "
import mmap, os, sys, threading
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
open('/proc/self/comm', 'w').write('kumon-many')
def read(number):
    place = mmap.mmap(-1, 1 << 20)
    for i in range(16): assert os.preadv(file, [place], (number * 7 + i * 3) % 32 << 20) == 1 << 20
threads = [threading.Thread(target=read, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";

#[test]
fn a_request_that_the_driver_gives_back_counts_once() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let disk = BusyDisk::make();
    let collecting = start();
    let pid = run(&mut python(READ_BY_MANY, &disk.path));
    let collected = collecting.stop();
    let told = sums(&collected, pid).remove("kumon-many");
    if require(told.is_some(), "a temporary folder on a disk") {
        assert_bytes(told.unwrap(), 16 * 16 * MIB);
    }
}

/// What is read from it comes from a disk that is often busy: scsi_debug's where the kernel has it, which says so to each
/// third command, else the one of the temporary folder, with more requests than its queue may have room for.
struct BusyDisk {
    path: PathBuf,
    folder: TempDir,
}

impl BusyDisk {
    fn make() -> BusyDisk {
        // SDEBUG_OPT_HOST_BUSY of drivers/scsi/scsi_debug.c.
        let parameters = ["dev_size_mb=40", "opts=0x8000", "every_nth=3", "delay=0", "max_queue=8"];
        let loaded = Command::new("modprobe").arg("scsi_debug").args(parameters).status();
        let folder = tempfile::tempdir().unwrap();
        if loaded.is_ok_and(|status| status.success()) {
            let mut found = None;
            wait_for("the disk of scsi_debug", Duration::from_secs(60), || {
                found = scsi_debug();
                found.is_some()
            });
            return BusyDisk { path: found.unwrap(), folder };
        }
        let path = folder.path().join("busy");
        fs::write(&path, vec![1; 32 << 20]).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
        BusyDisk { path, folder }
    }
}

impl Drop for BusyDisk {
    fn drop(&mut self) {
        if !self.path.starts_with(self.folder.path()) {
            let _ = Command::new("modprobe").args(["--remove", "scsi_debug"]).status();
        }
    }
}

/// The device of scsi_debug, as its model says.
fn scsi_debug() -> Option<PathBuf> {
    let disks = fs::read_dir("/sys/block").unwrap().flatten();
    let mut disks = disks.filter(|disk| {
        let model = fs::read_to_string(disk.path().join("device/model"));
        model.is_ok_and(|model| model.trim() == "scsi_debug")
    });
    let device = Path::new("/dev").join(disks.next()?.file_name());
    device.exists().then_some(device)
}
