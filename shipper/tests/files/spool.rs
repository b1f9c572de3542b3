//! KuMon's own files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kumon_spool::{Acknowledged, Limits, Lost, Spool, list};
use kumon_testing::wait_for;

use crate::stand_in::{Fault, StandIn};
use crate::support::{LIMIT, Place, Ship, exec, lines};

fn spool(place: &Place, limits: Limits) -> Spool {
    Spool::open(&place.options.spool, limits).unwrap()
}

fn write(spool: &mut Spool, pids: std::ops::Range<u64>) {
    for pid in pids {
        spool.append(&mut exec(pid, b"a,\"b\""));
    }
    spool.flush().unwrap();
}

/// More than are opened at a time, each with one row.
fn spool_of_600_files(place: &Place) -> Spool {
    let mut spool = spool(place, Limits { file_age: Duration::ZERO, ..Limits::default() });
    (0..600).for_each(|pid| write(&mut spool, pid..pid + 1));
    spool
}

fn pids(sink: &StandIn) -> Vec<u64> {
    let mut pids: Vec<u64> =
        sink.state().rows.iter().map(|row| row["process.pid"].as_u64().unwrap()).collect();
    pids.sort_unstable();
    pids
}

fn files(place: &Place) -> Vec<PathBuf> {
    list(&place.options.spool).unwrap().into_iter().map(|file| file.path).collect()
}

#[test]
fn closed_and_delivered_files_are_deleted_and_open_ones_are_not() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        let mut spool = spool(&place, Limits { file_bytes: 3000, ..Limits::default() });
        let ship = place.ship(&sink);
        for turn in 0..20 {
            write(&mut spool, turn * 10..turn * 10 + 10);
        }
        ship.sync();
        assert_eq!(pids(&sink), (0..200).collect::<Vec<_>>());
        wait_for("closed files to go", LIMIT, || files(&place).len() <= 1);
        write(&mut spool, 200..201);
        ship.sync();
        assert_eq!((pids(&sink).len(), files(&place).len()), (201, 1), "the one that is being written stays");
        spool.close().unwrap();
        wait_for("the last one to go", LIMIT, || files(&place).is_empty());
        ship.wait_until("it to be forgotten", |stats| stats.files == 0);
        wait_for("the acknowledgements to be empty", LIMIT, || {
            Acknowledged::read(&place.options.spool).unwrap() == Acknowledged::default()
        });
    }
}

#[test]
fn the_nuls_of_a_power_cut_are_no_record() {
    let (place, sink) = (Place::new(), StandIn::default());
    let mut spool = spool(&place, Limits::default());
    write(&mut spool, 0..5);
    let path = files(&place).remove(0);
    // Or it would be shed, large as it becomes.
    spool.settle().unwrap();
    drop(spool);
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"2026-11-21T00:00:00Z,node").unwrap();
    file.set_len(1 << 40).unwrap();
    let ship = place.ship(&sink);
    wait_for("the file to go", LIMIT, || files(&place).is_empty());
    ship.sync();
    assert_eq!(pids(&sink), [0, 1, 2, 3, 4]);
    let letters = place.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].to_string().len() < 1000, "{}", letters[0]);
}

#[test]
fn a_record_cut_by_a_crash_goes_to_the_dead_letters() {
    let (place, sink) = (Place::new(), StandIn::default());
    let mut spool = spool(&place, Limits::default());
    write(&mut spool, 0..5);
    let path = files(&place).remove(0);
    drop(spool);
    File::options().append(true).open(&path).unwrap().write_all(b"2026-11-21T00:00:00Z,node").unwrap();
    let ship = place.ship(&sink);
    wait_for("the file to go", LIMIT, || files(&place).is_empty());
    ship.sync();
    assert_eq!(pids(&sink), [0, 1, 2, 3, 4]);
    let letters = place.dead_letters();
    assert_eq!((letters.len(), letters[0]["document"].as_str()), (1, Some("2026-11-21T00:00:00Z,node")));
    assert_eq!(ship.stats().datasets["kumon.exec"].dead_letters, 1);
}

#[test]
fn files_of_another_schema_version_ship_by_their_sidecar() {
    let (place, sink) = (Place::new(), StandIn::default());
    let folder = place.options.spool.join("exec");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("exec-0123456789abcdef0123456789ab.v99.csv");
    fs::write(&file, "pid,former\n1,x\n2,y\n").unwrap();
    let ship = place.ship(&sink);
    ship.wait_until("the file to be named", |stats| stats.stuck.contains_key(&file.display().to_string()));
    assert!(ship.stats().stuck[&file.display().to_string()].contains("schema-v99.json"));
    assert!(file.exists());
    let schema = r#"{"name":"exec","version":99,"kind":"event","description":"d","fields":[
        {"name":"pid","type":"integer","description":"d","ecs":"process.pid","elasticsearch":{"type":"long"}},
        {"name":"former","type":"string","description":"d","ecs":"kumon.exec.former","elasticsearch":{"type":"keyword"}}]}"#;
    fs::write(folder.join("schema-v99.json"), schema).unwrap();
    wait_for("the file to go", LIMIT, || !file.exists());
    assert_eq!(pids(&sink), [1, 2]);
    assert_eq!(sink.state().rows[0]["kumon.exec.former"], "x");
}

/// After a long outage there are more files than are opened at a time.
#[test]
fn the_files_that_wait_to_be_opened_count_as_undelivered_and_a_stop_delivers_them_too() {
    let (place, sink) = (Place::new(), StandIn::default());
    let _spool = spool_of_600_files(&place);
    let bytes = || list(&place.options.spool).unwrap().iter().map(|file| file.size).sum::<u64>();
    sink.fail(Fault::Away);
    let ship = place.ship(&sink);
    ship.wait_until("all to be counted", |stats| stats.lag == bytes());
    assert_eq!(ship.stop_within(Duration::ZERO).undelivered, bytes());

    sink.fail(None);
    assert_eq!(place.ship(&sink).stop().undelivered, 0);
    assert_eq!(pids(&sink), (0..600).collect::<Vec<_>>());
    assert!(files(&place).is_empty());
}

#[test]
fn shed_rows_are_counted_once_and_the_others_arrive_once() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.batch_bytes = 500;
    sink.fail(Fault::Away);
    let limits = Limits { file_age: Duration::ZERO, ..Limits::default() };
    let mut spool = spool(&place, Limits { spool_bytes: 20_000, ..limits });
    let ship = place.ship(&sink);
    write(&mut spool, 0..10);
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    for turn in 1..40 {
        write(&mut spool, turn * 10..turn * 10 + 10);
    }
    ship.wait_until("the files to be seen", |stats| stats.files > 20);
    let lost = |spool: &Spool| {
        let lost = &spool.stats().lost;
        lost.get(&("exec".to_owned(), Lost::SpoolLimit)).copied().unwrap_or(0)
    };
    wait_for("shedding", LIMIT, || {
        spool.flush().unwrap();
        lost(&spool) > 0
    });
    // What was shed is let go, so that its room on the disk is free.
    ship.wait_until("shed files to be let go", |stats| stats.files <= files(&place).len() + 1);
    sink.fail(None);
    ship.wait_until("the rest", |stats| stats.halted.is_none() && stats.lag == 0 && stats.files == 0);
    let arrived = pids(&sink);
    assert_eq!(arrived.len() as u64 + lost(&spool), 400);
    let mut once = arrived.clone();
    once.dedup();
    assert_eq!(arrived, once);
    assert!(place.dead_letters().is_empty());
}

#[test]
fn a_restart_goes_on_within_a_file_without_a_resend() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        let mut spool = spool(&place, Limits::default());
        for turn in 0..3 {
            write(&mut spool, turn * 10..turn * 10 + 10);
            assert_eq!(place.ship(&sink).stop().undelivered, 0);
        }
        assert_eq!(pids(&sink), (0..30).collect::<Vec<_>>());
        assert_eq!(sink.state().resends, 0);
        // A lost bookkeeping costs resends, no doubles.
        fs::remove_file(place.options.spool.join(".acknowledged")).unwrap();
        place.ship(&sink).stop();
        assert_eq!(pids(&sink).len(), 30);
    }
}

#[test]
fn more_files_than_may_be_open_are_shipped_in_turn() {
    let (place, sink) = (Place::new(), StandIn::default());
    let _spool = spool_of_600_files(&place);
    let ship = place.ship(&sink);
    ship.wait_until("the first files", |stats| stats.files > 0);
    assert!(open_files(&place.options.spool) <= 260);
    wait_for("all files to go", LIMIT, || files(&place).is_empty());
    assert_eq!(pids(&sink), (0..600).collect::<Vec<_>>());
}

fn open_files(folder: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter(|link| fs::read_link(link.path()).is_ok_and(|path| path.starts_with(folder))).count()
}

#[test]
fn the_spool_goes_on_while_foreign_files_wait_for_the_checkpoint() {
    let (place, sink) = (Place::new(), StandIn::default());
    let mut spool = spool(&place, Limits::default());
    let ship: Ship = place.ship(&sink);
    ship.sync();
    // A folder in its place: the checkpoint can't be replaced, not even by root.
    let in_the_way = place.options.state.join(".checkpoint.json.new");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(place.path("a.ndjson"), lines(0..5)).unwrap();
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    write(&mut spool, 0..5);
    wait_for("the spool's rows", LIMIT, || sink.len() == 5);
    assert_eq!(pids(&sink), [0, 1, 2, 3, 4]);
    fs::remove_dir(&in_the_way).unwrap();
    wait_for("the foreign rows", LIMIT, || sink.len() == 10);
    ship.wait_until("the end of the halt", |stats| stats.halted.is_none());
}

#[test]
fn a_sync_waits_for_the_files_that_are_not_even_open_yet() {
    let (place, sink) = (Place::new(), StandIn::store());
    let _spool = spool_of_600_files(&place);
    let ship = place.ship(&sink);
    assert!(ship.handle.sync(LIMIT));
    assert_eq!(pids(&sink), (0..600).collect::<Vec<_>>());
}

/// The shipper deletes a file, tells the sink to forget its position, and is killed before the sink's next commit.
#[test]
fn positions_of_files_that_are_gone_do_not_linger_in_the_sink() {
    let (place, sink) = (Place::new(), StandIn::store());
    let mut spool = spool(&place, Limits::default());
    write(&mut spool, 0..5);
    fs::write(place.path("a.ndjson"), lines(0..5)).unwrap();
    let ship = place.ship(&sink);
    ship.sync();
    ship.stop();
    let gone = ["0123456789abcdef0123456789ab", "00112233445566778899aabb"];
    let replayed = "dead-letter-00112233445566778899aabb-0";
    for generation in gone.iter().chain([&replayed]) {
        sink.keep_position(generation, 7);
    }
    let ship = place.ship(&sink);
    ship.sync();
    let positions = sink.positions();
    assert!(gone.iter().all(|generation| !positions.contains_key(*generation)), "{positions:?}");
    assert_eq!(positions.len(), 3, "{positions:?}");
    ship.stop();
    assert_eq!(sink.len(), 10);
}
