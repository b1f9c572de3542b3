//! Restarts: clean, after SIGKILL, and with a checkpoint that can't be trusted.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kumon_shipper::{Shipper, ShipperError};
use kumon_testing::{Child, wait_for};

use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, append, expect, lines, options, rows};

#[test]
fn a_clean_restart_goes_on_where_it_was() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        for turn in 0..4 {
            let ship = place.ship(&sink);
            if turn == 0 {
                append(&place.path("a.csv"), HEADER);
            }
            append(&place.path("a.csv"), &rows(turn * 20..turn * 20 + 10));
            assert_eq!(ship.stop().undelivered, 0);
            append(&place.path("a.csv"), &rows(turn * 20 + 10..turn * 20 + 20));
        }
        let ship = place.ship(&sink);
        ship.sync();
        expect(&sink, 0..80);
        assert_eq!(sink.state().resends, 0);
    }
}

/// Not a test: the shipper that the tests kill, when they start this program again for it.
#[test]
fn shipper_to_be_killed() {
    let Some(folder) = std::env::var_os("SHIPPER_TO_BE_KILLED").map(PathBuf::from) else { return };
    let sink = StandInKind::from_env().open(&folder.join("sink"));
    let mut options = options(&folder);
    options.batch_bytes = 2000;
    let (shipper, handle) = Shipper::new(options, Box::new(sink)).unwrap();
    std::thread::spawn(move || {
        loop {
            handle.sync(LIMIT);
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    shipper.run();
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StandInKind {
    Ids,
    Store,
}

impl StandInKind {
    fn from_env() -> StandInKind {
        if std::env::var_os("SHIPPER_KEEPS_POSITIONS").is_some() {
            StandInKind::Store
        } else {
            StandInKind::Ids
        }
    }

    pub(crate) fn open(self, file: &std::path::Path) -> StandIn {
        match self {
            StandInKind::Ids => StandIn::default().in_file(file),
            StandInKind::Store => StandIn::store().in_file(file),
        }
    }
}

/// A shipper in a process of its own.
pub(crate) fn spawn(folder: &std::path::Path, kind: StandInKind) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "restart::shipper_to_be_killed", "--nocapture"]);
    command.env("SHIPPER_TO_BE_KILLED", folder).stdout(std::process::Stdio::null());
    if let StandInKind::Store = kind {
        command.env("SHIPPER_KEEPS_POSITIONS", "1");
    }
    Child::spawn(&mut command)
}

#[test]
fn after_sigkill_nothing_is_lost_or_doubled() {
    for kind in [StandInKind::Ids, StandInKind::Store] {
        let place = Place::new();
        let (file, mut next) = (place.folder.path().join("sink"), 0);
        append(&place.path("b.csv"), HEADER);
        let mut killed_in_between = 0;
        for _ in 0..8 {
            let mut child = spawn(place.folder.path(), kind);
            let before = fs::metadata(&file).map_or(0, |file| file.len());
            wait_for("something to arrive", LIMIT, || {
                append(&place.path("a.ndjson"), &lines(next..next + 100));
                append(&place.path("b.csv"), &rows(next + 100..next + 150));
                next += 150;
                fs::metadata(&file).is_ok_and(|file| file.len() > before)
            });
            append(&place.path("a.ndjson"), &lines(next..next + 3000));
            next += 3000;
            child.kill().unwrap();
            killed_in_between += u64::from((kind.open(&file).len() as u64) < next);
        }
        assert!(killed_in_between > 0, "every kill came after all had arrived");
        let sink = kind.open(&file);
        let ship = place.ship(&sink);
        ship.sync();
        assert_eq!(sink.numbers(), (0..next).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn content_replaced_after_a_kill_is_never_taken_for_a_resend() {
    // The first rows are sent, and the shipper dies before it could write down that they were.
    for kind in [StandInKind::Ids, StandInKind::Store] {
        let place = Place::new();
        let file = place.folder.path().join("sink");
        append(&place.path("a.ndjson"), &lines(0..5));
        let mut child = spawn(place.folder.path(), kind);
        wait_for("the first rows", LIMIT, || fs::metadata(&file).is_ok_and(|file| file.len() > 0));
        child.kill().unwrap();
        fs::write(place.path("a.ndjson"), lines(5..50)).unwrap();
        let sink = kind.open(&file);
        let ship = place.ship(&sink);
        ship.sync();
        assert_eq!(sink.numbers(), (0..50).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn after_a_damaged_checkpoint_nothing_is_lost() {
    let (place, sink) = (Place::new(), StandIn::default());
    append(&place.path("a.ndjson"), &lines(0..10));
    place.ship(&sink).stop();
    let checkpoint = place.options.state.join("checkpoint.json");
    let text = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &text[..text.len() / 2]).unwrap();
    append(&place.path("a.ndjson"), &lines(10..20));
    let ship = place.ship(&sink);
    ship.sync();
    let numbers: std::collections::BTreeSet<u64> = sink.numbers().into_iter().collect();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(place.options.state.join("checkpoint.damaged.json").exists());
}

#[test]
fn a_newer_checkpoint_and_a_second_shipper_are_refused_with_what_to_do() {
    let (place, sink) = (Place::new(), StandIn::default());
    let ship = place.ship(&sink);
    let error = place.try_ship(&sink).err().unwrap();
    assert!(matches!(error, ShipperError::InUse(_)) && error.to_string().contains("path.state"), "{error}");
    ship.stop();
    fs::write(place.options.state.join("checkpoint.json"), r#"{"version":9,"other":1}"#).unwrap();
    let error = place.try_ship(&sink).err().unwrap().to_string();
    assert!(error.contains("newer KuMon (version 9)") && error.contains("move the file away"), "{error}");
}

#[test]
fn a_bad_pattern_is_named() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.inputs[0].paths.push("/srv/[a.csv".into());
    let error = place.try_ship(&sink).err().unwrap().to_string();
    assert!(error.starts_with("'/srv/[a.csv' is no glob pattern"), "{error}");
}

#[test]
fn stopping_keeps_to_its_limit_while_the_sink_is_away_and_says_what_is_left() {
    let (place, sink) = (Place::new(), StandIn::default());
    sink.fail(Fault::Away);
    append(&place.path("a.ndjson"), &lines(0..10));
    let ship = place.ship(&sink);
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    assert!(!ship.handle.sync(Duration::from_secs(2)));
    let start = std::time::Instant::now();
    let ended = ship.stop_within(Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(ended.undelivered, lines(0..10).len() as u64);
    sink.fail(None);
    let _ship = place.ship(&sink);
    expect(&sink, 0..10);
}

#[test]
fn a_stop_tries_again_what_the_sink_does_not_confirm_as_long_as_there_is_time() {
    let (place, sink) = (Place::new(), StandIn::default());
    sink.fail(Fault::AnswersGetLost);
    append(&place.path("a.ndjson"), &lines(0..10));
    let ship = place.ship(&sink);
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    ship.handle.stop(LIMIT);
    let tries = sink.state().sends;
    // One may have been under way before the stop.
    wait_for("tries while it stops", LIMIT, || sink.state().sends > tries + 1);
    sink.fail(None);
    assert_eq!(ship.stop().undelivered, 0);
    expect(&sink, 0..10);
}

/// A shipper in a process of its own that nobody asks for anything.
pub(crate) fn spawn_idle(place: &Place) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "restart::idle_shipper", "--nocapture"]);
    command.env("IDLE_SHIPPER", place.folder.path()).env("IDLE_SHIPPER_STATE", &place.options.state);
    Child::spawn(command.stdout(std::process::Stdio::null()))
}

/// Not a test: see [`spawn_idle`].
#[test]
fn idle_shipper() {
    let Some(folder) = std::env::var_os("IDLE_SHIPPER").map(PathBuf::from) else { return };
    let mut options = options(&folder);
    options.state = std::env::var_os("IDLE_SHIPPER_STATE").unwrap().into();
    let sink = StandIn::default().in_file(&folder.join("sink"));
    Shipper::new(options, Box::new(sink)).unwrap().0.run();
}
