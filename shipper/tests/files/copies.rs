//! Files that rotators copy, truncate and compress.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kumon_testing::{SmallDisk, wait_for};

use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, append, exactly, expect, lines, open, rows};

/// Compresses as rotators do: the plain file goes once the other is whole.
pub(crate) fn gzip(path: &Path) {
    assert!(Command::new("gzip").arg("-f").arg(path).status().unwrap().success());
}

fn copy_and_truncate(path: &Path, copy: &Path) {
    fs::copy(path, copy).unwrap();
    open(path).set_len(0).unwrap();
}

#[test]
fn what_was_not_read_before_a_truncation_is_taken_from_the_copy() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        let ship = place.ship(&sink);
        let log = place.path("log.csv");
        append(&log, &(HEADER.to_owned() + &rows(0..100)));
        ship.sync();
        // Nothing is read while the sink is away and its batch waits.
        sink.fail(Fault::Away);
        append(&log, &rows(100..200));
        ship.wait_until("the halt", |stats| stats.halted.is_some());
        append(&log, &rows(200..300));
        copy_and_truncate(&log, &place.path("log.csv.1"));
        append(&log, &(HEADER.to_owned() + &rows(300..400)));
        ship.wait_until("the truncation to be seen", |stats| stats.files == 2);
        sink.fail(None);
        wait_for("the rows", LIMIT, || ship.handle.sync(LIMIT));
        exactly(&sink, 0..400);
        let row = sink.state().rows.iter().find(|row| row["n"] == "250").cloned().unwrap();
        assert_eq!(row["log.file.path"].as_str(), log.to_str(), "rows keep the name they were written under");
        ship.wait_until("the copy to be let go", |stats| stats.files == 1);
    }
}

#[test]
fn a_file_truncated_before_anything_of_it_was_read_is_read_from_its_copy() {
    for sink in [StandIn::default(), StandIn::store()] {
        for running in [true, false] {
            let mut place = Place::new();
            place.options.batch_bytes = 1500;
            let before = sink.len() as u64;
            // While the sink is away two batches of it wait, and nothing else is read.
            sink.fail(Fault::Away);
            append(&place.path("backlog.ndjson"), &lines(before..before + 200));
            let ship = place.ship(&sink);
            ship.wait_until("the halt", |stats| stats.halted.is_some());
            let log = place.path("log.csv");
            append(&log, &(HEADER.to_owned() + &rows(before + 200..before + 300)));
            ship.wait_until("the file to be seen", |stats| stats.files == 2);
            // Else all of it happens between two runs.
            let ship = match running {
                true => Some(ship),
                false => {
                    ship.stop_within(Duration::ZERO);
                    None
                }
            };
            copy_and_truncate(&log, &place.path("log.csv.1"));
            append(&log, &(HEADER.to_owned() + &rows(before + 300..before + 400)));
            if let Some(ship) = &ship {
                ship.wait_until("the truncation to be seen", |stats| stats.files == 3);
            }
            sink.fail(None);
            let ship = ship.unwrap_or_else(|| place.ship(&sink));
            wait_for("the rows", LIMIT, || ship.handle.sync(LIMIT));
            exactly(&sink, 0..before + 400);
        }
    }
}

#[test]
fn a_copy_under_a_name_that_a_pattern_matches_is_not_shipped_twice() {
    for sink in [StandIn::default(), StandIn::store()] {
        let mut place = Place::new();
        place.options.inputs[0].paths[0].push('*');
        let log = place.path("log.ndjson");
        let mut ship = place.ship(&sink);
        for turn in 0..5 {
            append(&log, &lines(turn * 100..turn * 100 + 50));
            ship.sync();
            append(&log, &lines(turn * 100 + 50..turn * 100 + 100));
            copy_and_truncate(&log, &place.path(&format!("log.ndjson.{turn}")));
            ship.sync();
            if turn % 2 == 1 {
                ship.stop();
                ship = place.ship(&sink);
            }
        }
        ship.sync();
        exactly(&sink, 0..500);
    }
}

#[test]
fn a_file_copied_truncated_and_compressed_while_nothing_ran_is_read_to_its_end() {
    for sink in [StandIn::default(), StandIn::store()] {
        for compress in [false, true] {
            let place = Place::new();
            let before = sink.len() as u64;
            let log = place.path("log.csv");
            append(&log, &(HEADER.to_owned() + &rows(before..before + 100)));
            place.ship(&sink).stop();
            append(&log, &rows(before + 100..before + 150));
            copy_and_truncate(&log, &place.path("log.csv.1"));
            append(&log, &(HEADER.to_owned() + &rows(before + 150..before + 200)));
            // An older one beside it.
            fs::write(place.path("log.csv.2"), HEADER.to_owned() + &rows(9000..9100)).unwrap();
            gzip(&place.path("log.csv.2"));
            if compress {
                gzip(&place.path("log.csv.1"));
            }
            let ship = place.ship(&sink);
            ship.sync();
            exactly(&sink, 0..before + 200);
            ship.wait_until("the copy to be let go", |stats| stats.files == 1);
        }
    }
}

#[test]
fn a_file_renamed_and_compressed_before_it_was_read_to_its_end_is_read_once() {
    for matched in [false, true] {
        let (mut place, sink) = (Place::new(), StandIn::default());
        if matched {
            place.options.inputs[0].paths[0].push('*');
        }
        let mut next = 0;
        let mut write = |path: &Path, count| {
            append(path, &lines(next..next + count));
            next += count;
        };
        let log = place.path("log.ndjson");
        // While it runs, and while it doesn't.
        for running in [true, false] {
            write(&log, 100);
            let ship = place.ship(&sink);
            ship.sync();
            let ship = running.then_some(ship);
            write(&log, 100);
            fs::rename(&log, place.path("log.ndjson.1")).unwrap();
            write(&log, 100);
            if let Some(ship) = &ship {
                // The rotated one is seen; then only its compressed form is left.
                ship.sync();
            }
            gzip(&place.path("log.ndjson.1"));
            let ship = ship.unwrap_or_else(|| place.ship(&sink));
            expect(&sink, 0..if running { 300 } else { 600 });
            ship.stop();
            fs::rename(place.path("log.ndjson.1.gz"), place.path("log.ndjson.2.gz")).unwrap();
        }
        let ship = place.ship(&sink);
        ship.sync();
        exactly(&sink, 0..600);
        let files = if matched { 2 } else { 1 };
        ship.wait_until("the others to be let go", |stats| stats.files == files);
        wait_for("one entry per file", LIMIT, || place.checkpoint().len() == files);
    }
}

/// Two folders, one content: what is bound elsewhere is the same file.
#[test]
fn a_file_seen_through_a_bind_mount_is_one_file() {
    if !kumon_testing::require_root() {
        return;
    }
    let (mut place, sink) = (Place::new(), StandIn::default());
    let bound = place.folder.path().join("bound");
    fs::create_dir(&bound).unwrap();
    let mounted = Mounted::bind(&place.path(""), &bound);
    place.options.inputs[0].paths.push(mounted.0.join("*.ndjson").to_str().unwrap().to_owned());
    append(&place.path("a.ndjson"), &lines(0..10));
    let ship = place.ship(&sink);
    ship.sync();
    append(&bound.join("a.ndjson"), &lines(10..20));
    ship.sync();
    exactly(&sink, 0..20);
    ship.stop();
    append(&bound.join("a.ndjson"), &lines(20..30));
    let ship = place.ship(&sink);
    ship.sync();
    exactly(&sink, 0..30);
    assert_eq!((ship.stats().files, place.checkpoint().len()), (1, 1));
}

/// A file system that is mounted only after the shipper has started, as one of a network may be.
#[test]
fn files_of_a_file_system_that_is_not_mounted_yet_are_not_forgotten() {
    if !kumon_testing::require_root() {
        return;
    }
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        let disk = SmallDisk::mount(place.folder.path().join("disk"), c"size=1m");
        let mounted = Mounted::bind(disk.path(), &place.path(""));
        append(&place.path("a.ndjson"), &lines(0..10));
        place.ship(&sink).stop();
        drop(mounted);
        let ship = place.ship(&sink);
        ship.sync();
        let _mounted = Mounted::bind(disk.path(), &place.path(""));
        append(&place.path("a.ndjson"), &lines(10..20));
        wait_for("the new rows", LIMIT, || {
            ship.sync();
            sink.len() >= 20
        });
        exactly(&sink, 0..20);
        ship.stop();
        assert_eq!(place.checkpoint().len(), 1);
    }
}

/// A mount, undone when dropped.
pub(crate) struct Mounted(std::path::PathBuf);

impl Mounted {
    pub(crate) fn bind(what: &Path, to: &Path) -> Mounted {
        let mut mount = Command::new("mount");
        assert!(mount.arg("--bind").arg(what).arg(to).status().unwrap().success());
        Mounted(to.to_owned())
    }

    /// `None` where overlays can't be mounted, as on another one.
    pub(crate) fn overlay(layers: &str, to: &Path) -> Option<Mounted> {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "overlay", "overlay", "-o", layers]).arg(to).status().unwrap();
        mounted.success().then(|| Mounted(to.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_file_named_like_a_copy_is_shipped_as_soon_as_it_differs() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.inputs[0].paths[0].push('*');
    append(&place.path("log.ndjson"), &lines(0..10));
    let ship = place.ship(&sink);
    ship.sync();
    // The same first lines, and then others.
    append(&place.path("log.ndjson.1"), &lines(0..5));
    ship.sync();
    assert_eq!(sink.len(), 10, "it holds nothing that was not shipped");
    append(&place.path("log.ndjson.1"), &lines(20..25));
    wait_for("its rows", LIMIT, || sink.len() == 20);
    let mut expected: Vec<u64> = (0..10).chain(0..5).chain(20..25).collect();
    expected.sort_unstable();
    assert_eq!(sink.numbers(), expected);
}

#[test]
fn a_file_truncated_without_a_copy_goes_on_and_older_siblings_are_left_alone() {
    let (place, sink) = (Place::new(), StandIn::default());
    let log = place.path("log.ndjson");
    fs::write(place.path("log.ndjson.1"), lines(5000..5100)).unwrap();
    append(&log, &lines(0..10));
    let ship = place.ship(&sink);
    ship.sync();
    File::create(&log).unwrap();
    append(&log, &lines(10..20));
    expect(&sink, 0..20);
    ship.sync();
    exactly(&sink, 0..20);
}
