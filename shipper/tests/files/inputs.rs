//! Inputs that change from one start to the next (a reload is a start, too), and whose file it is then.

use std::fs;
use std::path::PathBuf;

use kumon_shipper::{Format, Input};
use kumon_testing::{keep_log, logged, wait_for};

use crate::stand_in::StandIn;
use crate::support::{HEADER, LIMIT, Place, append, exactly, lines, rows};

fn input(place: &Place, pattern: &str, format: Format, dataset: &str) -> Input {
    let paths = vec![place.path(pattern).to_str().unwrap().to_owned()];
    Input { paths, format, dataset: dataset.into(), ..place.options.inputs[0].clone() }
}

/// The numbers of the rows that went to each dataset.
fn of_dataset(sink: &StandIn, dataset: &str) -> Vec<u64> {
    let index = format!("logs-{dataset}-default");
    let rows = sink.state();
    let rows = rows.rows.iter().filter(|row| row["_index"] == *index);
    let number = |row: &serde_json::Value| row["n"].as_u64().or_else(|| row["n"].as_str()?.parse().ok());
    let mut numbers: Vec<u64> = rows.map(|row| number(row).unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn numbers(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

#[test]
fn an_input_that_is_taken_out_and_put_back_goes_on() {
    keep_log();
    for sink in [StandIn::default(), StandIn::store()] {
        let mut place = Place::new();
        let (with, mut without) = (place.options.inputs.clone(), place.options.inputs.clone());
        without[0].paths = vec![place.path("mistyped.ndjson").to_str().unwrap().to_owned()];
        append(&place.path("a.ndjson"), &lines(0..10));
        append(&place.path("b.ndjson"), &lines(10..20));
        append(&place.path("gone.ndjson"), &lines(20..30));
        place.ship(&sink).sync();
        // Without it once, and over several starts.
        place.options.inputs = without;
        for turn in 0..3 {
            let ship = place.ship(&sink);
            ship.sync();
            wait_for("them to be kept in mind", LIMIT, || place.missing().len() == 3);
            if turn == 0 {
                append(&place.path("a.ndjson"), &lines(30..40));
                // Rotated meanwhile, with rows that nobody has seen.
                append(&place.path("b.ndjson"), &lines(40..50));
                fs::rename(place.path("b.ndjson"), place.path("b.ndjson.1")).unwrap();
                append(&place.path("b.ndjson"), &lines(50..60));
                fs::remove_file(place.path("gone.ndjson")).unwrap();
            }
        }
        let first = place.path("a.ndjson").display().to_string();
        assert!(logged(&[&first, "this and 2 other files", "have no input any more"]) > 0);
        place.options.inputs = with;
        let ship = place.ship(&sink);
        ship.sync();
        exactly(&sink, 0..60);
        wait_for("the deleted one to be forgotten", LIMIT, || place.missing().is_empty());
    }
}

#[test]
fn a_changed_pattern_or_dataset_doubles_nothing() {
    type Change = fn(&mut Place);
    let changes: [(&str, Change); 5] = [
        ("another pattern", |place| place.options.inputs[0].paths[0].push('*')),
        ("each file by name", |place| {
            let names = ["a.ndjson", "b.ndjson"].map(|name| place.path(name).to_str().unwrap().to_owned());
            place.options.inputs[0].paths = names.into();
        }),
        ("an input before it that overlaps", |place| {
            let before = input(place, "a.*", Format::Ndjson, "json");
            place.options.inputs.insert(0, before);
        }),
        ("the other order", |place| place.options.inputs.reverse()),
        ("another dataset", |place| place.options.inputs[0].dataset = "other".into()),
    ];
    for (what, change) in changes {
        for sink in [StandIn::default(), StandIn::store()] {
            let mut place = Place::new();
            append(&place.path("a.ndjson"), &lines(0..10));
            append(&place.path("b.ndjson"), &lines(10..20));
            place.ship(&sink).sync();
            change(&mut place);
            append(&place.path("a.ndjson"), &lines(20..30));
            append(&place.path("b.ndjson"), &lines(30..40));
            let ship = place.ship(&sink);
            ship.sync();
            assert_eq!(sink.numbers(), numbers(0..40), "{what}");
            if what == "another dataset" {
                assert_eq!(
                    (of_dataset(&sink, "json"), of_dataset(&sink, "other")),
                    (numbers(0..20), numbers(20..40))
                );
            }
        }
    }
}

/// Patterns that overlap, and one that would match the other's files if its `*` matched a `/`.
#[test]
fn every_row_goes_to_the_first_input_that_matches_its_file_also_once_that_is_rotated() {
    for running in [true, false] {
        for matched in [true, false] {
            let (mut place, sink) = (Place::new(), StandIn::default());
            fs::create_dir(place.path("sub")).unwrap();
            place.options.inputs = vec![
                input(&place, "*.log*", Format::Ndjson, "outer"),
                input(&place, if matched { "sub/*" } else { "sub/*.log" }, Format::Csv, "inner"),
                input(&place, "sub/app.*", Format::Ndjson, "late"),
                input(&place, "app.*", Format::Ndjson, "late"),
            ];
            let (outer, inner) = (place.path("app.log"), place.path("sub/app.log"));
            append(&outer, &lines(0..10));
            append(&inner, &(HEADER.to_owned() + &rows(100..110)));
            let ship = place.ship(&sink);
            ship.sync();
            let ship = running.then_some(ship);
            append(&outer, &lines(10..20));
            append(&inner, &rows(110..120));
            for path in [&outer, &inner] {
                fs::rename(path, PathBuf::from(format!("{}.1", path.display()))).unwrap();
            }
            let ship = ship.unwrap_or_else(|| place.ship(&sink));
            wait_for("the rows", LIMIT, || {
                ship.sync();
                sink.len() >= 40
            });
            assert_eq!(of_dataset(&sink, "outer"), numbers(0..20));
            assert_eq!(of_dataset(&sink, "inner"), numbers(100..120));
            assert!(place.dead_letters().is_empty());
        }
    }
}

#[test]
fn a_file_moved_to_another_input_s_folder_goes_on_as_what_it_was() {
    for sink in [StandIn::default(), StandIn::store()] {
        let mut place = Place::new();
        for folder in ["a", "b"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        place.options.inputs = vec![
            input(&place, "a/*.log", Format::Ndjson, "first"),
            input(&place, "b/*.log", Format::Csv, "second"),
        ];
        let (here, there) = (place.path("a/x.log"), place.path("b/x.log"));
        append(&here, &lines(0..10));
        let mut ship = place.ship(&sink);
        ship.sync();
        append(&here, &lines(10..20));
        fs::rename(&here, &there).unwrap();
        append(&there, &lines(20..30));
        // What comes to have its old name is another file.
        append(&here, &lines(100..110));
        for start in [30, 40, 50] {
            append(&there, &lines(start..start + 10));
            wait_for("the rows", LIMIT, || {
                ship.sync();
                sink.len() as u64 == start + 20
            });
            ship.stop();
            ship = place.ship(&sink);
        }
        assert_eq!(of_dataset(&sink, "first"), (0..60).chain(100..110).collect::<Vec<_>>());
        assert!(place.dead_letters().is_empty());
        let row = sink.state().rows.iter().find(|row| row["n"] == 55).cloned().unwrap();
        assert_eq!(row["log.file.path"].as_str(), here.to_str());
    }
}
