//! Files in other characters and shapes than UTF-8 with an object or record a line.

use std::fs;
use std::io::Write;

use kumon_shipper::Encoding;

use crate::stand_in::StandIn;
use crate::support::{HEADER, Place, Ship, expect, lines, open, rows};

fn utf_16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn is_told(ship: &Ship, place: &Place, name: &str, what: &str) {
    let path = place.path(name).display().to_string();
    ship.wait_until(what, |stats| stats.stuck.get(&path).is_some_and(|why| why.contains(what)));
}

#[test]
fn files_of_another_encoding_are_shipped_once_over_restarts_and_truncations() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    for input in &mut place.options.inputs {
        input.encoding = Encoding::named("utf-16le").unwrap();
    }
    let (json, csv) = (place.path("a.ndjson"), place.path("b.csv"));
    fs::write(&json, utf_16(&format!("\u{feff}{}", lines(0..10)))).unwrap();
    fs::write(&csv, utf_16(&format!("\u{feff}{HEADER}{}", rows(10..20)))).unwrap();
    for n in (20..60).step_by(10) {
        let ship = place.ship(&sink);
        expect(&sink, 0..n);
        // Half a character is none yet.
        let more = utf_16(&lines(n..n + 5));
        open(&json).write_all(&more[..more.len() - 1]).unwrap();
        ship.sync();
        open(&json).write_all(&more[more.len() - 1..]).unwrap();
        open(&csv).write_all(&utf_16(&rows(n + 5..n + 10))).unwrap();
        expect(&sink, 0..n + 10);
    }
    assert_eq!(sink.state().resends, 0);
    let ship = place.ship(&sink);
    fs::write(&json, utf_16(&lines(60..70))).unwrap();
    expect(&sink, 0..70);
    open(&json).write_all(&utf_16("no JSON: \u{e4}\n")).unwrap();
    ship.sync();
    ship.wait_until("the line that is none", |_| !place.dead_letters().is_empty());
    assert_eq!(place.dead_letters()[0]["document"], "no JSON: \u{e4}\n");
}

#[test]
fn files_that_are_no_lines_of_utf_8_are_told_and_kept() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    for (name, bytes, what) in [
        ("marked.ndjson", utf_16("\u{feff}{\"n\":0}\n"), "'encoding: utf-16le'"),
        ("unmarked.ndjson", utf_16("{\"n\":0}\n"), "'encoding: utf-16le'"),
        ("marked.csv", utf_16("\u{feff}n,x\n1,2\n"), "'encoding: utf-16le'"),
        ("array.ndjson", b"[{\"n\":0},{\"n\":1}]\n".to_vec(), "jq -c .[]"),
        ("lines.ndjson", b"[\n  {\"n\":0},\n  {\"n\":1}\n]\n".to_vec(), "jq -c .[]"),
        ("pretty.ndjson", b"{\n  \"n\": 0\n}\n".to_vec(), "jq -c ."),
    ] {
        fs::write(place.path(name), bytes).unwrap();
        is_told(&ship, &place, name, what);
    }
    assert_eq!((sink.len(), place.dead_letters().len()), (0, 0));
    // Other content is looked at anew.
    fs::write(place.path("array.ndjson"), lines(0..5)).unwrap();
    expect(&sink, 0..5);
    // A first line that is cut is no reason to keep the rest.
    fs::write(place.path("cut.ndjson"), format!("{{\n{}", lines(5..10))).unwrap();
    expect(&sink, 0..10);
}
