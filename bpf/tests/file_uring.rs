//! filelife and filegone where files are opened, deleted and renamed by io_uring.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Collected, Collecting, file_settings, kernel_is_at_least};
use kumon_bpf::{FileHooks, collectors};
use tempfile::TempDir;

/// The first Linux whose io_uring deletes and renames.
const REMOVALS: (u32, u32) = (5, 11);

/// A ring of one's own, by the system calls and the layout of include/uapi/linux/io_uring.h.
const RING: &str = "
import ctypes, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
SETUP, ENTER, GET_EVENTS, CWD, REMOVE_DIR = 425, 426, 1, -100, 0x200
OPENAT, CLOSE, OPENAT2, RENAMEAT, UNLINKAT, ASYNC = 18, 19, 28, 35, 36, 1 << 4
parameters = ctypes.create_string_buffer(120)
ring = libc.syscall(SETUP, 8, parameters)
if ring < 0: sys.exit(77)
def number(offset): return struct.unpack_from('<I', parameters, offset)[0]
sq = mmap.mmap(ring, number(64) + 4 * number(0), offset=0)
cq = mmap.mmap(ring, number(100) + 16 * number(4), offset=0x8000000)
sqes = mmap.mmap(ring, 64 * number(0), offset=0x10000000)
keep = []
def pointer(what):
    keep.append(what)
    return ctypes.cast(what, ctypes.c_void_p).value
def path(name): return pointer(ctypes.create_string_buffer(os.fsencode(name)))
def call(operation, fd, address, length=0, offset=0, flags=0, how=0):
    tail, = struct.unpack_from('<I', sq, number(44))
    index = tail % number(0)
    sqes[64 * index:64 * index + 64] = struct.pack('<BBHiQQIIQ24x', operation, how, 0, fd, offset, address, length, flags, 7)
    struct.pack_into('<I', sq, number(64) + 4 * index, index)
    struct.pack_into('<I', sq, number(44), tail + 1)
    assert libc.syscall(ENTER, ring, 1, 1, GET_EVENTS, None, 0) == 1
    head, = struct.unpack_from('<I', cq, number(80))
    _, result, _ = struct.unpack_from('<QiI', cq, number(100) + 16 * (head % number(4)))
    struct.pack_into('<I', cq, number(80), head + 1)
    return result
def create(name, how=0):
    fd = call(OPENAT, CWD, path(name), 0o600, 0, os.O_CREAT | os.O_WRONLY, how)
    assert fd >= 0 and call(CLOSE, fd, 0) == 0
def create2(name):
    fd = call(OPENAT2, CWD, path(name), 24, pointer((ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o600, 0)))
    assert fd >= 0 and call(CLOSE, fd, 0) == 0
def look(name):
    fd = call(OPENAT, CWD, path(name), 0, 0, os.O_RDONLY)
    if fd >= 0: os.close(fd)
def unlink(name, how=0): assert call(UNLINKAT, CWD, path(name), how=how) == 0
def rmdir(name): assert call(UNLINKAT, CWD, path(name), flags=REMOVE_DIR) == 0
def rename(old, new): assert call(RENAMEAT, CWD, path(old), CWD & 0xffffffff, path(new)) == 0
";

/// A folder whose path has no symbolic links.
struct Folder {
    _folder: TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        Folder { _folder: folder, path }
    }

    /// Runs a script with a ring; none where the kernel lets nobody have one.
    fn with_ring(&self, script: &str) -> Option<u32> {
        let mut python = Command::new("/usr/bin/python3");
        let python = python.args(["-c", &format!("{RING}{script}")]).current_dir(&self.path);
        let mut child = python.spawn().unwrap();
        let status = child.wait().unwrap();
        if status.code() == Some(77) {
            eprintln!("skipped: io_uring is switched off (kernel.io_uring_disabled)");
            return None;
        }
        assert!(status.success(), "{script}");
        Some(child.id())
    }

    /// Action and path of a metric's rows in the folder, which all are of this process.
    fn rows(&self, collected: &Collected, metric: &str, pid: u32) -> Vec<String> {
        let mut told = Vec::new();
        for row in collected.rows(metric) {
            let Ok(path) = Path::new(row.text("path")).strip_prefix(&self.path) else { continue };
            assert_eq!((row.text("pid"), row.text("name")), (pid.to_string().as_str(), "python3"), "{row:?}");
            told.push(format!("{} {}", row.text("action"), path.display()));
        }
        told
    }
}

fn by_io_uring(collected: &Collected, metric: &str) -> Option<u64> {
    let mut losses = collected.losses.iter();
    losses.find(|loss| loss.metric == metric && loss.reason == "call by io_uring").map(|loss| loss.count)
}

#[test]
fn calls_by_io_uring_have_rows_or_are_counted_where_only_system_calls_are_seen() {
    if !kernel_is_at_least(REMOVALS) {
        return;
    }
    for settings in file_settings() {
        let folder = Folder::new();
        let collecting = Collecting::start("file", settings.clone());
        // By the caller itself, and by a worker of its ring.
        let script = "
os.mkdir('folder'); look('folder'); look('none')
create('here'); unlink('here')
create('aside', ASYNC); unlink('aside', ASYNC)
create2('old'); rename('old', 'new'); unlink('new')
rmdir('folder')";
        let Some(pid) = folder.with_ring(script) else { return };
        let collected = collecting.stop();
        let (lives, gone) =
            (folder.rows(&collected, "filelife", pid), folder.rows(&collected, "filegone", pid));
        if settings.file.file_hooks == FileHooks::Tracepoint {
            assert_eq!((lives, gone), (Vec::new(), Vec::new()));
            // Of the opens only those that may create; which ones they are is not known before 6.0.
            let opens = if kernel_is_at_least((6, 0)) { 3 } else { 5 };
            assert_eq!(by_io_uring(&collected, "filelife"), Some(opens + 5));
            assert_eq!(by_io_uring(&collected, "filegone"), Some(5));
        } else {
            assert_eq!(lives, ["unlink here", "unlink aside", "unlink new"]);
            assert_eq!(gone, ["unlink here", "unlink aside", "rename old", "unlink new", "rmdir folder"]);
            assert_eq!(by_io_uring(&collected, "filelife"), None);
        }
    }
}

#[test]
fn creations_by_io_uring_and_a_filter_are_counted_apart() {
    for settings in file_settings() {
        if settings.file.file_hooks != FileHooks::Tracepoint {
            continue;
        }
        let folder = Folder::new();
        let with = |comm: &str| {
            let mut settings = settings.clone();
            settings.file.filegone.filter =
                serde_json::from_value(serde_json::json!({"comm": [comm]})).unwrap();
            Collecting::start("file", settings)
        };
        let collecting = [with("python3"), with("nobody")];
        let removals = u64::from(kernel_is_at_least(REMOVALS));
        let script = ["create('f')", "create('f'); unlink('f')"][removals as usize];
        if folder.with_ring(script).is_none() {
            return;
        }
        let [seen, unseen] = collecting.map(Collecting::stop);
        let counts = |of: &Collected| ["filelife", "filegone"].map(|metric| by_io_uring(of, metric).unwrap());
        assert_eq!(counts(&seen), [1 + removals, removals]);
        assert_eq!(counts(&unseen), [1 + removals, 0]);
    }
}

#[test]
fn check_says_that_calls_by_io_uring_are_only_counted() {
    for settings in file_settings() {
        let all = collectors(&settings);
        let file = all.iter().find(|collector| collector.name() == "file").unwrap();
        let hooks = file.probe().into_iter().filter(|hook| hook.event.starts_with("io_uring_"));
        let said: Vec<_> = hooks.map(|hook| hook.strategy).collect();
        let only_counts = || Ok("tp_btf, only counts calls by io_uring: they are not looked into");
        let expected = (settings.file.file_hooks == FileHooks::Tracepoint).then(only_counts);
        assert_eq!(said, expected.into_iter().collect::<Vec<_>>(), "{:?}", settings.file.file_hooks);
    }
}
