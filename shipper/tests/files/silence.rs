//! Nothing is left out in silence.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use kumon_testing::{keep_log, logged};

use crate::stand_in::StandIn;
use crate::support::{Place, append, lines};

#[test]
fn what_is_not_shipped_is_told_with_its_reason() {
    keep_log();
    let (mut place, sink) = (Place::new(), StandIn::default());
    let nothing = place.path("none/*.log").to_str().unwrap().to_owned();
    let mistyped = place.path("mistyped.log").to_str().unwrap().to_owned();
    place.options.inputs[0].paths.extend([nothing.clone(), mistyped.clone()]);
    let (unfinished, refused) = (place.path("a.ndjson"), place.path("b.csv"));
    append(&unfinished, &(lines(0..3) + "{\"n\":3}"));
    append(&refused, "n\n1,2\n3,4\n");
    let odd = place.path("").join(std::ffi::OsStr::from_bytes(b"caf\xe9.ndjson"));
    fs::write(&odd, lines(7..8)).unwrap();

    let ship = place.ship(&sink);
    let has = |what: &str, why: &str| {
        ship.wait_until(&format!("{what} to be told"), |stats| {
            let of = |told: &std::collections::BTreeMap<String, String>| {
                told.get(what).is_some_and(|told| told.contains(why))
            };
            of(&stats.notes) || of(&stats.stuck) || of(&stats.last_letters)
        });
    };
    has(&nothing, &format!("matches no file: there is no folder {}", place.path("none").display()));
    has(&mistyped, "matches no file");
    has(&unfinished.display().to_string(), "its last 7 bytes are no whole row");
    has("csv", &format!("{} at byte 6: ", refused.display()));
    has(&odd.display().to_string(), "not UTF-8");
    ship.sync();
    assert_eq!(logged(&[&nothing, "there is no folder"]), 1);
    assert_eq!(logged(&[&mistyped, "matches no file"]), 1);
    // What is mended is told no more.
    append(&unfinished, "\n");
    append(&place.path("mistyped.log"), &lines(4..5));
    let mended = [unfinished.display().to_string(), mistyped];
    ship.wait_until("the others to be fine", |stats| !mended.iter().any(|it| stats.notes.contains_key(it)));
    ship.sync();
    assert_eq!(sink.numbers(), [0, 1, 2, 3, 4]);
}
