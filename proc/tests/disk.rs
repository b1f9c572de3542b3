//! The metric disk beside /sys/block/…/stat and `iostat`, with a load of known numbers on a disk of its own.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::{Numbers, compare, number, output};
use kumon_collect::NamePatterns;
use kumon_proc::Settings;
use kumon_testing::{require_program, require_root};
use tempfile::TempDir;

/// A disk of its own (a loop device), which is taken away in the end.
struct Disk {
    device: String,
    _folder: TempDir,
}

impl Disk {
    fn make() -> Option<Disk> {
        if !require_root() || !["losetup", "dd"].into_iter().all(require_program) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        std::fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let device = output("losetup", &["--find", "--show", file.to_str().unwrap()]).trim().to_owned();
        Some(Disk { device, _folder: folder })
    }

    fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }

    fn copy(&self, arguments: &[&str]) {
        let status = Command::new("dd").args(arguments).arg("status=none").status().unwrap();
        assert!(status.success());
    }

    /// The 17 numbers of its own file.
    fn stat(&self) -> Numbers {
        let text = output("cat", &[&format!("/sys/block/{}/stat", self.name())]);
        let numbers = text.split_whitespace().map(|word| word.parse().unwrap());
        numbers.enumerate().map(|(at, number)| (at.to_string(), number)).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

#[test]
fn what_a_disk_did_is_what_its_own_file_and_iostat_tell() {
    let Some(disk) = Disk::make() else { return };
    let mut settings = Settings::default();
    settings.disk.exclude = NamePatterns::default();
    let compared = compare(
        "disk",
        &settings,
        || disk.stat(),
        || {
            disk.copy(&[
                "if=/dev/zero",
                &format!("of={}", disk.device),
                "bs=64k",
                "count=300",
                "oflag=direct",
            ]);
            disk.copy(&[
                &format!("if={}", disk.device),
                "of=/dev/null",
                "bs=4k",
                "count=500",
                "iflag=direct",
            ]);
        },
    );
    let row = compared.row("disk", disk.name());
    for (at, column) in [
        "reads",
        "reads_merged",
        "read_bytes",
        "read_time",
        "writes",
        "writes_merged",
        "write_bytes",
        "write_time",
        "in_flight",
        "busy_time",
        "weighted_time",
        "discards",
        "discards_merged",
        "discard_bytes",
        "discard_time",
        "flushes",
        "flush_time",
    ]
    .iter()
    .enumerate()
    {
        match *column {
            "in_flight" => compared.assert_stands(row, column, "8", 1, 0),
            _ if column.ends_with("bytes") => compared.assert_added(row, column, &at.to_string(), 512),
            _ if column.ends_with("time") => compared.assert_added(row, column, &at.to_string(), 1_000_000),
            _ => compared.assert_added(row, column, &at.to_string(), 1),
        }
    }
    // Where there is a udev it reads a disk that was written to.
    assert!(number(row, "reads") >= 500 && number(row, "read_bytes") >= 500 << 12, "{row:?}");
    assert_eq!((number(row, "writes"), number(row, "write_bytes")), (300, 300 << 16));
    let mean = number(row, "write_time") / 300;
    assert_eq!(number(row, "write_wait"), mean);

    if require_program("iostat") {
        // `loop3 tps read/s wrtn/s dscd/s read wrtn dscd`, since the boot, in KiB.
        let report = output("iostat", &["-dk", &disk.device]);
        let line =
            report.lines().find(|line| line.starts_with(disk.name())).unwrap_or_else(|| panic!("{report}"));
        let numbers: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            numbers[6].parse::<u64>().unwrap(),
            number(row, "write_bytes_total") >> 10,
            "{line}: {row:?}"
        );
    }
}

#[test]
fn loop_devices_have_no_rows_unless_asked_for() {
    let Some(disk) = Disk::make() else { return };
    let compared = compare("disk", &Settings::default(), Numbers::new, || {});
    assert!(compared.rows.iter().all(|row| row["disk"] != disk.name()), "{:?}", compared.rows);
}
