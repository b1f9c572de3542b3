//! filelife against the original of libbpf-tools and filegone against bcc's, at the same time on the same load.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use common::{Collecting, Original, Row, file_settings, kernel_has_kprobes};
use kumon_bpf::{Enabled, Settings};
use kumon_testing::{require, require_bpf, require_program, time_scale, wait_for};

const FILES: usize = 100;

/// Deletes files until an original has shown one: from then on it sees everything.
fn wait_until_it_sees(original: &Original, folder: &Path) {
    wait_for("the original's first event", Duration::from_secs(60), || {
        let first = folder.join("first");
        fs::write(&first, "").unwrap();
        fs::remove_file(&first).unwrap();
        original.lines().iter().any(|line| line.ends_with("first"))
    });
}

#[test]
fn short_lived_files_are_those_that_filelife_sees() {
    if !require_bpf() || !require_program("filelife") {
        return;
    }
    if !kernel_has_kprobes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let original = Original::start("filelife");
    wait_until_it_sees(&original, folder.path());
    let mut settings = Settings::default();
    settings.file.filelife.enabled = Enabled::Yes;
    // The files are made by this very process.
    settings.exclude_self = false;
    let collecting = Collecting::start("file", settings);
    for i in 0..FILES {
        let path = folder.path().join(format!("kumon-life-{i}"));
        fs::write(&path, "").unwrap();
        sleep(Duration::from_millis(i as u64 % 5 * 10));
        fs::remove_file(&path).unwrap();
    }
    let rows = collecting.stop().rows("filelife");

    // TIME PID COMM AGE(s) FILE
    let theirs: BTreeMap<String, f64> = original
        .stop_after(FILES, |line| line.contains("kumon-life-"))
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[words.len() - 1].to_owned(), words[words.len() - 2].parse().unwrap())
        })
        .collect();
    let ours: BTreeMap<String, f64> = rows
        .iter()
        .filter_map(|row| {
            let name = row.text("path").rsplit_once('/')?.1;
            name.starts_with("kumon-life-").then(|| (name.to_owned(), row.number("age") as f64 / 1e9))
        })
        .collect();
    assert_eq!(theirs.len(), FILES);
    assert!(ours.keys().eq(theirs.keys()), "{ours:?} {theirs:?}");
    for (name, age) in theirs {
        // It shows hundredths of a second; the calls themselves, which only one of the two counts in, take long on an
        // emulated processor.
        assert!((ours[&name] - age).abs() <= 0.02 * f64::from(time_scale()), "{name}: {} {age}", ours[&name]);
    }
}

/// Whether bcc can compile for the running kernel: it needs the kernel's headers.
fn require_kernel_headers() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let headers = Path::new("/lib/modules").join(release).join("build/include");
    require(headers.exists(), "the kernel's headers")
}

/// Deletes and renames in each way that filegone has an action for, and prints what the original should tell of it: who,
/// action and names. It knows neither an exchange from a rename nor a folder from a file, and shows the first 31 bytes of
/// a name. What fails is not told: the names are not there any more.
const LOAD: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None)
def make(path): os.close(os.open(path, os.O_CREAT))
def told(*what): print(os.getpid(), 'python3', *what)
def fails(call, path):
    try: call(path)
    except FileNotFoundError: return
    sys.exit(f'{path} was there')
for i in range(int(sys.argv[1])):
    old, new = f'kumon-gone-{i}-old', f'kumon-gone-{i}-new'
    make(new)
    if i % 4 == 0:
        os.unlink(new)
        told('DELETE', new)
        fails(os.unlink, new)
    elif i % 4 == 1:
        os.mkdir(old)
        os.rmdir(old)
        told('DELETE', old)
        fails(os.rmdir, old)
    else:
        make(old)
        if i % 4 == 2: os.rename(old, new)
        else: assert libc.renameat2(-100, old.encode(), -100, new.encode(), 2) == 0
        told('RENAME', old, '>', new)
";

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// A row of filegone as the original tells it.
fn as_the_original(row: &Row) -> Option<String> {
    let name = |column: &str| row.text(column).rsplit_once('/').map(|(_, name)| name.to_owned());
    let old = name("path").filter(|name| name.starts_with("kumon-gone-"))?;
    let what = match row.text("action") {
        "unlink" | "rmdir" => format!("DELETE {old}"),
        "rename" | "exchange" => format!("RENAME {old} > {}", name("new_path")?),
        other => panic!("action {other}"),
    };
    Some(format!("{} {} {what}", row.text("pid"), row.text("name")))
}

#[test]
fn deletions_and_renames_are_those_that_filegone_sees() {
    if !require_bpf()
        || !require_program("filegone-bpfcc")
        || !kernel_has_kprobes()
        || !require_kernel_headers()
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // -u: it doesn't buffer its lines.
    let original = Original::start("python3 -u /usr/sbin/filegone-bpfcc");
    wait_until_it_sees(&original, folder.path());
    // By each kind of hooks that the kernel has, at the same time.
    let hooks = file_settings();
    let collecting: Vec<_> =
        hooks.iter().map(|settings| Collecting::start("file", settings.clone())).collect();
    let mut load = Command::new("/usr/bin/python3");
    load.args(["-c", LOAD, &FILES.to_string()]).current_dir(folder.path());
    let load = load.output().unwrap();
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));
    let expected = sorted(String::from_utf8(load.stdout).unwrap().lines().map(str::to_owned).collect());
    assert_eq!(expected.len(), FILES);

    // TIME PID COMM ACTION FILE
    let without_time = |line: &String| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    let lines = original.lines_of(FILES, |line| line.contains("kumon-gone-"));
    assert_eq!(sorted(lines.iter().map(without_time).collect()), expected);
    for (settings, collecting) in hooks.iter().zip(collecting) {
        let collected = collecting.stop();
        let ours = collected.rows("filegone").iter().filter_map(as_the_original).collect();
        assert_eq!(sorted(ours), expected, "by {:?}", settings.file.file_hooks);
        assert_eq!(collected.lost("filegone"), 0);
    }
    // Not asked to end: where it is just printing, it takes no notice.
    drop(original);
}
