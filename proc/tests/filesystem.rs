//! The metric filesystem beside `df` and `stat -f`, and with a file system that hangs.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod fuse;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Row, number, output, share};
use fuse::{BLOCKS, Fuse, INODES};
use kumon_collect::ActiveCollector;
use kumon_collect::capture::Capture;
use kumon_proc::{Root, Settings, collectors};
use kumon_testing::{SmallDisk, require, require_program, require_root, wait_for};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
use tempfile::TempDir;

/// A collector whose intervals end when the test says so.
struct Reading(Box<dyn ActiveCollector>);

impl Reading {
    fn start() -> Reading {
        Reading::below(Root::default())
    }

    fn below(root: Root) -> Reading {
        let mut collectors = collectors(&Settings { root, ..Settings::default() });
        collectors.retain(|collector| collector.metrics() == ["filesystem"]);
        Reading(collectors[0].start().unwrap())
    }

    fn rows(&mut self) -> Vec<Row> {
        let mut capture = Capture::new();
        capture.poll(true, |context| self.0.poll(context)).unwrap();
        capture.rows("filesystem")
    }

    /// The row of what is mounted there.
    #[track_caller]
    fn row(&mut self, mount_point: &Path) -> Row {
        let rows = self.rows();
        one(&rows, mount_point).unwrap_or_else(|| panic!("no row of {mount_point:?}: {rows:?}")).clone()
    }
}

/// The only row of what is mounted there.
fn one<'a>(rows: &'a [Row], mount_point: &Path) -> Option<&'a Row> {
    let mut of = rows.iter().filter(|row| Path::new(&row["mount_point"]) == mount_point);
    let row = of.next();
    assert!(of.next().is_none(), "{rows:?}");
    row
}

/// A folder to mount in, and the right to do so alone: each reading asks all that is mounted.
struct Folder {
    /// Without links in it, as the kernel knows it.
    path: PathBuf,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Folder {
    fn new() -> Folder {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        Folder { path: folder.path().canonicalize().unwrap(), _folder: folder, _alone: alone }
    }
}

/// The row says what `df` and `stat -f` say.
#[track_caller]
fn assert_as_df(row: &Row, mount_point: &Path) {
    let path = mount_point.to_str().unwrap();
    let columns = "--output=size,used,avail,itotal,iavail,iused,pcent,ipcent";
    let told = output("df", &["-B1", columns, path]);
    let told: Vec<u64> = told
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .map(|word| word.trim_end_matches('%').parse().unwrap())
        .collect();
    let ours = ["total", "used", "available", "inodes", "inodes_free"].map(|column| number(row, column));
    assert_eq!(ours, told[..5], "{row:?}");
    // df rounds up to whole percents.
    for (column, percent) in [("used_pct", told[6]), ("inodes_used_pct", told[7])] {
        let ours = share(row, column) * 100.0;
        assert!(ours <= percent as f64 && ours > percent as f64 - 1.0 - 0.01, "{column}: {ours}, {percent}");
    }
    let told = output("stat", &["-f", "-c", "%S %b %f %a %c %d", path]);
    let told: Vec<u64> = told.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [block, numbers @ ..] = told.as_slice() else { panic!("{told:?}") };
    let ours = ["total", "free", "available"].map(|column| number(row, column) / block);
    assert_eq!(
        (&ours[..], number(row, "inodes"), number(row, "inodes_free")),
        (&numbers[..3], told[4], told[5])
    );
    println!("{row:?}");
}

#[test]
fn what_a_file_system_holds_is_what_df_and_stat_tell() {
    if !require_root() {
        return;
    }
    let folder = Folder::new();
    let mut reading = Reading::start();
    let disk = SmallDisk::mount(folder.path.join("odd \n\\040 name"), c"size=8m,nr_inodes=100");
    fs::write(disk.path().join("data"), vec![1; 3 << 20]).unwrap();
    for number in 0..40 {
        fs::write(disk.path().join(number.to_string()), "").unwrap();
    }
    let row = reading.row(disk.path());
    assert_as_df(&row, disk.path());
    assert_eq!((number(&row, "used"), number(&row, "inodes_free")), (3 << 20, 100 - 42));
    assert_eq!(["device", "file_system_type", "state"].map(|of| row[of].as_str()), ["tmpfs", "tmpfs", "ok"]);
    // What has inodes, and a part of it that is root's.
    let root = Path::new("/");
    if let Some(row) = one(&reading.rows(), root) {
        assert!(number(row, "used") + number(row, "available") <= number(row, "total"), "{row:?}");
    }
    disk.fill();
    let row = reading.row(disk.path());
    assert_as_df(&row, disk.path());
    assert_eq!((share(&row, "used_pct"), number(&row, "available")), (1.0, 0));
}

#[test]
fn a_file_system_is_told_once_and_one_that_is_covered_or_gone_not_at_all() {
    if !require_root() {
        return;
    }
    let folder = Folder::new();
    // Once as KuMon may see the files here, once as where it may look into the first process's root.
    let first = folder.path.join("proc/1");
    fs::create_dir(first.parent().unwrap()).unwrap();
    symlink("/proc/self", first).unwrap();
    for root in [Root::default(), Root::at(&folder.path)] {
        let mut reading = Reading::below(root);
        let disk = SmallDisk::mount(folder.path.join("disk"), c"size=1m");
        let bound = folder.path.join("b");
        fs::create_dir_all(&bound).unwrap();
        mount_bind(disk.path(), &bound).unwrap();
        let rows = reading.rows();
        assert!(one(&rows, &bound).is_some() && one(&rows, disk.path()).is_none(), "{rows:?}");
        unmount(&bound, UnmountFlags::empty()).unwrap();
        let total = |row: &Row| number(row, "total");
        assert_eq!(total(&reading.row(disk.path())), 1 << 20);
        // Another one over it.
        let above = SmallDisk::mount(disk.path(), c"size=2m");
        assert_eq!(total(&reading.row(above.path())), 2 << 20);
        drop(above);
        assert_eq!(total(&reading.row(disk.path())), 1 << 20);
        mount_remount(disk.path(), MountFlags::RDONLY, c"").unwrap();
        let row = reading.row(disk.path());
        assert_eq!((row["read_only"].as_str(), row["turned_read_only"].as_str()), ("true", "false"));
        let gone = disk.path().to_owned();
        drop(disk);
        assert!(one(&reading.rows(), &gone).is_none());
    }
}

/// A file system in a file, mounted by its program, as its errors are to make it read-only.
struct Ext4(PathBuf);

impl Ext4 {
    fn mount(folder: &Path) -> Ext4 {
        let (image, point) = (folder.join("image"), folder.join("ext4"));
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::create_dir(&point).unwrap();
        output("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        let (image, at) = (image.to_str().unwrap(), point.to_str().unwrap());
        output("mount", &["-o", "loop,errors=remount-ro", image, at]);
        Ext4(point)
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn one_that_turns_read_only_by_an_error_says_so() {
    if !require_root() || !require_program("mkfs.ext4") || !require_program("losetup") {
        return;
    }
    let folder = Folder::new();
    let disk = Ext4::mount(&folder.path);
    let mut reading = Reading::start();
    let row = reading.row(&disk.0);
    assert_as_df(&row, &disk.0);
    // Some blocks are for root only.
    assert!(number(&row, "available") < number(&row, "free"), "{row:?}");
    let read_only = |row: &Row| ["read_only", "turned_read_only"].map(|column| row[column] == "true");
    assert_eq!(read_only(&row), [false, false], "{row:?}");
    let device = row["device"].trim_start_matches("/dev/").to_owned();
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test of KuMon").unwrap();
    let row = reading.row(&disk.0);
    assert_eq!(read_only(&row), [true, true], "{row:?}");
    assert_eq!(row["state"], "ok");
}

#[test]
fn one_that_hangs_takes_no_other_with_it() {
    if !require_root() || !require(Path::new("/dev/fuse").exists(), "/dev/fuse") {
        return;
    }
    let folder = Folder::new();
    let (stuck, sound) = (folder.path.join("fuse"), folder.path.join("sound"));
    let mut fuse = Fuse::mount(&stuck);
    let _sound = SmallDisk::mount(&sound, c"size=1m");
    let mut reading = Reading::start();
    let row = reading.row(&stuck);
    let [total, free, available] = BLOCKS.map(|blocks| blocks * 4096);
    let ours = ["total", "free", "available", "used", "inodes", "inodes_free"].map(|of| number(&row, of));
    assert_eq!(ours, [total, free, available, total - free, INODES[0], INODES[1]]);
    assert_eq!(share(&row, "used_pct"), 0.6667);
    assert_eq!(share(&row, "inodes_used_pct"), 0.6);

    fuse.stop(true);
    let asked = fuse.asked();
    for _ in 0..3 {
        let rows = reading.rows();
        let (hanging, sound) = (one(&rows, &stuck).unwrap(), one(&rows, &sound).unwrap());
        assert_eq!((hanging["state"].as_str(), sound["state"].as_str()), ("hanging", "ok"));
        assert!(!hanging.contains_key("total") && sound.contains_key("total"), "{rows:?}");
    }
    fuse.stop(false);
    wait_for("the file system to answer", Duration::from_secs(30), || reading.row(&stuck)["state"] == "ok");
    // While it hung it was asked once.
    assert_eq!(fuse.asked() - asked, 2);

    fuse.crash();
    let row = reading.row(&stuck);
    assert_eq!(row["state"], "unreadable");
    assert!(row["error"].contains("not connected"), "{row:?}");
    assert_eq!(reading.row(&sound)["state"], "ok");
}
