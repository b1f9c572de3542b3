//! What is logged, and how often.

use std::fs;
use std::os::unix::fs::symlink;

use kumon_testing::{keep_log, logged};

use crate::stand_in::StandIn;
use crate::support::{Place, append, expect, lines};

#[test]
fn a_folder_that_can_t_be_looked_into_has_a_line_and_not_one_for_each_file_and_look() {
    keep_log();
    let (mut place, sink) = (Place::new(), StandIn::default());
    let (folder, aside) = (place.path("p"), place.path("q"));
    place.options.inputs[0].paths = vec![folder.join("*.ndjson").to_str().unwrap().to_owned()];
    fs::create_dir(&folder).unwrap();
    for file in 0..100 {
        append(&folder.join(format!("{file}.ndjson")), &lines(file..file + 1));
    }
    let ship = place.ship(&sink);
    expect(&sink, 0..100);
    fs::rename(&folder, &aside).unwrap();
    symlink("p", &folder).unwrap();
    for _ in 0..10 {
        ship.sync();
    }
    let shown = folder.display().to_string();
    assert_eq!(logged(&[&shown, "can't be let go"]), 1);
    // They are still the same files when it is there again.
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    append(&folder.join("7.ndjson"), &lines(100..101));
    expect(&sink, 0..101);
}
