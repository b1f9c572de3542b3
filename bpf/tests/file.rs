//! filelife and filegone against what processes did to files of known names.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Collected, Collecting, Row, file_settings};
use kumon_bpf::{FileHooks, Settings};
use tempfile::TempDir;

/// System calls that Python has no function for, by the numbers of x86-64.
const CALLS: &str = "
import ctypes, errno, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
CWD, NOREPLACE, EXCHANGE = -100, 1, 2
def call(*args): return libc.syscall(*[ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in args])
def old_open(path): return call(2, path, os.O_CREAT | os.O_WRONLY, 0o600)
def creat(path): return call(85, path, 0o600)
how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o600, 0)
def openat2(path): return call(437, CWD, path, ctypes.addressof(how), 24)
def renameat2(old, new, flags): return call(316, CWD, old, CWD, new, flags)
def make(path): os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
def now(): return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
";

/// Runs a test by each kind of hooks that the kernel has.
fn with_all_hooks(test: impl Fn(&Settings)) {
    for settings in file_settings() {
        eprintln!("by {:?}", settings.file.file_hooks);
        test(&settings);
    }
}

/// Whether paths are those of the files themselves.
fn tells_exact_paths(settings: &Settings) -> bool {
    settings.file.file_hooks != FileHooks::Tracepoint
}

/// Runs a Python script in a folder, which it gets as its argument too; returns its pid and what it printed.
fn python(folder: &Path, script: &str) -> (i64, Vec<i64>) {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &format!("{CALLS}{script}")]).arg(folder).current_dir(folder).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id().into();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    let text = String::from_utf8(output.stdout).unwrap();
    (pid, text.split_whitespace().map(|word| word.parse().unwrap()).collect())
}

/// A folder whose path has no symbolic links.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

/// The rows of a metric whose path lies in the folder, paths without it.
fn inside(collected: &Collected, metric: &str, folder: &Path) -> Vec<(Vec<u8>, Row)> {
    let folder = [folder.as_os_str().as_bytes(), b"/"].concat();
    let rest = |row: Row| Some((row.bytes("path").strip_prefix(folder.as_slice())?.to_vec(), row));
    collected.rows(metric).into_iter().filter_map(rest).collect()
}

/// Action, path and new path of the filegone rows in the folder.
fn gone(collected: &Collected, folder: &Path) -> Vec<(String, String, String)> {
    let own = format!("{}/", folder.display());
    inside(collected, "filegone", folder)
        .into_iter()
        .map(|(path, row)| {
            let new_path = row.text("new_path");
            let new_path = new_path.strip_prefix(&own).unwrap_or(new_path).to_owned();
            (row.text("action").to_owned(), String::from_utf8(path).unwrap(), new_path)
        })
        .collect()
}

/// Action and path of the filelife rows in the folder.
fn lives(collected: &Collected, folder: &Path) -> Vec<(String, String)> {
    let row = |(path, row): (Vec<u8>, Row)| (row.text("action").to_owned(), String::from_utf8(path).unwrap());
    inside(collected, "filelife", folder).into_iter().map(row).collect()
}

fn expected(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    rows.iter().map(|(action, old, new)| (action.to_string(), old.to_string(), new.to_string())).collect()
}

#[test]
fn each_short_lived_file_has_one_row_with_its_age_its_creator_and_its_deleter() {
    with_all_hooks(|settings| {
        const FILES: usize = 40;
        let (_folder, folder) = folder();
        let collecting = Collecting::start("file", settings.clone());
        // Four ways to create a file; each call that returned is followed by the time.
        let (creator, created) = python(
            &folder,
            &format!(
                "for i in range({FILES}):
    create = [make, old_open, creat, openat2][i % 4]
    assert create(os.fsencode(sys.argv[1]) + b'/file-%d' % i) != -1
    print(now())"
            ),
        );
        let (deleter, deleted) = python(
            &folder,
            &format!(
                "time.sleep(0.4)
folder = os.open('.', os.O_PATH)
for i in range({FILES}):
    if i % 2: os.unlink(f'file-{{i}}', dir_fd=folder)
    else: os.unlink(f'{{sys.argv[1]}}/file-{{i}}')
    print(now())"
            ),
        );
        let collected = collecting.stop();
        assert_eq!((collected.lost("filelife"), collected.lost("filegone")), (0, 0));

        let (lives, gone) =
            (inside(&collected, "filelife", &folder), inside(&collected, "filegone", &folder));
        assert_eq!((lives.len(), gone.len()), (FILES, FILES));
        for i in 0..FILES {
            let path = format!("file-{i}").into_bytes();
            let of_file = |rows: &[(Vec<u8>, Row)]| {
                let mut rows: Vec<Row> =
                    rows.iter().filter(|(of, _)| *of == path).map(|(_, row)| row.clone()).collect();
                assert_eq!(rows.len(), 1, "{rows:?}");
                rows.remove(0)
            };
            let (life, gone) = (of_file(&lives), of_file(&gone));
            let (age, truth) = (life.number("age"), deleted[i] - created[i]);
            assert!((age - truth).abs() * 20 <= truth, "file {i}: age {age}, it lived {truth}");
            assert_eq!((life.number("creator_pid"), life.number("pid")), (creator, deleter));
            assert_eq!((life.text("creator_name"), life.text("name")), ("python3", "python3"));
            assert_ne!(life.text("creator_entity_id"), life.text("entity_id"));
            assert_eq!(life.text("action"), "unlink");
            assert_eq!(life.number("uid"), i64::from(rustix::process::getuid().as_raw()));
            assert_eq!(gone.text("action"), "unlink");
            assert_eq!(gone.text("entity_id"), life.text("entity_id"));
            assert_eq!((gone.text("new_path"), gone.text("incomplete")), ("", "false"));
        }
    });
}

#[test]
fn a_file_that_was_there_before_is_gone_but_was_not_short_lived() {
    with_all_hooks(|settings| {
        let (_folder, folder) = folder();
        fs::write(folder.join("before"), "old").unwrap();
        let collecting = Collecting::start("file", settings.clone());
        // Opening it with O_CREAT creates nothing; a file without a name, where the file system has such, has none to lose.
        python(
            &folder,
            "make('before'); os.unlink('before')
try: os.close(os.open('.', os.O_TMPFILE | os.O_WRONLY))
except OSError as e: assert e.errno == errno.EOPNOTSUPP
os.mkdir('folder'); os.rmdir('folder')
os.mkdir('folder'); os.rmdir('folder', dir_fd=os.open('.', os.O_PATH))",
        );
        let collected = collecting.stop();
        assert_eq!(lives(&collected, &folder), []);
        let rows = [("unlink", "before", ""), ("rmdir", "folder", ""), ("rmdir", "folder", "")];
        assert_eq!(gone(&collected, &folder), expected(&rows));
    });
}

#[test]
fn renames_tell_both_paths_and_a_files_life_goes_on() {
    with_all_hooks(|settings| {
        let (_folder, folder) = folder();
        let collecting = Collecting::start("file", settings.clone());
        python(
            &folder,
            "os.makedirs('sub/inner')
here, sub = os.open('.', os.O_PATH), os.open('sub', os.O_PATH)
for name in ['a', 'b', 'c', 'sub/x', 'sub/y']: make(name)
os.rename('a', sys.argv[1] + '/a2')
os.rename('x', '../sub//./x2', src_dir_fd=sub, dst_dir_fd=sub)
os.chdir('sub/inner')
os.rename('../y', '../../y2')
os.chdir(sys.argv[1])
assert renameat2(b'b', b'c', NOREPLACE) == -1
assert renameat2(b'b', b'b2', NOREPLACE) == 0
assert renameat2(b'b2', b'sub', EXCHANGE) == 0
os.rename('y2', 'c')
os.unlink('a2'); os.unlink('b2/x2'); os.unlink('sub'); os.unlink('c')",
        );
        let collected = collecting.stop();
        let rows = [
            ("rename", "a", "a2"),
            ("rename", "sub/x", "sub/x2"),
            ("rename", "sub/y", "y2"),
            ("rename", "b", "b2"),
            ("exchange", "b2", "sub"),
            ("rename", "y2", "c"),
            ("unlink", "a2", ""),
            ("unlink", "b2/x2", ""),
            ("unlink", "sub", ""),
            ("unlink", "c", ""),
        ];
        assert_eq!(gone(&collected, &folder), expected(&rows));
        let rows =
            [("replace", "c"), ("unlink", "a2"), ("unlink", "b2/x2"), ("unlink", "sub"), ("unlink", "c")];
        let rows = rows.map(|(action, path)| (action.to_owned(), path.to_owned()));
        assert_eq!(lives(&collected, &folder), rows);
    });
}

#[test]
fn a_file_is_found_through_symbolic_links_and_in_a_chroot() {
    with_all_hooks(|settings| {
        let (_folder, folder) = folder();
        let collecting = Collecting::start("file", settings.clone());
        python(
            &folder,
            "os.mkdir('real'); os.symlink('real', 'link')
make('link/f'); make('real/g')
os.unlink('real/f'); os.unlink('link/g')
os.chroot('real'); os.chdir('/')
make('/../h'); os.unlink('/h')",
        );
        let collected = collecting.stop();
        let asked = if tells_exact_paths(settings) { "real/g" } else { "link/g" };
        let rows = [("unlink", "real/f", ""), ("unlink", asked, ""), ("unlink", "real/h", "")];
        assert_eq!(gone(&collected, &folder), expected(&rows));
        let rows = ["real/f", "real/g", "real/h"].map(|path| ("unlink".to_owned(), path.to_owned()));
        assert_eq!(lives(&collected, &folder), rows);
    });
}

#[test]
fn paths_lead_through_mounts_and_other_mount_namespaces() {
    with_all_hooks(|settings| {
        let (_folder, folder) = folder();
        let collecting = Collecting::start("file", settings.clone());
        python(
            &folder,
            "NEW_MOUNTS, PRIVATE = 0x20000, (1 << 18) | (1 << 14)
assert libc.unshare(NEW_MOUNTS) == 0
assert libc.mount(b'none', b'/', None, PRIVATE, None) == 0
os.mkdir('mount')
assert libc.mount(b'tmpfs', b'mount', b'tmpfs', 0, None) == 0
os.mkdir('mount/inner'); os.chdir('mount/inner')
make('f'); os.unlink('f')
make(sys.argv[1] + '/mount/g'); os.unlink('../g')",
        );
        let collected = collecting.stop();
        let paths = ["mount/inner/f", "mount/g"];
        assert_eq!(gone(&collected, &folder), expected(&paths.map(|path| ("unlink", path, ""))));
        assert_eq!(lives(&collected, &folder), paths.map(|path| ("unlink".to_owned(), path.to_owned())));
    });
}

#[test]
fn hostile_and_long_paths_come_back_byte_by_byte() {
    with_all_hooks(|settings| {
        let (_folder, folder) = folder();
        let hostile = b"a,b\"\n=1+1\xff\\xff\xc3\x28";
        let mut long = vec![b'l'; 255];
        for _ in 0..13 {
            long.extend_from_slice(&[b"/".to_vec(), vec![b'd'; 255]].concat());
        }
        let deep = folder.join(OsStr::from_bytes(&long));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(folder.join(OsStr::from_bytes(hostile))).unwrap();

        let collecting = Collecting::start("file", settings.clone());
        python(
            &folder,
            "here = os.fsencode(sys.argv[1])
hostile = b'a,b\"\\n=1+1\\xff\\\\xff\\xc3\\x28'
os.chdir(here + b'/' + hostile)
make(hostile); os.unlink(hostile)
os.chdir(here)
long = b'l' * 255 + (b'/' + b'd' * 255) * 13 + b'/end'
make(long); os.rename(long, long + b'2'); os.unlink(here + b'/' + long + b'2')
os.chdir(long[:-4])
for _ in range(6): os.mkdir('m' * 255); os.chdir('m' * 255)
make('too-deep'); os.unlink('too-deep')",
        );
        let collected = collecting.stop();
        let hostile = [&hostile[..], b"/", hostile].concat();
        let (end, end2) = ([&long[..], b"/end"].concat(), [&long[..], b"/end2"].concat());
        let paths = |metric| {
            inside(&collected, metric, &folder).into_iter().map(|(path, _)| path).collect::<Vec<_>>()
        };
        assert_eq!(paths("filelife"), [hostile.clone(), end2.clone()]);
        assert_eq!(paths("filegone"), [hostile, end, end2]);
        // Longer than any path the kernel takes at once: told by its last part.
        let rows = collected.rows("filegone");
        let row = rows.iter().find(|row| row.text("path").ends_with("/too-deep")).unwrap();
        assert_eq!(row.text("incomplete"), "true");
        assert!(row.text("path").len() > 3000);
    });
}

#[test]
fn what_fails_has_no_row() {
    with_all_hooks(|settings| {
        let (_folder, folder) = folder();
        let collecting = Collecting::start("file", settings.clone());
        python(
            &folder,
            "os.mkdir('full'); make('full/kept')
for attempt in [lambda: os.unlink('none'), lambda: os.unlink('full'), lambda: os.rmdir('full'),
    lambda: os.rmdir('full/kept'), lambda: os.rename('none', 'new'), lambda: os.rename('full', 'full/kept/x'),
    lambda: os.unlink('kept', dir_fd=99), lambda: make('none/x')]:
    try: attempt()
    except OSError: continue
    raise AssertionError('it should have failed')
assert libc.unlink(ctypes.c_void_p(8)) == -1",
        );
        let collected = collecting.stop();
        assert_eq!(gone(&collected, &folder), []);
        assert_eq!(lives(&collected, &folder), []);
    });
}

#[test]
fn each_metric_runs_without_the_other() {
    with_all_hooks(|settings| {
        for (filelife, filegone) in [(true, false), (false, true)] {
            let (_folder, folder) = folder();
            let mut settings = settings.clone();
            settings.file.filelife.enabled = filelife.into();
            settings.file.filegone.enabled = filegone.into();
            let collecting = Collecting::start("file", settings);
            python(&folder, "make('f'); os.unlink('f'); os.mkdir('d'); os.rmdir('d')");
            let collected = collecting.stop();
            assert_eq!(lives(&collected, &folder).len(), usize::from(filelife));
            assert_eq!(gone(&collected, &folder).len(), 2 * usize::from(filegone));
            assert!(collected.losses.iter().all(|loss| (loss.metric == "filelife") == filelife));
        }
    });
}
