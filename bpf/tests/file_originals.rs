//! filelife against the original of libbpf-tools, at the same time on the same load. filegone has no original there.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use common::{Collecting, Original};
use kumon_bpf::{Enabled, Settings};
use kumon_testing::{require_bpf, require_program, time_scale, wait_for};

const FILES: usize = 100;

#[test]
fn short_lived_files_are_those_that_filelife_sees() {
    if !require_bpf() || !require_program("filelife") {
        return;
    }
    // The original is made of kprobes. Where the kernel has none, scripts/second-kernel has one that does.
    if !Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let original = Original::start("filelife");
    wait_for("the original's first event", Duration::from_secs(30), || {
        let first = folder.path().join("first");
        std::fs::write(&first, "").unwrap();
        std::fs::remove_file(&first).unwrap();
        original.lines().iter().any(|line| line.ends_with("first"))
    });
    let mut settings = Settings::default();
    settings.filelife.enabled = Enabled::Yes;
    // The files are made by this very process.
    settings.exclude_self = false;
    let collecting = Collecting::start("file", settings);
    for i in 0..FILES {
        let path = folder.path().join(format!("kumon-life-{i}"));
        std::fs::write(&path, "").unwrap();
        sleep(Duration::from_millis(i as u64 % 5 * 10));
        std::fs::remove_file(&path).unwrap();
    }
    let rows = collecting.stop().rows("filelife");
    let lines = original.stop();

    // TIME PID COMM AGE(s) FILE
    let theirs: BTreeMap<String, f64> = lines
        .iter()
        .filter(|line| line.contains("kumon-life-"))
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
