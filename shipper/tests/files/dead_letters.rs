//! Dead letters: bounded, sent once more, removed.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use kumon_shipper::{DeadLetterFolder, Deliver, LetterFilter, Sink, Waiting, replay};
use kumon_testing::wait_for;

use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, append, expect, lines, rows};

/// Ships the numbers 0 to 99, of which those below 40 are refused, and a line that is no JSON.
fn with_letters(place: &Place, sink: &StandIn) {
    sink.state().rejects = (0..40).collect();
    append(&place.path("a.ndjson"), &(lines(0..50) + "no JSON\n" + &lines(50..100)));
    let ship = place.ship(sink);
    ship.sync();
    ship.wait_until("all to be shipped", |stats| {
        stats.datasets.get("json").is_some_and(|json| json.created == 60 && json.dead_letters == 41)
    });
}

fn folder(place: &Place) -> DeadLetterFolder {
    DeadLetterFolder::of(&place.options.state)
}

fn of_reason(reason: &str) -> LetterFilter {
    LetterFilter { reason: Some(reason.into()), ..LetterFilter::default() }
}

#[test]
fn a_replay_removes_what_was_acknowledged_and_nothing_else() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        with_letters(&place, &sink);
        // Some would be taken by now, some still not.
        sink.state().rejects = (0..10).collect();
        let mut again: Box<dyn Sink> = Box::new(sink.reopened());
        let replayed = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap();
        assert_eq!((replayed.delivered, replayed.refused, replayed.records), (30, 10, 1));
        assert_eq!(replayed.refusals.len(), 10);
        assert_eq!(replayed.refusals[0].reason, "mapper_parsing_exception");
        assert_eq!(sink.numbers(), (10..100).collect::<Vec<_>>());
        assert_eq!(place.dead_letters().len(), 11);

        sink.state().rejects.clear();
        let replayed = replay(&folder(&place), &of_reason("Mapper_Parsing"), &mut again).unwrap();
        assert_eq!((replayed.delivered, replayed.refused, replayed.records), (10, 0, 0));
        expect(&sink, 0..100);
        let left = place.dead_letters();
        assert_eq!(
            (left.len(), &left[0]["document"], &left[0]["kind"]),
            (1, &"no JSON\n".into(), &"record".into())
        );
    }
}

#[test]
fn a_replay_whose_answer_was_lost_doubles_nothing() {
    let (place, sink) = (Place::new(), StandIn::default());
    with_letters(&place, &sink);
    sink.state().rejects.clear();
    let mut again: Box<dyn Sink> = Box::new(sink.clone());
    sink.fail(Fault::AnswersGetLost);
    let replayed = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap();
    assert_eq!((replayed.delivered, replayed.records, place.dead_letters().len()), (0, 1, 41));
    assert_eq!(replayed.waiting["logs-json-default"], Waiting { letters: 40, reason: "time-out".into() });
    sink.fail(None);
    let replayed = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap();
    assert_eq!((replayed.delivered, replayed.duplicates), (40, 40));
    expect(&sink, 0..100);
}

/// What a stand-in holds counts as nobody's: neither delivered nor refused, whatever became of it.
#[test]
fn letters_of_a_held_stream_stay_and_those_of_others_go() {
    let (place, sink) = (Place::new(), StandIn::default());
    with_letters(&place, &sink);
    sink.state().rejects = (0..40).chain(100..110).collect();
    append(&place.path("a.csv"), &(HEADER.to_owned() + &rows(100..110)));
    let ship = place.ship(&sink);
    wait_for("the other stream's letters", LIMIT, || place.dead_letters().len() == 51);
    sink.state().rejects = vec![109];
    sink.state().holds = vec!["json"];
    let mut without_agent: Box<dyn Sink> = Box::new(sink.clone());
    let mut with_agent = ship.handle.clone();
    let tos: [&mut dyn Deliver; 2] = [&mut without_agent, &mut with_agent];
    for (to, csv) in tos.into_iter().zip([9, 0]) {
        let replayed = replay(&folder(&place), &LetterFilter::default(), to).unwrap();
        assert_eq!((replayed.delivered, replayed.refused, replayed.waits()), (csv, 1, 40), "{replayed:?}");
        assert_eq!(replayed.waiting["logs-json-default"].reason, "a write block");
        assert_eq!(place.dead_letters().len(), 42);
    }

    sink.state().holds.clear();
    sink.state().rejects.clear();
    let replayed = replay(&folder(&place), &LetterFilter::default(), &mut with_agent).unwrap();
    assert_eq!((replayed.delivered, replayed.duplicates, replayed.waits()), (41, 20, 0));
    expect(&sink, 0..110);
    assert_eq!(place.dead_letters().len(), 1);
}

/// Letters of 100 KB each, which go in several batches.
fn with_large_letters(place: &Place, sink: &StandIn, letters: u64) {
    let text = "x".repeat(100_000);
    sink.state().rejects = (0..letters).collect();
    let rows: String = (0..letters).map(|n| format!("{{\"n\":{n},\"text\":\"{text}\"}}\n")).collect();
    append(&place.path("large.ndjson"), &rows);
    let ship = place.ship(sink);
    ship.sync();
    ship.wait_until("all to be refused", |stats| {
        stats.datasets.get("json").is_some_and(|json| json.dead_letters == letters)
    });
    sink.state().rejects.clear();
}

#[test]
fn a_replay_that_is_cut_half_way_tells_what_arrived_and_keeps_the_rest() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        with_large_letters(&place, &sink, 60);
        let mut again: Box<dyn Sink> = Box::new(sink.reopened());
        // Forgetting what was delivered is a batch too, though an empty one.
        let away_after = sink.state().sends + 2;
        sink.state().away_after = Some(away_after);
        let replayed = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap();
        let (delivered, waiting) = (replayed.delivered, &replayed.waiting["logs-json-default"]);
        assert!((1..60).contains(&delivered), "{replayed:?}");
        assert_eq!((delivered + waiting.letters, waiting.reason.as_str()), (60, "nobody listens"));
        assert_eq!(place.dead_letters().len() as u64, waiting.letters);

        sink.state().away_after = None;
        sink.fail(None);
        let replayed = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap();
        assert_eq!(
            (replayed.delivered, replayed.waits(), place.dead_letters().len()),
            (60 - delivered, 0, 0)
        );
        expect(&sink, 0..60);
    }
}

#[test]
fn rows_are_shipped_between_the_letters_of_a_replay() {
    for sink in [StandIn::default(), StandIn::store()] {
        let place = Place::new();
        with_large_letters(&place, &sink, 100);
        sink.state().slow = Duration::from_millis(200);
        let (ship, folder) = (place.ship(&sink), folder(&place));
        let mut handle = ship.handle.clone();
        let replaying =
            std::thread::spawn(move || replay(&folder, &LetterFilter::default(), &mut handle).unwrap());
        wait_for("the first letters", LIMIT, || sink.len() > 0);
        append(&place.path("a.ndjson"), &lines(100..110));
        assert_eq!(replaying.join().unwrap().delivered, 100);
        expect(&sink, 0..110);
        let order = sink.in_order();
        let place_of = |n: u64| order.iter().position(|found| *found == n).unwrap();
        assert!(place_of(109) < place_of(99), "{order:?}");
    }
}

#[test]
fn letters_are_removed_by_dataset_reason_and_id_also_while_a_shipper_adds_some() {
    let (place, sink) = (Place::new(), StandIn::default());
    with_letters(&place, &sink);
    let mut ids = Vec::new();
    folder(&place).read(|letter| ids.push(letter.id())).unwrap();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 41);
    let remove = |filter: LetterFilter| folder(&place).remove(|letter| filter.matches(letter)).unwrap();

    let ship = place.ship(&sink);
    let by_id = LetterFilter { ids: ids[3..5].to_vec(), ..LetterFilter::default() };
    assert_eq!(remove(by_id), 2);
    append(&place.path("a.ndjson"), "no JSON either\n");
    ship.wait_until("one more", |stats| {
        stats.datasets.get("json").is_some_and(|json| json.dead_letters == 1)
    });
    assert_eq!(place.dead_letters().len(), 40);
    assert_eq!(remove(of_reason("no json object")), 2);
    assert_eq!(remove(LetterFilter { dataset: Some("other".into()), ..LetterFilter::default() }), 0);
    assert_eq!(remove(LetterFilter { dataset: Some("json".into()), ..LetterFilter::default() }), 38);
    assert_eq!(fs::read_dir(folder(&place).path()).unwrap().count(), 0);
}

#[test]
fn at_the_limit_the_oldest_letters_go_and_are_counted() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    (place.options.dead_letter_bytes, place.options.batch_bytes) = (40_000, 1000);
    sink.state().rejects = (0..1000).collect();
    append(&place.path("a.ndjson"), &lines(0..1000));
    let ship = place.ship(&sink);
    wait_for("all to be refused", LIMIT, || {
        ship.stats().datasets.get("json").is_some_and(|json| json.dead_letters == 1000)
    });
    ship.wait_until("the count", |stats| stats.dead_letters_dropped > 0);
    let (kept, dropped) = (place.dead_letters(), ship.stats().dead_letters_dropped);
    assert_eq!(kept.len() as u64 + dropped, 1000);
    let bytes: u64 = fs::read_dir(folder(&place).path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!((30_000..=40_000).contains(&bytes), "{bytes}");
    assert!(kept.last().unwrap()["document"].as_str().unwrap().contains("999"), "{:?}", kept.last());
}
