//! filelife and filegone where one file has several names, none, or keeps living without one.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Collected, Collecting, Row, file_settings, with_budget};
use kumon_bpf::{FileHooks, Settings};
use serde_json::json;
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";

/// A folder whose path has no symbolic links, and scripts that run in it.
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

    fn python(&self, script: &str) -> String {
        let script = format!(
            "import os, sys\ndef make(path): os.close(os.open(path, os.O_CREAT | os.O_WRONLY))\n{script}"
        );
        let mut python = Command::new(PYTHON);
        let output = python.args(["-c", &script]).current_dir(&self.path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Action, path and size of a metric's rows in the folder.
    fn rows(&self, collected: &Collected, metric: &str) -> Vec<(String, String, String)> {
        let inside = |row: &Row| {
            Some(Path::new(row.text("path")).strip_prefix(&self.path).ok()?.display().to_string())
        };
        let row =
            |row: Row| Some((row.text("action").to_owned(), inside(&row)?, row.text("size").to_owned()));
        collected.rows(metric).into_iter().filter_map(row).collect()
    }
}

/// Rows as they are expected: sizes are known by functions of the kernel only.
fn expected(settings: &Settings, rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let knows_sizes = settings.file.file_hooks != FileHooks::Tracepoint;
    let size = |size: &str| if knows_sizes { size.to_owned() } else { String::new() };
    rows.iter().map(|(action, path, bytes)| (action.to_string(), path.to_string(), size(bytes))).collect()
}

#[test]
fn the_size_is_that_at_the_deletion_also_of_an_open_file() {
    for settings in file_settings() {
        let folder = Folder::new();
        let collecting = Collecting::start("file", settings.clone());
        folder.python(
            "f = open('grown', 'wb', buffering=0)
f.write(b'x' * 5000)
os.unlink('grown')
f.write(b'x' * 5000); f.close()
make('empty'); os.unlink('empty')
os.symlink('target', 'link'); os.unlink('link')
open('old', 'wb').write(b'x' * 70000); make('new'); os.rename('new', 'old')
os.mkdir('folder'); os.rename('folder', 'folder2'); os.rmdir('folder2'); os.unlink('old')",
        );
        let collected = collecting.stop();
        let gone = [
            ("unlink", "grown", "5000"),
            ("unlink", "empty", "0"),
            ("unlink", "link", "6"),
            ("rename", "new", "70000"),
            ("rename", "folder", ""),
            ("rmdir", "folder2", ""),
            ("unlink", "old", "0"),
        ];
        assert_eq!(folder.rows(&collected, "filegone"), expected(&settings, &gone));
        let lives = [
            ("unlink", "grown", "5000"),
            ("unlink", "empty", "0"),
            ("replace", "old", "70000"),
            ("unlink", "old", "0"),
        ];
        assert_eq!(folder.rows(&collected, "filelife"), expected(&settings, &lives));
    }
}

#[test]
fn of_several_hard_links_each_deletion_is_told_and_the_created_name_has_the_life() {
    for settings in file_settings() {
        let folder = Folder::new();
        let collecting = Collecting::start("file", settings.clone());
        folder.python(
            "make('first'); os.link('first', 'second'); os.link('first', 'third')
os.rename('second', 'third')
os.unlink('second'); os.unlink('first'); os.unlink('third')",
        );
        let collected = collecting.stop();
        let mut gone = folder.rows(&collected, "filegone");
        // The rename did nothing: both are the same file. Only a function of the kernel knows that.
        gone.retain(|(action, ..)| action != "rename");
        let rows = [("unlink", "second", "0"), ("unlink", "first", "0"), ("unlink", "third", "0")];
        assert_eq!(gone, expected(&settings, &rows));
        assert_eq!(folder.rows(&collected, "filelife"), expected(&settings, &[("unlink", "first", "0")]));
    }
}

#[test]
fn a_file_without_a_name_is_told_once_it_loses_one() {
    for settings in file_settings() {
        let folder = Folder::new();
        let collecting = Collecting::start("file", settings.clone());
        folder.python(
            "f = os.open('.', os.O_TMPFILE | os.O_WRONLY)
os.write(f, b'abc')
import ctypes
CWD, FOLLOW = -100, 0x400
assert ctypes.CDLL(None).linkat(CWD, b'/proc/self/fd/%d' % f, CWD, b'named', FOLLOW) == 0
os.close(f)
os.unlink('named')",
        );
        let collected = collecting.stop();
        assert_eq!(folder.rows(&collected, "filegone"), expected(&settings, &[("unlink", "named", "3")]));
        // It came by linkat, which is no creation.
        assert_eq!(folder.rows(&collected, "filelife"), []);
    }
}

#[test]
fn filters_ask_about_who_deletes_and_samples_are_counted() {
    const FILES: usize = 1_000;
    let make = format!("for i in range({FILES}): make(f'{{i}}')");
    let unlink = format!("for i in range({FILES}): os.unlink(f'{{i}}')");
    for settings in file_settings() {
        let with = |filter: &str, sample: u32| {
            let mut settings = with_budget(settings.clone(), 0);
            settings.file.filelife.filter = serde_json::from_value(json!({"comm": [filter]})).unwrap();
            settings.file.filelife.sample = serde_json::from_value(json!(sample)).unwrap();
            settings.file.filegone.filter = settings.file.filelife.filter.clone();
            settings.file.filegone.sample = settings.file.filelife.sample;
            Collecting::start("file", settings)
        };
        let folder = Folder::new();
        let collecting = [with("python3", 1), with("kumon-deleter", 1), with("kumon-deleter", 10)];
        folder.python(&make);
        // Another name, as the kernel has it, deletes.
        folder.python(&format!("open('/proc/self/comm', 'w').write('kumon-deleter')\n{unlink}"));
        let [creator, deleter, sample] = collecting.map(Collecting::stop);
        for metric in ["filelife", "filegone"] {
            assert_eq!(folder.rows(&creator, metric).len(), 0, "{metric}");
            assert_eq!(folder.rows(&deleter, metric).len(), FILES, "{metric}");
            let left_out = |of: &&kumon_collect::Loss| of.metric == metric && of.reason == "sampled out";
            let left_out: u64 = sample.losses.iter().filter(left_out).map(|loss| loss.count).sum();
            let told = folder.rows(&sample, metric).len();
            assert!((FILES / 20..FILES / 5).contains(&told), "{metric}: one in ten of {FILES} is {told}");
            assert_eq!(told + left_out as usize, FILES, "{metric}");
        }
    }
}
