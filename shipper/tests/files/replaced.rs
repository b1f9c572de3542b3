//! Files that are replaced, hidden or left alone, and what of it is the same content.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use kumon_testing::wait_for;

use crate::copies::Mounted;
use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, append, exactly, expect, lines, rows};

/// What a program makes of a file when it writes this text to it.
type Replace = fn(&Path, &str);

/// As rsync, `sed -i` and most editors do.
fn rename_over(path: &Path, text: &str) {
    let new = path.with_file_name(".new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn move_from_another_folder(path: &Path, text: &str) {
    let folder = tempfile::tempdir_in(path.parent().unwrap().parent().unwrap()).unwrap();
    fs::write(folder.path().join("new"), text).unwrap();
    fs::rename(folder.path().join("new"), path).unwrap();
}

/// As `rsync --inplace` does: nothing is cut before all is written.
fn overwrite_in_place(path: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_len(text.len() as u64).unwrap();
}

/// Keeps the time of modification, as `rsync -t` and `cp -p` do.
fn rename_over_with_an_old_time(path: &Path, text: &str) {
    let (new, time) = (path.with_file_name(".new"), fs::metadata(path).unwrap().modified().unwrap());
    fs::write(&new, text).unwrap();
    File::options().append(true).open(&new).unwrap().set_modified(time).unwrap();
    fs::rename(new, path).unwrap();
}

/// As `cp` does.
fn truncate_and_write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

const REPLACEMENTS: [(&str, Replace); 5] = [
    ("truncated and written", truncate_and_write),
    ("renamed over", rename_over),
    ("moved from another folder", move_from_another_folder),
    ("overwritten in place", overwrite_in_place),
    ("renamed over, with an old time", rename_over_with_an_old_time),
];

#[test]
fn a_file_replaced_by_one_that_holds_all_of_it_goes_on_in_that() {
    for (name, replace) in REPLACEMENTS {
        for sink in [StandIn::default(), StandIn::store()] {
            for running in [true, false] {
                let place = Place::new();
                let (json, csv) = (place.path("a.ndjson"), place.path("a.csv"));
                let mut ship = Some(place.ship(&sink));
                // Also of more than a window's size, and the same once more.
                for count in [3, 4, 4, 200] {
                    ship = ship.take().filter(|_| running);
                    let start = if running { 0 } else { 400 };
                    let put = if json.exists() { replace } else { append };
                    put(&json, &lines(start..start + count));
                    put(&csv, &(HEADER.to_owned() + &rows(start + 200..start + 200 + count)));
                    let ship = ship.get_or_insert_with(|| place.ship(&sink));
                    wait_for(&format!("{count} rows of files {name}, running: {running}"), LIMIT, || {
                        ship.sync();
                        let rows = sink.in_order();
                        [start, start + 200].iter().all(|first| rows.contains(&(first + count - 1)))
                    });
                }
            }
            exactly(&sink, 0..800);
        }
    }
}

#[test]
fn a_file_replaced_by_other_content_is_read_to_its_end_beside_that() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        let log = place.path("a.ndjson");
        append(&log, &lines(0..300));
        let ship = place.ship(&sink);
        ship.sync();
        // What was not read yet is only in the old one; the new one has its beginning, and then another line.
        sink.fail(Fault::Away);
        append(&place.path("b.ndjson"), &lines(600..700));
        ship.wait_until("the halt", |stats| stats.halted.is_some());
        append(&log, &lines(300..350));
        ship.wait_until("it to be seen", |stats| stats.lag >= 1500);
        rename_over(&log, &(lines(0..300) + &lines(350..600)));
        ship.wait_until("the new one to be seen", |stats| stats.files == 3);
        sink.fail(None);
        wait_for("the rows", LIMIT, || ship.handle.sync(LIMIT) && sink.len() >= 1000);
        let mut expected: Vec<u64> = (0..300).chain(0..700).collect();
        expected.sort_unstable();
        assert_eq!(sink.numbers(), expected);
    }
}

#[test]
fn a_file_whose_earlier_lines_were_changed_is_new_content() {
    if !kumon_testing::require_program("sed") {
        return;
    }
    for running in [true, false] {
        let (place, sink) = (Place::new(), StandIn::default());
        let log = place.path("a.ndjson");
        append(&log, &lines(10..20));
        let ship = place.ship(&sink);
        expect(&sink, 10..20);
        let ship = running.then_some(ship);
        let edit = |script: &str| {
            assert!(Command::new("sed").args(["-i", script]).arg(&log).status().unwrap().success());
        };
        // A line behind what was read, as `sed -i '$a …'` adds one, is all that is new.
        edit("$a {\"n\":20}");
        let ship = ship.unwrap_or_else(|| place.ship(&sink));
        expect(&sink, 10..21);
        let ship = running.then_some(ship);
        edit("s/15/115/");
        let ship = ship.unwrap_or_else(|| place.ship(&sink));
        wait_for("all of it again", LIMIT, || {
            ship.sync();
            sink.len() == 22
        });
        assert_eq!(sink.numbers().iter().filter(|n| **n == 115).count(), 1);
    }
}

#[test]
fn a_file_deleted_and_made_again_with_all_of_its_lines_is_new_content() {
    let (place, sink) = (Place::new(), StandIn::default());
    let log = place.path("a.ndjson");
    append(&log, &lines(0..3));
    let ship = place.ship(&sink);
    expect(&sink, 0..3);
    for turn in 2..5 {
        // A job that says the same every day.
        fs::remove_file(&log).unwrap();
        append(&log, &lines(0..3));
        wait_for("its rows", LIMIT, || sink.len() == turn * 3);
        ship.sync();
    }
    // The same by renaming: what was renamed is still there.
    for turn in 5..8 {
        fs::rename(&log, place.path(&format!("a.{turn}"))).unwrap();
        append(&log, &lines(0..3));
        wait_for("its rows", LIMIT, || sink.len() == turn * 3);
        ship.sync();
    }
}

#[test]
fn a_file_that_is_out_of_sight_for_longer_than_it_is_waited_for_goes_on_when_it_is_back() {
    for sink in [StandIn::default(), StandIn::store()] {
        let mut place = Place::new();
        let (folder, aside) = (place.path("p"), place.path("q"));
        place.options.inputs[0].paths = vec![folder.join("*.ndjson").to_str().unwrap().to_owned()];
        fs::create_dir(&folder).unwrap();
        append(&folder.join("a.ndjson"), &lines(0..10));
        let mut ship = place.ship(&sink);
        ship.sync();
        let mut next = 10;
        for restart in [false, true] {
            fs::rename(&folder, &aside).unwrap();
            ship.wait_until("it to be let go", |stats| stats.files == 0);
            ship.sync();
            wait_for("it to be remembered", LIMIT, || place.missing().len() == 1);
            if restart {
                ship.stop();
                ship = place.ship(&sink);
                ship.sync();
            }
            // Its writer still has it.
            append(&aside.join("a.ndjson"), &lines(next..next + 10));
            next += 10;
            fs::rename(&aside, &folder).unwrap();
            wait_for("the new rows", LIMIT, || {
                ship.sync();
                sink.len() as u64 >= next
            });
            exactly(&sink, 0..next);
            assert_eq!(place.missing().len(), 0);
        }
    }
}

/// What is mounted over a folder hides its files for a while.
#[test]
fn files_under_a_mount_go_on_when_it_is_gone() {
    if !kumon_testing::require_root() {
        return;
    }
    let (place, sink) = (Place::new(), StandIn::default());
    append(&place.path("a.ndjson"), &lines(0..10));
    let other = tempfile::tempdir().unwrap();
    append(&other.path().join("a.ndjson"), &lines(100..110));
    let ship = place.ship(&sink);
    expect(&sink, 0..10);
    let mounted = Mounted::bind(other.path(), &place.path(""));
    wait_for("the other's rows", LIMIT, || {
        ship.sync();
        sink.len() == 20
    });
    ship.wait_until("the hidden one to be let go", |stats| stats.files == 1);
    drop(mounted);
    append(&place.path("a.ndjson"), &lines(10..20));
    wait_for("the new rows", LIMIT, || {
        ship.sync();
        sink.len() >= 30
    });
    let expected: Vec<u64> = (0..20).chain(100..110).collect();
    assert_eq!(sink.numbers(), expected);
}

/// What `docker commit` and images leave: files of a lower layer, which become others when they are written to.
#[test]
fn a_file_of_a_lower_layer_of_an_overlay_is_the_same_once_it_is_written_to() {
    if !kumon_testing::require_root() {
        return;
    }
    for running in [true, false] {
        let (mut place, sink) = (Place::new(), StandIn::default());
        let layer = |name: &str| {
            let path = place.path(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (lower, upper, work, merged) = (layer("lower"), layer("upper"), layer("work"), layer("merged"));
        for (name, text) in [("a.ndjson", lines(0..5)), ("b.ndjson", String::new())] {
            fs::write(lower.join(name), text).unwrap();
        }
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let Some(_mounted) = Mounted::overlay(&layers, &merged) else { return };
        place.options.inputs[0].paths = vec![merged.join("*.ndjson").to_str().unwrap().to_owned()];
        let ship = place.ship(&sink);
        expect(&sink, 0..5);
        let mut ship = running.then_some(ship);
        for n in [5, 7, 9] {
            append(&merged.join("a.ndjson"), &lines(n..n + 1));
            append(&merged.join("b.ndjson"), &lines(n + 1..n + 2));
            let started = ship.unwrap_or_else(|| place.ship(&sink));
            expect(&sink, 0..n + 2);
            ship = running.then_some(started);
        }
        let ship = ship.unwrap_or_else(|| place.ship(&sink));
        ship.sync();
        exactly(&sink, 0..11);
        assert_eq!(ship.stats().files, 2);
    }
}
