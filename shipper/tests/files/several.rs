//! Several shippers that read the same files, each for a sink of its own.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kumon_shipper::{Shipper, SpoolReader};
use kumon_spool::{Limits, Lost, Spool, list};
use kumon_testing::wait_for;

use crate::stand_in::{Fault, StandIn};
use crate::support::{LIMIT, Place, Ship, append, exec, expect, lines};

/// More than are opened at a time.
const FILES: u64 = 600;

/// Starts a shipper for each of the sinks, side by side.
fn ship(place: &Place, sinks: &[&StandIn]) -> Vec<Ship> {
    let readers = SpoolReader::several(sinks.len()).into_iter().zip(sinks).enumerate();
    let shippers: Vec<_> = readers
        .map(|(number, (reader, sink))| {
            let mut options = place.options.clone();
            options.state = place.folder.path().join(format!("state-{number}"));
            Shipper::beside_others(options, Box::new(sink.reopened()), reader).unwrap()
        })
        .collect();
    shippers.into_iter().map(Ship::run).collect()
}

fn stop(ships: Vec<Ship>, limit: Duration) {
    ships.into_iter().for_each(|ship| _ = ship.stop_within(limit));
}

/// Files of one row each; closed all but the last one.
fn write_files(spool: &mut Spool, pids: std::ops::Range<u64>) {
    for pid in pids {
        spool.append(&mut exec(pid, b"a"));
        spool.flush().unwrap();
    }
}

fn spool(place: &Place, limits: Limits) -> Spool {
    Spool::open(&place.options.spool, Limits { file_age: Duration::ZERO, ..limits }).unwrap()
}

fn files(place: &Place) -> usize {
    list(&place.options.spool).unwrap().len()
}

/// How many files of the spool this process has open.
fn open_files(place: &Place) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let spool: PathBuf = place.options.spool.canonicalize().unwrap();
    targets.filter(|target| target.starts_with(&spool) && target.is_file()).count()
}

fn pids(sink: &StandIn) -> Vec<u64> {
    let mut pids: Vec<u64> = sink.state().rows.iter().filter_map(|row| row["process.pid"].as_u64()).collect();
    pids.sort_unstable();
    pids
}

fn expect_pids(sink: &StandIn, count: u64) {
    wait_for("the rows", LIMIT, || pids(sink).len() as u64 >= count);
    assert_eq!(pids(sink), (0..count).collect::<Vec<_>>());
}

#[test]
fn one_that_halts_keeps_its_files_and_delays_no_other() {
    let (place, going, halting) = (Place::new(), StandIn::store(), StandIn::default());
    halting.fail(Fault::Away);
    let mut spool = spool(&place, Limits::default());
    write_files(&mut spool, 0..FILES);
    let ships = ship(&place, &[&going, &halting]);
    ships[0].sync();
    expect_pids(&going, FILES);
    // The last file is still being written.
    ships[0].wait_until("the others to be let go", |stats| stats.files <= 1);
    assert_eq!((files(&place) as u64, ships[0].stats().lag), (FILES, 0));
    assert!(open_files(&place) <= 130, "{} open", open_files(&place));
    assert!(ships[1].stats().halted.is_some() && ships[1].stats().lag > 0);

    // After a restart neither begins anew.
    stop(ships, Duration::ZERO);
    let ships = ship(&place, &[&going, &halting]);
    write_files(&mut spool, FILES..FILES + 5);
    ships[0].sync();
    expect_pids(&going, FILES + 5);
    assert_eq!((pids(&halting).len(), files(&place) as u64), (0, FILES + 5));

    halting.fail(None);
    expect_pids(&halting, FILES + 5);
    spool.close().unwrap();
    wait_for("all files to go", LIMIT, || files(&place) == 0);
    stop(ships, LIMIT);
    assert_eq!((going.state().resends, halting.state().resends), (0, 0));
    expect_pids(&going, FILES + 5);
}

#[test]
fn foreign_files_are_followed_by_each_and_one_that_comes_later_begins_at_their_start() {
    let (place, first, second) = (Place::new(), StandIn::store(), StandIn::default());
    append(&place.path("a.ndjson"), &lines(0..10));
    let ships = ship(&place, &[&first]);
    ships[0].sync();
    expect(&first, 0..10);
    stop(ships, LIMIT);
    // The one before was alone.
    fs::create_dir_all(place.folder.path().join("state-1")).unwrap();
    let ships = ship(&place, &[&first, &second]);
    append(&place.path("a.ndjson"), &lines(10..20));
    ships[0].sync();
    expect(&first, 0..20);
    expect(&second, 0..20);
    stop(ships, LIMIT);
}

#[test]
fn what_is_shed_counts_as_lost_unless_all_have_it() {
    let (mut place, going, halting) = (Place::new(), StandIn::default(), StandIn::default());
    // One small batch is in flight, whose files are not shed.
    place.options.batch_bytes = 500;
    halting.fail(Fault::Away);
    let ships = ship(&place, &[&going, &halting]);
    write_files(&mut spool(&place, Limits::default()), 0..200);
    // Nothing is shed before one of them has it.
    expect_pids(&going, 200);
    let mut spool = spool(&place, Limits { spool_bytes: 20_000, ..Limits::default() });
    let lost =
        |spool: &Spool| spool.stats().lost.get(&("exec".to_owned(), Lost::SpoolLimit)).copied().unwrap_or(0);
    wait_for("shedding", LIMIT, || {
        spool.flush().unwrap();
        lost(&spool) > 0
    });
    halting.fail(None);
    ships[1].wait_until("the rest", |stats| stats.halted.is_none() && stats.lag == 0 && stats.files <= 1);
    stop(ships, LIMIT);
    assert_eq!(pids(&halting).len() as u64 + lost(&spool), 200);
}
