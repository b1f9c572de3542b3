//! A state folder on a disk that hangs. It is a real one: an ext4 that is frozen.

use std::time::{Duration, Instant};

use kumon_testing::{HangingDisk, require_program, require_root, wait_for};

use crate::stand_in::StandIn;
use crate::support::{LIMIT, Place, append, expect, lines};

#[test]
fn rows_arrive_while_the_checkpoint_waits_for_its_disk() {
    if !require_root() || !require_program("mkfs.ext4") {
        return;
    }
    let mut place = Place::new();
    let disk = HangingDisk::mount(place.folder.path().join("disk"));
    place.options.state = disk.path().join("state");
    let (sink, file) = (StandIn::default(), place.path("a.ndjson"));
    let delivered = || place.checkpoint().first().and_then(|file| file["delivered"]["offset"].as_u64());
    let is_written = || delivered() == Some(std::fs::metadata(&file).unwrap().len());
    let ship = place.ship(&sink);
    // Enough for the checkpoint to know the file by.
    append(&file, &lines(0..400));
    wait_for("the checkpoint", LIMIT, is_written);

    let hang = disk.hang();
    let (start, before, mut next) = (Instant::now(), delivered(), 400);
    // The checkpoint is due once a second.
    while start.elapsed() < Duration::from_secs(3) {
        append(&file, &lines(next..next + 1));
        next += 1;
        expect(&sink, 0..next);
    }
    assert!(delivered() == before && ship.stats().halted.is_none(), "{:?}", ship.stats());
    drop(hang);

    wait_for("the checkpoint", LIMIT, is_written);
    ship.stop();
    let ship = place.ship(&sink);
    append(&file, &lines(next..next + 1));
    expect(&sink, 0..next + 1);
    ship.sync();
    assert_eq!(ship.stats().duplicates, 0, "all that was sent before is known");
}
