//! CSV files whose header or records are not as one would like them.

use std::fs;

use kumon_testing::wait_for;

use crate::stand_in::StandIn;
use crate::support::{HEADER, LIMIT, Place, append, exactly, expect, rows};

#[test]
fn a_csv_record_over_the_limit_is_one_dead_letter_and_the_next_row_is_shipped() {
    let (place, sink) = (Place::new(), StandIn::default());
    let path = place.path("a.csv");
    let lines = "5,invented\n".repeat(150_000);
    append(&path, &format!("{HEADER}0,a\n1,{}\n2,b\n3,\"{lines}\"\n4,c\n", "x".repeat(1_500_000)));
    let ship = place.ship(&sink);
    wait_for("the rows", LIMIT, || sink.len() == 3);
    ship.sync();
    let mut numbers = sink.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 2, 4]);
    let letters = place.dead_letters();
    assert_eq!(letters.len(), 2);
    for (letter, beginning) in letters.iter().zip(["1,xxx", "3,\"5,invented"]) {
        assert_eq!(letter["reason"], "the row is longer than 1048576 bytes");
        let document = letter["document"].as_str().unwrap();
        assert!(document.starts_with(beginning) && document.len() < 2 << 20, "{} bytes", document.len());
    }
}

#[test]
fn a_long_record_that_is_still_being_written_is_waited_for_also_across_a_restart() {
    let (place, sink) = (Place::new(), StandIn::default());
    let path = place.path("a.csv");
    append(&path, &format!("{HEADER}0,a\n1,{}", "x".repeat(3 << 20)));
    let ship = place.ship(&sink);
    expect(&sink, 0..1);
    ship.sync();
    ship.stop();
    append(&path, &"x".repeat(1 << 20));
    let ship = place.ship(&sink);
    append(&path, "xxx\n2,b\n");
    wait_for("the row behind it", LIMIT, || sink.len() == 2);
    ship.sync();
    assert_eq!(place.dead_letters().len(), 1);
}

#[test]
fn a_csv_header_wider_than_a_read_is_known_after_a_restart() {
    let (place, sink) = (Place::new(), StandIn::default());
    let path = place.path("a.csv");
    let names: Vec<String> = (0..20_000).map(|n| format!("column_{n:05}")).collect();
    append(&path, &format!("n,{}\n0{}\n", names.join(","), ",1".repeat(20_000)));
    let ship = place.ship(&sink);
    expect(&sink, 0..1);
    ship.stop();
    append(&path, &format!("1{}\n", ",2".repeat(20_000)));
    let ship = place.ship(&sink);
    expect(&sink, 0..2);
    assert!(ship.stats().stuck.is_empty(), "{:?}", ship.stats());
    assert_eq!(sink.state().rows.iter().filter(|row| row["column_19999"] == "2").count(), 1);
}

/// A writer that keeps its file open goes on after copytruncate without a header.
#[test]
fn after_copytruncate_rows_without_a_header_keep_their_names() {
    for (copied, stopped) in [(true, false), (false, false), (true, true), (false, true)] {
        let (place, sink) = (Place::new(), StandIn::default());
        let path = place.path("a.csv");
        append(&path, &(HEADER.to_owned() + &rows(0..3)));
        let ship = place.ship(&sink);
        expect(&sink, 0..3);
        ship.sync();
        let mut running = Some(ship);
        if stopped {
            running.take().unwrap().stop();
        }
        if copied {
            fs::copy(&path, place.path("a.csv.1")).unwrap();
        }
        fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append(&path, &rows(3..5));
        let ship = running.unwrap_or_else(|| place.ship(&sink));
        expect(&sink, 0..5);
        ship.sync();
        ship.stop();
        // What it knows of the file lasts, though no header stands there.
        append(&path, &rows(5..7));
        let ship = place.ship(&sink);
        expect(&sink, 0..7);
        // A restarted writer begins with a header, and appends.
        append(&path, &(HEADER.to_owned() + &rows(7..9)));
        expect(&sink, 0..9);
        ship.sync();
        exactly(&sink, 0..9);
        assert!(place.dead_letters().is_empty(), "copied {copied}, stopped {stopped}");
    }
}

#[test]
fn a_header_repeated_in_the_middle_is_no_row_also_after_a_restart() {
    let (place, sink) = (Place::new(), StandIn::default());
    let path = place.path("a.csv");
    append(&path, &(HEADER.to_owned() + &rows(0..2) + HEADER + &rows(2..4)));
    let ship = place.ship(&sink);
    expect(&sink, 0..4);
    ship.stop();
    append(&path, &(HEADER.to_owned() + &rows(4..6)));
    let ship = place.ship(&sink);
    expect(&sink, 0..6);
    ship.sync();
    exactly(&sink, 0..6);
    assert!(place.dead_letters().is_empty());
}
