//! What is the same file, and what only looks so.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};

use crate::stand_in::StandIn;
use crate::support::{LIMIT, Place, append, expect, lines};

#[test]
fn two_files_with_the_same_first_lines_are_two() {
    let (place, sink) = (Place::new(), StandIn::default());
    let _ship = place.ship(&sink);
    let padding = "{\"n\":7}\n".repeat(300);
    append(&place.path("a.ndjson"), &padding);
    append(&place.path("b.ndjson"), &padding);
    kumon_testing::wait_for("both files' rows", LIMIT, || sink.len() >= 600);
    assert_eq!(sink.numbers(), [7; 600]);
}

#[test]
fn symlinks_and_a_second_pattern_do_not_double_a_file() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    let again = place.options.inputs[0].clone();
    place.options.inputs.push(again);
    let elsewhere = tempfile::tempdir().unwrap();
    append(&elsewhere.path().join("real"), &lines(0..10));
    symlink(elsewhere.path().join("real"), place.path("a.ndjson")).unwrap();
    symlink(place.path("a.ndjson"), place.path("b.ndjson")).unwrap();
    fs::hard_link(elsewhere.path().join("real"), place.path("c.ndjson")).unwrap();
    let ship = place.ship(&sink);
    expect(&sink, 0..10);
    append(&elsewhere.path().join("real"), &lines(10..20));
    ship.sync();
    expect(&sink, 0..20);
    assert_eq!(ship.stats().files, 1);
}

#[test]
fn nobody_gets_a_file_read_that_they_may_not_read_themselves() {
    if !kumon_testing::require_root() {
        return;
    }
    let (place, sink) = (Place::new(), StandIn::default());
    let secrets = tempfile::tempdir().unwrap();
    append(&secrets.path().join("secret"), &lines(0..5));
    let link = place.path("a.ndjson");
    symlink(secrets.path().join("secret"), &link).unwrap();
    lchown(&link, Some(65534), Some(65534)).unwrap();
    let made = std::process::Command::new("mkfifo").arg(place.path("b.ndjson")).status().unwrap();
    assert!(made.success());
    append(&place.path("c.ndjson"), &lines(5..10));

    let ship = place.ship(&sink);
    expect(&sink, 5..10);
    let link = link.display().to_string();
    ship.wait_until("the link to be named", |stats| {
        stats.stuck.get(&link).is_some_and(|why| why.contains("a link to a file of another user"))
    });
}

/// Deletes a file and makes it again with the same inode, as far as the file system can be brought to that.
fn recreate(path: &std::path::Path, text: &str) -> bool {
    let inode = fs::metadata(path).unwrap().ino();
    fs::remove_file(path).unwrap();
    for attempt in 0..50 {
        fs::write(path, text).unwrap();
        if fs::metadata(path).unwrap().ino() == inode {
            return true;
        }
        fs::rename(path, path.with_extension(format!("{attempt}.tmp"))).unwrap();
    }
    fs::write(path, text).unwrap();
    false
}

#[test]
fn a_file_deleted_and_made_again_is_new_even_with_the_same_inode_and_first_lines() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        let same = "{\"n\":0}\n".repeat(200);
        fs::write(place.path("a.ndjson"), &same).unwrap();
        let ship = place.ship(&sink);
        ship.sync();
        ship.stop();
        let reused = recreate(&place.path("a.ndjson"), &(same.clone() + &lines(1..3)));
        eprintln!("inode reused: {reused}");
        let ship = place.ship(&sink);
        ship.sync();
        let mut expected = vec![0; 400];
        expected.extend([1, 2]);
        assert_eq!(sink.numbers(), expected);
        // And while it runs: then it has the inode open, which so can't be used again.
        fs::remove_file(place.path("a.ndjson")).unwrap();
        fs::write(place.path("a.ndjson"), lines(3..10)).unwrap();
        kumon_testing::wait_for("the new rows", LIMIT, || {
            ship.sync();
            sink.len() >= 409
        });
        assert_eq!(sink.numbers()[402..], [3, 4, 5, 6, 7, 8, 9]);
    }
}

#[test]
fn a_file_renamed_while_nobody_looked_is_read_to_its_end() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        fs::write(place.path("log.ndjson"), lines(0..100)).unwrap();
        place.ship(&sink).stop();
        append(&place.path("log.ndjson"), &lines(100..150));
        fs::rename(place.path("log.ndjson"), place.path("log.1")).unwrap();
        append(&place.path("log.ndjson"), &lines(150..200));
        let ship = place.ship(&sink);
        expect_synced(&ship, &sink, 200);
        ship.wait_until("the renamed one to be let go", |stats| stats.files == 1);
    }
}

fn expect_synced(ship: &crate::support::Ship, sink: &StandIn, count: u64) {
    ship.sync();
    assert_eq!(sink.numbers(), (0..count).collect::<Vec<_>>());
}

#[test]
fn entries_of_deleted_files_leave_the_checkpoint() {
    let (place, sink) = (Place::new(), StandIn::default());
    fs::write(place.path("a.ndjson"), lines(0..1)).unwrap();
    fs::write(place.path("b.ndjson"), lines(1..2)).unwrap();
    let ship = place.ship(&sink);
    ship.sync();
    fs::remove_file(place.path("a.ndjson")).unwrap();
    kumon_testing::wait_for("one entry to go", LIMIT, || place.checkpoint().len() == 1);
    ship.stop();
    fs::remove_file(place.path("b.ndjson")).unwrap();
    place.ship(&sink).stop();
    assert!(place.checkpoint().is_empty());
}
