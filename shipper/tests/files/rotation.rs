//! Growing and rotated foreign files.

use std::fs;

use crate::stand_in::StandIn;
use crate::support::{HEADER, Place, append, expect, lines, open, rows};

#[test]
fn rows_arrive_while_their_files_grow_and_say_where_they_come_from() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    append(&place.path("a.ndjson"), &lines(0..10));
    expect(&sink, 0..10);
    append(&place.path("b.csv"), &(HEADER.to_owned() + &rows(10..20)));
    expect(&sink, 0..20);
    for n in 20..40 {
        append(&place.path("a.ndjson"), &lines(n..n + 1));
        append(&place.path("b.csv"), &rows(n + 20..n + 21));
    }
    expect(&sink, 0..60);
    assert_eq!(
        sink.in_order().iter().filter(|n| **n < 10).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
    let row = sink.state().rows.iter().find(|row| row["n"] == "11").cloned().unwrap();
    assert_eq!((row["_index"].as_str(), row["text"].as_str()), (Some("logs-csv-default"), Some("a, b")));
    assert_eq!((row["host.name"].as_str(), row["log.offset"].as_u64()), (Some("node-1"), Some(7 + 10)));
    assert_eq!(row["log.file.path"].as_str(), place.path("b.csv").to_str());
    ship.sync();
    let stats = ship.stats();
    assert_eq!((stats.datasets["json"].created, stats.datasets["csv"].created), (30, 30));
    assert_eq!((stats.lag, stats.files, stats.duplicates), (0, 2, 0));
}

#[test]
fn a_line_is_shipped_when_it_is_whole() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    append(&place.path("a.ndjson"), "{\"n\":0}\n{\"n\":");
    append(&place.path("a.csv"), "n,te");
    expect(&sink, 0..1);
    ship.sync();
    append(&place.path("a.ndjson"), "1}");
    append(&place.path("a.csv"), "xt\n2,\"a\n");
    ship.sync();
    assert_eq!(sink.numbers(), [0]);
    append(&place.path("a.ndjson"), "\n");
    append(&place.path("a.csv"), "b\"\n");
    expect(&sink, 0..3);
    assert_eq!(sink.state().rows.iter().find(|row| row["n"] == "2").unwrap()["text"], "a\nb");
}

#[test]
fn a_renamed_file_is_read_to_its_end_beside_its_successor() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    let mut numbers = 0;
    let mut write = |path: &std::path::Path| {
        append(path, &lines(numbers..numbers + 50));
        numbers += 50;
    };
    for turn in 0..5 {
        let mut log = open(&place.path("log.ndjson"));
        write(&place.path("log.ndjson"));
        ship.sync();
        // To a name that no pattern matches, and to one that a pattern matches.
        let rotated = place.path(&format!("log.{turn}{}", if turn % 2 == 0 { "" } else { ".ndjson" }));
        fs::rename(place.path("log.ndjson"), &rotated).unwrap();
        write(&place.path("log.ndjson"));
        // Its writer still has the renamed one open.
        std::io::Write::write_all(&mut log, lines(1000 + turn..1001 + turn).as_bytes()).unwrap();
    }
    ship.sync();
    let expected: Vec<u64> = (0..500).chain(1000..1005).collect();
    kumon_testing::wait_for("all rows", crate::support::LIMIT, || sink.len() >= expected.len());
    assert_eq!(sink.numbers(), expected);
    // Log, and the two whose names match; the others are let go.
    ship.wait_until("the renamed ones to be let go", |stats| stats.files == 3);
    kumon_testing::wait_for("their entries to go", crate::support::LIMIT, || place.checkpoint().len() == 3);
}

#[test]
fn a_file_that_is_copied_and_truncated_goes_on_with_its_new_content() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    let path = place.path("log.csv");
    for turn in 0..10 {
        append(&path, HEADER);
        append(&path, &rows(turn * 100..turn * 100 + 100));
        ship.sync();
        fs::copy(&path, place.path("log.csv.1")).unwrap();
        open(&path).set_len(0).unwrap();
    }
    expect(&sink, 0..1000);
}

#[test]
fn a_file_truncated_and_rewritten_longer_is_new_content() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    fs::write(place.path("a.ndjson"), lines(0..5)).unwrap();
    ship.sync();
    fs::write(place.path("a.ndjson"), lines(5..50)).unwrap();
    expect(&sink, 0..50);
    // And while nobody looked.
    ship.stop();
    fs::write(place.path("a.ndjson"), lines(50..200)).unwrap();
    let _ship = place.ship(&sink);
    expect(&sink, 0..200);
}

#[test]
fn a_file_truncated_and_rewritten_to_the_same_size_is_new_content() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    fs::write(place.path("a.ndjson"), lines(100..200)).unwrap();
    ship.sync();
    fs::write(place.path("a.ndjson"), lines(200..300)).unwrap();
    kumon_testing::wait_for("the other rows", crate::support::LIMIT, || sink.len() >= 200);
    // And while nobody looked, with the time of modification put back, too.
    let before = fs::metadata(place.path("a.ndjson")).unwrap().modified().unwrap();
    ship.stop();
    fs::write(place.path("a.ndjson"), lines(300..400)).unwrap();
    fs::File::options().append(true).open(place.path("a.ndjson")).unwrap().set_modified(before).unwrap();
    let ship = place.ship(&sink);
    ship.sync();
    assert_eq!(sink.numbers(), (100..400).collect::<Vec<_>>());
}

#[test]
fn a_last_line_without_line_end_is_shipped_when_its_file_is_gone() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    fs::write(place.path("a.ndjson"), "{\"n\":0}\n{\"n\":1}").unwrap();
    fs::write(place.path("b.csv"), "n,x\n2,a\n3,b").unwrap();
    ship.sync();
    assert_eq!(sink.numbers(), [0, 2]);
    fs::remove_file(place.path("a.ndjson")).unwrap();
    fs::rename(place.path("b.csv"), place.path("b.old")).unwrap();
    expect(&sink, 0..4);
    ship.wait_until("the files to be let go", |stats| stats.files == 0);
}

#[test]
fn a_clean_stop_ships_the_last_line_of_a_deleted_file() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    fs::write(place.path("a.ndjson"), "{\"n\":0}\n{\"n\":1}").unwrap();
    ship.sync();
    fs::remove_file(place.path("a.ndjson")).unwrap();
    assert_eq!(ship.stop().undelivered, 0);
    expect(&sink, 0..2);
}
