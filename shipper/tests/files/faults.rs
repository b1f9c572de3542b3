//! Faults of the sink, of the rows, and of the machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kumon_schema::Schema;
use kumon_testing::{Child, SmallDisk, wait_for};

use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, append, expect, lines, rows};

#[test]
fn while_the_sink_is_away_shipping_halts_says_why_and_goes_on_by_itself() {
    let (place, sink) = (Place::new(), StandIn::default());
    for (fault, reason) in [(Fault::Away, "nobody listens"), (Fault::Refuses, "wrong password")] {
        let before = sink.len() as u64;
        sink.fail(fault);
        append(&place.path("a.ndjson"), &lines(before..before + 10));
        let ship = place.ship(&sink);
        ship.wait_until("the halt", |stats| {
            stats.halted.as_ref().is_some_and(|halted| halted.reason == reason)
        });
        append(&place.path("a.ndjson"), &lines(before + 10..before + 20));
        append(&place.path(&format!("{reason}.ndjson")), &lines(before + 20..before + 30));
        // Files are still looked for.
        ship.wait_until("the new file to be seen", |stats| {
            stats.lag >= lines(before..before + 30).len() as u64
        });
        sink.fail(None);
        expect(&sink, 0..before + 30);
        ship.wait_until("the end of the halt", |stats| stats.halted.is_none() && stats.lag == 0);
    }
}

#[test]
fn answers_that_get_lost_double_nothing() {
    let (place, sink) = (Place::new(), StandIn::default());
    sink.fail(Fault::AnswersGetLost);
    append(&place.path("a.ndjson"), &lines(0..100));
    let ship = place.ship(&sink);
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    sink.fail(None);
    ship.wait_until("the end of the halt", |stats| stats.halted.is_none() && stats.lag == 0);
    expect(&sink, 0..100);
    let stats = ship.stats();
    assert_eq!((stats.datasets["json"].created, stats.duplicates), (100, 100));
}

#[test]
fn a_sink_that_loses_what_it_gathered_gets_it_again_and_each_row_counts_once() {
    let (mut place, sink) = (Place::new(), StandIn::store());
    place.options.batch_bytes = 500;
    sink.state().rejects = vec![7];
    append(&place.path("a.ndjson"), &lines(0..50));
    append(&place.path("b.csv"), &(HEADER.to_owned() + &rows(50..100)));
    let ship = place.ship(&sink);
    for (turn, fault) in
        [Fault::LosesUncommitted, Fault::FailsAfterCommit, Fault::LosesUncommitted].iter().enumerate()
    {
        sink.fail(*fault);
        wait_for("the fault to strike", LIMIT, || {
            ship.handle.sync(Duration::from_secs(1));
            sink.state().fault.is_none()
        });
        let next = 100 + 50 * turn as u64;
        append(&place.path("a.ndjson"), &lines(next..next + 50));
    }
    wait_for("sync", LIMIT, || ship.handle.sync(Duration::from_secs(1)) && sink.len() == 249);
    assert_eq!(sink.numbers(), (0..250).filter(|n| *n != 7).collect::<Vec<_>>());
    let stats = ship.stats();
    assert_eq!((stats.datasets["json"].created, stats.datasets["csv"].created), (199, 50));
    assert_eq!((stats.datasets["json"].dead_letters, place.dead_letters().len()), (1, 1));
}

#[test]
fn rows_that_nobody_takes_go_to_the_dead_letters_and_the_rest_goes_on() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    let schema = r#"{"fields":[{"name":"n","type":"integer"},{"name":"text","type":"string"}]}"#;
    place.options.inputs[1].schema = Some(Schema::parse(schema).unwrap());
    sink.state().rejects = vec![3, 4];
    let mut garbage: Vec<u8> = (0..=255).cycle().take(5000).filter(|b| *b != b'"').collect();
    garbage.push(b'\n');
    fs::write(place.path("a.ndjson"), [lines(0..5).as_bytes(), &garbage, lines(5..10).as_bytes()].concat())
        .unwrap();
    let stray_quote = b"99,\"never closed\n".as_slice();
    let csv =
        [HEADER.as_bytes(), rows(10..15).as_bytes(), &garbage, stray_quote, rows(15..20).as_bytes()].concat();
    fs::write(place.path("b.csv"), csv).unwrap();
    let ship = place.ship(&sink);
    wait_for("the rows before", LIMIT, || sink.len() >= 13);
    // What follows the quote may belong to it until the file is over.
    fs::remove_file(place.path("b.csv")).unwrap();
    let expected: Vec<u64> = [0, 1, 2].into_iter().chain(5..20).collect();
    wait_for("all good rows", LIMIT, || sink.len() >= expected.len());
    assert_eq!(sink.numbers(), expected);
    ship.sync();

    let letters = place.dead_letters();
    let rejected: Vec<_> =
        letters.iter().filter(|letter| letter["reason"] == "mapper_parsing_exception").collect();
    assert_eq!(rejected.len(), 2);
    assert_eq!(rejected[0]["file"].as_str(), place.path("a.ndjson").to_str());
    assert_eq!(rejected[0]["offset"], lines(0..3).len());
    let document: serde_json::Value =
        serde_json::from_str(rejected[0]["document"].as_str().unwrap()).unwrap();
    assert_eq!(document["n"], 3);
    let records: String = letters.iter().filter_map(|letter| letter["document"].as_str()).collect();
    assert!(records.contains("\\xfe\\xff\\x00\u{1}\u{2}"), "{records}");
    assert!(records.contains("99,\"never closed"), "{records}");
    let counted: u64 = ship.stats().datasets.values().map(|delivered| delivered.dead_letters).sum();
    assert_eq!(counted, letters.len() as u64);
}

#[test]
fn a_file_of_garbage_alone_is_taken_in_bounded_batches() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.batch_bytes = 10_000;
    place.options.dead_letter_bytes = 1 << 30;
    fs::write(place.path("a.ndjson"), "no json\n".repeat(20_000)).unwrap();
    let ship = place.ship(&sink);
    ship.wait_until("the first ones", |stats| !stats.datasets.is_empty());
    ship.sync();
    assert_eq!(ship.stats().datasets["json"].dead_letters, 20_000);
    assert_eq!(place.dead_letters().len(), 20_000);
}

#[test]
fn dead_letters_that_a_crash_kept_from_being_acknowledged_are_not_written_twice() {
    let (place, sink) = (Place::new(), StandIn::store());
    sink.state().rejects = vec![1];
    append(&place.path("a.ndjson"), &lines(0..3));
    let ship = place.ship(&sink);
    wait_for("the letter", LIMIT, || place.dead_letters().len() == 1);
    // The sink goes away before it has committed, and the shipper ends without it.
    sink.fail(Fault::Away);
    ship.stop_within(Duration::ZERO);
    let sink = StandIn::store();
    sink.state().rejects = vec![1, 2];
    let ship = place.ship(&sink);
    ship.sync();
    assert_eq!((sink.numbers(), place.dead_letters().len()), (vec![0], 2));
}

#[test]
fn a_csv_file_that_does_not_match_its_schema_is_kept_named_and_shipped_once_it_matches() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    let schema = Schema::parse(r#"{"fields":[{"name":"n","type":"integer"}]}"#).unwrap();
    place.options.inputs[1].schema = Some(schema);
    fs::write(place.path("a.csv"), "n,other\n0,x\n").unwrap();
    fs::write(place.path("b.csv"), "n\n0\n+01\n").unwrap();
    let ship = place.ship(&sink);
    expect(&sink, 0..2);
    let path = place.path("a.csv").display().to_string();
    ship.wait_until("it to be named", |stats| stats.stuck.contains_key(&path));
    assert!(ship.stats().stuck[&path].contains("'other' is not in the schema"), "{:?}", ship.stats().stuck);
    assert!(place.path("a.csv").exists());
    fs::write(place.path("a.csv"), "n\n2\n").unwrap();
    expect(&sink, 0..3);
    ship.wait_until("it to be fine", |stats| stats.stuck.is_empty());
}

#[test]
fn an_unreadable_file_is_named_and_shipped_once_it_can_be_read() {
    if !kumon_testing::require_root() || !kumon_testing::require_program("setpriv") {
        return;
    }
    let (place, folder) = (Place::new(), "nobody");
    let everything = ["chown", "-R", folder].map(String::from);
    let mut chown = Command::new(&everything[0]);
    assert!(chown.args(&everything[1..]).arg(place.folder.path()).status().unwrap().success());
    append(&place.path("a.ndjson"), &lines(0..5));
    fs::set_permissions(place.path("a.ndjson"), Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(place.path("closed")).unwrap();
    fs::set_permissions(place.path("closed"), Permissions::from_mode(0o700)).unwrap();

    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(test_program(&place));
    command.args(["--exact", "faults::shipper_that_notes_what_is_stuck", "--nocapture"]);
    command.env("SHIPPER_THAT_NOTES", place.folder.path()).stdout(std::process::Stdio::null());
    let mut child = Child::spawn(&mut command);
    let stuck = || fs::read_to_string(place.folder.path().join("stuck")).unwrap_or_default();
    wait_for("the file to be named", LIMIT, || {
        stuck().contains("a.ndjson") && stuck().contains("Permission denied")
    });
    fs::set_permissions(place.path("a.ndjson"), Permissions::from_mode(0o644)).unwrap();
    let file = place.folder.path().join("sink");
    wait_for("its rows", LIMIT, || fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    wait_for("it to be fine", LIMIT, || !stuck().contains("a.ndjson"));
    child.kill().unwrap();
    expect(&StandIn::default().in_file(&file), 0..5);
}

/// The other user may not reach the folder in which tests are built.
fn test_program(place: &Place) -> std::path::PathBuf {
    let copy = place.folder.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(place.folder.path(), Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Not a test: a shipper in a process of its own that keeps writing what is stuck to the file `stuck`.
#[test]
fn shipper_that_notes_what_is_stuck() {
    let Some(folder) = std::env::var_os("SHIPPER_THAT_NOTES") else { return };
    let folder = Path::new(&folder);
    let sink = StandIn::default().in_file(&folder.join("sink"));
    let (shipper, handle) =
        kumon_shipper::Shipper::new(crate::support::options(folder), Box::new(sink)).unwrap();
    let note = folder.join("stuck");
    std::thread::spawn(move || {
        loop {
            fs::write(&note, format!("{:?}", handle.stats().stuck)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    shipper.run();
}

#[test]
fn on_a_full_state_disk_shipping_halts_and_goes_on_once_there_is_room() {
    if !kumon_testing::require_root() {
        return;
    }
    let mut place = Place::new();
    let disk = SmallDisk::mount(place.path("disk"), c"size=64k");
    place.options.state = disk.path().join("state");
    let sink = StandIn::default();
    sink.state().rejects = vec![1];
    let ship = place.ship(&sink);
    disk.fill();
    append(&place.path("a.ndjson"), &lines(0..10));
    ship.wait_until("the halt", |stats| {
        stats.halted.as_ref().is_some_and(|halted| halted.reason.contains("the checkpoint can't be written"))
    });
    assert_eq!(sink.len(), 0, "nothing is sent under an identity that a crash would lose");
    disk.make_room();
    ship.wait_until("the rows", |stats| stats.halted.is_none() && stats.lag == 0);
    let expected: Vec<u64> = (0..10).filter(|n| *n != 1).collect();
    assert_eq!((sink.numbers(), place.dead_letters().len()), (expected, 1));

    // With known files it is the dead letters that need room.
    append(&place.path("a.ndjson"), &lines(20..400));
    ship.sync();
    disk.fill();
    append(&place.path("a.ndjson"), &(lines(1..2) + &lines(400..410)));
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    disk.make_room();
    ship.wait_until("the rest", |stats| stats.halted.is_none() && stats.lag == 0);
    ship.stop();
    assert_eq!((sink.numbers().last(), place.dead_letters().len()), (Some(&409), 2));
}

#[test]
fn a_huge_backlog_in_one_file_does_not_starve_the_others() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.batch_bytes = 20_000;
    fs::write(place.path("huge.ndjson"), lines(1000..60_000)).unwrap();
    for file in 0..8 {
        fs::write(place.path(&format!("{file}.ndjson")), lines(file * 100..file * 100 + 100)).unwrap();
    }
    let ship = place.ship(&sink);
    wait_for("all rows", LIMIT, || sink.len() >= 59_800);
    let order = sink.in_order();
    let last_small = order.iter().rposition(|n| *n < 1000).unwrap();
    assert!(last_small < 10_000, "the small files' last row came at place {last_small}");
    let largest = sink.state().largest;
    assert!(largest < 21_000, "{largest}");
    // A stop does not wait for the backlog either.
    fs::write(place.path("more.ndjson"), lines(60_000..200_000)).unwrap();
    ship.wait_until("the start of it", |stats| stats.files == 10);
    ship.stop_within(Duration::from_millis(1));
    assert!(sink.len() < 199_800);
}

#[test]
fn single_rows_arrive_promptly_beside_a_huge_backlog() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.batch_bytes = 20_000;
    // 3 MB at 400 KB a second.
    sink.state().slow = Duration::from_millis(50);
    fs::write(place.path("huge.ndjson"), lines(1000..41_000)).unwrap();
    append(&place.path("live.ndjson"), &lines(0..1));
    let ship = place.ship(&sink);
    for n in 1..10 {
        append(&place.path("live.ndjson"), &lines(n..n + 1));
        wait_for("the live row", Duration::from_secs(2), || sink.in_order().contains(&n));
    }
    assert!(sink.len() < 40_000, "the backlog was over before it mattered");
    sink.state().slow = Duration::ZERO;
    ship.wait_until("the backlog", |stats| stats.lag == 0 && stats.files == 2);
    assert_eq!(sink.len(), 40_010);
}

#[test]
fn memory_stays_flat_while_the_sink_is_away() {
    let (place, sink) = (Place::new(), StandIn::default());
    sink.fail(Fault::Away);
    for file in 0..20 {
        fs::write(place.path(&format!("{file}.ndjson")), lines(0..100)).unwrap();
    }
    let ship = place.ship(&sink);
    ship.wait_until("the halt", |stats| stats.halted.is_some());
    let before = resident();
    let text = lines(0..200_000);
    for file in 0..20 {
        append(&place.path(&format!("{file}.ndjson")), &text);
    }
    ship.wait_until("all of it to be seen", |stats| stats.lag >= 20 * text.len() as u64);
    let grown = resident().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes more for {} bytes of backlog", 20 * text.len());
}

/// Resident memory of this process, in bytes (/proc/self/statm counts pages).
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn an_idle_shipper_sleeps_and_its_own_files_do_not_wake_it() {
    let mut place = Place::new();
    // The worst case: its state stands where it looks for files.
    place.options.state = place.folder.path().join("in");
    for file in 0..20 {
        append(&place.path(&format!("{file}.ndjson")), &lines(file..file + 1));
    }
    let mut child = crate::restart::spawn_idle(&place);
    let file = place.folder.path().join("sink");
    wait_for("the rows", LIMIT, || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 20));
    let used = |pid: u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let switches = tasks.map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
        });
        switches.sum::<u64>()
    };
    // The records are written a second later; then nothing is left to do.
    std::thread::sleep(Duration::from_secs(2));
    let before = used(child.id());
    std::thread::sleep(Duration::from_secs(4));
    let wakeups = used(child.id()) - before;
    child.kill().unwrap();
    assert!(wakeups < 40, "{wakeups} wake-ups in 4 s");
    assert_eq!(StandIn::default().in_file(&file).len(), 20);
}

/// More files match than may be open: some wait, and the others are shipped.
#[test]
fn files_above_the_limit_of_open_ones_wait_and_keep_no_other_from_being_shipped() {
    if !kumon_testing::require_program("prlimit") {
        return;
    }
    let place = Place::new();
    for file in 0..300 {
        append(&place.path(&format!("{file:03}.ndjson")), &lines(file..file + 1));
    }
    let spawn = || {
        let mut command = Command::new("prlimit");
        command.arg("--nofile=200:200").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "faults::shipper_that_notes_what_is_stuck", "--nocapture"]);
        command.env("SHIPPER_THAT_NOTES", place.folder.path()).stdout(std::process::Stdio::null());
        Child::spawn(&mut command)
    };
    let mut child = spawn();
    let file = place.folder.path().join("sink");
    let shipped = || fs::read_to_string(&file).unwrap_or_default().lines().count();
    wait_for("the first files", LIMIT, || shipped() >= 50);
    let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
    assert!(open <= 110, "{open} files are open, which leaves no room for connections");
    // One line tells of all that wait, and what to do.
    let stuck = || fs::read_to_string(place.folder.path().join("stuck")).unwrap_or_default();
    wait_for("them to be named", LIMIT, || {
        stuck().contains("other files wait until files that are open are gone")
    });
    assert!(stuck().contains("raise LimitNOFILE") && stuck().matches(".ndjson").count() == 1, "{}", stuck());
    // Files that go make room for others; the first names are open.
    for file in 0..100 {
        fs::remove_file(place.path(&format!("{file:03}.ndjson"))).unwrap();
    }
    child.kill().unwrap();
    let mut child = spawn();
    wait_for("the next files", LIMIT, || shipped() >= 150);
    child.kill().unwrap();
    let numbers = StandIn::default().in_file(&file).numbers();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

#[test]
fn a_line_too_long_for_memory_is_one_dead_letter_also_across_a_restart() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.dead_letter_bytes = 1 << 30;
    let log = place.path("a.ndjson");
    append(&log, &(lines(0..1) + "{\"long\":\"" + &"x".repeat(17 << 20)));
    let ship = place.ship(&sink);
    wait_for("the letter", Duration::from_secs(60), || {
        ship.stats().datasets.get("json").is_some_and(|delivered| delivered.dead_letters == 1)
    });
    append(&log, &"y".repeat(17 << 20));
    ship.sync();
    ship.stop();
    append(&log, &("z".repeat(100) + "\"}\n" + &lines(1..5)));
    let _ship = place.ship(&sink);
    expect(&sink, 0..5);
    let letters = place.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0]["reason"].as_str().unwrap().contains("longer than 16777216 bytes"),
        "{}",
        letters[0]["reason"]
    );
}

/// The ids tell a resend from a new row: they must not depend on where a read happened to end.
#[test]
fn csv_lines_ending_in_cr_lf_have_the_same_ids_however_they_are_cut() {
    let text = "n,text\r\n0,a\r\n\r\n1,b\r\n2,c\r\n";
    // Up to there the rows need a checkpoint.
    for end in "n,text\r\n0,a\r".len()..=text.len() {
        let (place, sink) = (Place::new(), StandIn::default());
        let checkpoint = place.options.state.join("checkpoint.json");
        append(&place.path("a.csv"), &text[..end]);
        let ship = place.ship(&sink);
        ship.sync();
        let before = fs::read(&checkpoint).unwrap();
        append(&place.path("a.csv"), &text[end..]);
        ship.sync();
        ship.stop();
        // As if it had been killed: it reads the rest again, in one go.
        fs::write(&checkpoint, before).unwrap();
        place.ship(&sink).stop();
        assert_eq!(sink.numbers(), [0, 1, 2], "cut at {end}");
    }
}
