//! Runs of NULs in files: no row behind one is lost, none comes twice, and none ends in the dead letters.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use kumon_testing::wait_for;

use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, Ship, append, expect, lines, rows};

/// A file whose writer doesn't append: it writes where it wrote last, whatever the file is cut to.
struct Writer {
    file: File,
    at: u64,
}

impl Writer {
    fn new(path: &std::path::Path) -> Writer {
        Writer { file: File::create(path).unwrap(), at: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at).unwrap();
        self.at += bytes.len() as u64;
    }
}

#[test]
fn rows_behind_a_truncation_under_a_writer_that_goes_on_at_its_place_arrive() {
    for (place, sink) in [(Place::new(), StandIn::default()), (Place::new(), StandIn::store())] {
        let ship = place.ship(&sink);
        let arrive = |rows: u64| {
            wait_for(&format!("{rows} rows"), LIMIT, || {
                ship.sync();
                sink.len() as u64 >= rows
            });
        };
        let mut writers =
            [Writer::new(&place.path("small.ndjson")), Writer::new(&place.path("large.ndjson"))];
        writers[1].at = 3 << 30;
        let write = |writers: &mut [Writer; 2], first: u64| {
            for (first, writer) in [first, first + 10].into_iter().zip(writers) {
                writer.write(lines(first..first + 5).as_bytes());
            }
        };
        for first in [0, 20, 40] {
            write(&mut writers, first);
            arrive(first + 10);
            // In the middle of it, as well as between.
            if first == 20 {
                writers.iter().for_each(|writer| writer.file.set_len(0).unwrap());
            }
            write(&mut writers, first + 5);
            arrive(first + 20);
            if first == 20 {
                // One for each truncation, and the beginning of the large one; none twice. Content that is seen to be new
                // counts anew.
                for (file, holes) in [("small", 2), ("large", 3)] {
                    let path = place.path(&format!("{file}.ndjson")).display().to_string();
                    let note = ship.stats().notes.get(&path).cloned().unwrap_or_default();
                    let counted = note.split_once(" run").and_then(|(count, _)| count.parse().ok());
                    assert!((1..=holes).contains(&counted.unwrap_or(0)), "{file}: {note}");
                }
            }
            writers.iter().for_each(|writer| writer.file.set_len(0).unwrap());
        }
        ship.sync();
        expect(&sink, 0..60);
        assert_eq!(place.dead_letters(), Vec::<serde_json::Value>::new());
    }
}

#[test]
fn rows_that_fill_space_taken_in_advance_arrive_as_they_come() {
    let (place, sink) = (Place::new(), StandIn::default());
    let paths = [place.path("a.ndjson"), place.path("b.csv")];
    let mut writers = [Writer::new(&paths[0]), Writer::new(&paths[1])];
    // One is never written, the other is written full of NULs.
    writers[0].file.set_len(1 << 30).unwrap();
    writers[1].file.write_all_at(&vec![0; 40 << 20], 0).unwrap();
    let ship = place.ship(&sink);
    ship.sync();
    writers[1].write(HEADER.as_bytes());
    for n in 0..20 {
        let [json, csv] = [lines(2 * n..2 * n + 1), rows(2 * n + 1..2 * n + 2)];
        for (writer, row) in writers.iter_mut().zip([json, csv]) {
            // A part of the row is none.
            let (first, rest) = row.split_at(row.len() / 2);
            writer.write(first.as_bytes());
            ship.sync();
            writer.write(rest.as_bytes());
        }
        expect(&sink, 0..2 * n + 2);
    }
    ship.sync();
    assert_eq!(ship.stats().lag, 0, "space is nothing that waits");
    let ship = {
        drop(ship);
        place.ship(&sink)
    };
    writers[0].write(lines(40..41).as_bytes());
    writers[1].write(rows(41..42).as_bytes());
    expect(&sink, 0..42);
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    ship.wait_until("the files to be let go", |stats| stats.files == 0);
    assert_eq!(place.dead_letters(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_power_cut_in_the_middle_of_a_file_costs_the_record_it_cut() {
    for hole in [1, 20, 4096, 500_000, 20 << 20] {
        let (place, sink) = (Place::new(), StandIn::default());
        let ship = place.ship(&sink);
        let cut = |path, whole: String, cut: &str| {
            let mut writer = Writer::new(path);
            writer.write((whole + cut).as_bytes());
            writer.write(&vec![0; hole]);
            writer
        };
        // The last row lacks its line end alone.
        let (a, b, c) = (place.path("a.ndjson"), place.path("b.ndjson"), place.path("c.csv"));
        let mut a = cut(&a, lines(0..10), "{\"n\":10}");
        let mut b = cut(&b, lines(11..20), "{\"n\":1000, \"text\":\"");
        let mut c = cut(&c, HEADER.to_owned() + &rows(20..30), "1001,\"a, b");
        ship.sync();
        // A restart that finds the hole, and one that comes behind it.
        let ship = {
            drop(ship);
            place.ship(&sink)
        };
        a.write(lines(30..40).as_bytes());
        b.write(lines(40..50).as_bytes());
        // A few NULs may as well be part of a value.
        if hole < 16 {
            c.at = 0;
            c.file.set_len(0).unwrap();
            c.write(HEADER.as_bytes());
        }
        c.write(rows(50..60).as_bytes());
        expect(&sink, 0..60);
        ship.stop();
        let ship = place.ship(&sink);
        a.write(lines(60..70).as_bytes());
        expect(&sink, 0..70);
        ship.sync();
        assert_eq!(sink.state().resends, 0);
        let mut letters: Vec<String> =
            place.dead_letters().iter().map(|letter| letter["document"].to_string()).collect();
        letters.sort();
        assert_eq!(letters.len(), if hole < 16 { 1 } else { 2 }, "{letters:?}");
        assert!(letters.iter().all(|letter| letter.len() < 50), "{letters:?}");
    }
}

#[test]
fn a_hole_that_fills_up_late_costs_no_row() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    let mut writer = Writer::new(&place.path("a.ndjson"));
    writer.write(lines(0..10).as_bytes());
    let later = lines(10..100);
    // Behind the next rows, as from another thread or over NFS.
    writer.file.write_all_at(lines(100..200).as_bytes(), writer.at + later.len() as u64).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    writer.write(later.as_bytes());
    expect(&sink, 0..200);
    ship.sync();
    assert_eq!(place.dead_letters(), Vec::<serde_json::Value>::new());
}

/// Whatever makes the shipper look at the header once more.
#[test]
fn a_header_behind_a_hole_is_the_header_after_a_restart_and_a_fault_too() {
    for hole in [1, 1000, 300_000, 1 << 40] {
        for sink in [StandIn::default(), StandIn::store()] {
            let place = Place::new();
            let mut writer = Writer::new(&place.path("a.csv"));
            writer.at = hole;
            writer.write((HEADER.to_owned() + &rows(0..10)).as_bytes());
            let arrive = |ship: &Ship, rows: u64| {
                wait_for(&format!("{rows} rows"), LIMIT, || {
                    ship.handle.sync(LIMIT) && sink.len() as u64 >= rows
                });
            };
            let ship = place.ship(&sink);
            arrive(&ship, 10);
            sink.fail(Fault::Away);
            writer.write(rows(10..20).as_bytes());
            ship.wait_until("the halt", |stats| stats.halted.is_some());
            sink.fail(None);
            arrive(&ship, 20);
            ship.stop();
            writer.write(rows(20..30).as_bytes());
            let ship = place.ship(&sink);
            arrive(&ship, 30);
            expect(&sink, 0..30);
            assert_eq!(place.dead_letters(), Vec::<serde_json::Value>::new());
        }
    }
}

#[test]
fn a_sparse_file_of_terabytes_is_read_at_once() {
    let (place, sink) = (Place::new(), StandIn::default());
    let mut writer = Writer::new(&place.path("a.ndjson"));
    for n in 0..5 {
        writer.write(lines(n..n + 1).as_bytes());
        writer.at += 1 << 39;
    }
    let start = Instant::now();
    let _ship = place.ship(&sink);
    expect(&sink, 0..5);
    assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
    append(&place.path("a.ndjson"), &lines(5..6));
    expect(&sink, 0..6);
}
