//! Dead letters: bounded, sent once more, removed.

use std::collections::HashSet;
use std::fs;

use kumon_shipper::{DeadLetterFolder, LetterFilter, Sink, replay};
use kumon_testing::wait_for;

use crate::stand_in::{Fault, StandIn};
use crate::support::{LIMIT, Place, append, expect, lines};

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
    let error = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap_err();
    assert_eq!((error.as_str(), place.dead_letters().len()), ("time-out", 41));
    sink.fail(None);
    let replayed = replay(&folder(&place), &LetterFilter::default(), &mut again).unwrap();
    assert_eq!((replayed.delivered, replayed.duplicates), (40, 40));
    expect(&sink, 0..100);
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
