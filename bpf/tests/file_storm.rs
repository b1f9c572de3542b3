//! Very many files: what came in is what came out and what was counted as lost.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Collected, Collecting, file_settings, with_budget};
use kumon_bpf::Settings;
use kumon_testing::{load_size, repetitions, time_scale};

/// How many files a storm has.
fn files() -> u64 {
    load_size(repetitions(20_000, 50_000)) as u64
}

/// By each kind of hooks that the kernel has.
fn settings(ring_buffer_bytes: u32) -> Vec<Settings> {
    let with_ring = |settings| with_budget(Settings { ring_buffer_bytes, ..settings }, 0);
    file_settings().into_iter().map(with_ring).collect()
}

/// Creates and deletes the files in a folder; one after the other, or all created before the first is deleted.
fn storm(at_once: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().into_os_string().into_string().unwrap();
    let script = "
import os, sys
files = [f'{sys.argv[1]}/{i}' for i in range(int(sys.argv[2]))]
groups = [files] if sys.argv[3] == 'true' else [[file] for file in files]
for group in groups:
    for file in group: os.close(os.open(file, os.O_CREAT))
    for file in group: os.unlink(file)
";
    let mut python = Command::new("/usr/bin/python3");
    let args = ["-c", script, &path, &files().to_string(), &at_once.to_string()];
    assert!(python.args(args).status().unwrap().success());
    path + "/"
}

/// How many rows of a metric the files in a folder have, and how many all the others.
fn rows(collected: &Collected, metric: &str, folder: &str) -> (u64, u64) {
    let rows = collected.rows(metric);
    let own = rows.iter().filter(|row| row.text("path").starts_with(folder)).count();
    (own as u64, (rows.len() - own) as u64)
}

#[test]
fn each_of_very_many_files_has_a_row() {
    for settings in settings(32 << 20) {
        let collecting = Collecting::start("file", settings);
        let folders = [storm(false), storm(true)];
        let collected = collecting.stop();
        for metric in ["filelife", "filegone"] {
            assert_eq!(collected.lost(metric), 0, "{metric}");
            for folder in &folders {
                assert_eq!(rows(&collected, metric, folder).0, files(), "{metric}");
            }
        }
    }
}

#[test]
fn files_beyond_the_limit_are_counted() {
    let room = files() / 5;
    for settings in settings(32 << 20) {
        let mut limited = settings.clone();
        limited.file.filelife.max_files = room as u32;
        let witness = Collecting::start("file", settings.clone());
        let collecting = Collecting::start("file", limited);
        let folder = storm(true);
        let (collected, witness) = (collecting.stop(), witness.stop());
        assert_eq!(witness.lost("filelife"), 0);
        let (own, _) = rows(&collected, "filelife", &folder);
        // The room is shared with what else happens on the machine.
        assert!((room / 2..=room).contains(&own), "{own} rows");
        let sum = own + collected.lost("filelife");
        assert!(
            (files()..files() + room).contains(&sum),
            "rows and losses are {sum}, the storm was {}",
            files()
        );
        assert_eq!(rows(&collected, "filegone", &folder).0, files());
    }
}

#[test]
fn what_overruns_the_ring_buffer_is_counted() {
    for settings in settings(32 << 20) {
        // A second collector with room for all sees what else happens on the machine meanwhile.
        let witness = Collecting::start("file", settings.clone());
        let tiny = Settings { ring_buffer_bytes: 4096, ..settings };
        let overrun = Collecting::start_polling("file", tiny, Duration::from_millis(200) * time_scale());
        let folder = storm(false);
        let (overrun, witness) = (overrun.stop(), witness.stop());
        assert_eq!(witness.lost("filegone"), 0);
        let (own, others) = rows(&witness, "filegone", &folder);
        assert_eq!(own, files());

        let (through, _) = rows(&overrun, "filegone", &folder);
        assert!(
            (1..files()).contains(&through),
            "the storm must overrun the ring buffer, or this tests nothing"
        );
        let sum = overrun.rows("filegone").len() as u64 + overrun.lost("filegone");
        assert!(
            (files()..=files() + others).contains(&sum),
            "rows and losses are {sum}, the storm was {}",
            files()
        );
        // A file whose creation and deletion were both lost is counted twice: never too low.
        let (lives, _) = rows(&overrun, "filelife", &folder);
        assert!(lives + overrun.lost("filelife") >= files());
    }
}
