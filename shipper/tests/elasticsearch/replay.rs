//! What becomes of dead letters that are sent once more, for each answer that Elasticsearch and others give.

use std::fs;
use std::time::Duration;

use kumon_shipper::{DeadLetterFolder, LetterFilter, Sink, replay};
use kumon_testing::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faults::StandIn;
use crate::support::Access;

/// Two letters of one stream and one of another.
fn letters() -> (TempDir, DeadLetterFolder) {
    let state = tempfile::tempdir().unwrap();
    let letter = |dataset: &str, offset: u64| {
        json!({
            "@timestamp": "2026-11-21T00:00:00Z", "stream": format!("logs-{dataset}-default"), "reason": "r",
            "file": "/var/log/a", "offset": offset, "generation": "g", "kind": "document",
            "document": format!("{{\"n\":{offset}}}"),
        })
    };
    let lines = [letter("a", 1), letter("b", 2), letter("a", 3)].map(|letter| format!("{letter}\n"));
    fs::create_dir(state.path().join("dead-letters")).unwrap();
    fs::write(state.path().join("dead-letters/2026-11-21-00000.ndjson"), lines.concat()).unwrap();
    let folder = DeadLetterFolder::of(state.path());
    (state, folder)
}

fn left(folder: &DeadLetterFolder) -> Vec<u64> {
    let mut offsets = Vec::new();
    folder.read(|letter| offsets.push(letter.offset)).unwrap();
    offsets
}

/// An answer about the letters 1, 2 and 3 in which those of the stream `a` have this error.
fn of_a(status: u16, kind: &str, reason: &str) -> Option<(u16, Value)> {
    let failed = json!({"create": {"status": status, "error": {"type": kind, "reason": reason}}});
    Some((200, json!({"errors": true, "items": [failed, {"create": {"status": 201}}, failed]})))
}

fn busy_again() -> Option<(u16, Value)> {
    let busy = json!({"create": {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "q"}}});
    Some((200, json!({"errors": true, "items": [busy, busy]})))
}

#[test]
fn each_outcome_of_a_replay_is_told_and_only_what_arrived_is_removed() {
    let whole = |status: u16, kind: &str| {
        Some((status, json!({"error": {"type": kind, "reason": "r"}, "status": status})))
    };
    let block = "blocked by: [FORBIDDEN/8/index write (api)];";
    let (none, a, all) = (vec![], vec![1, 3], vec![1, 2, 3]);
    let created = json!({"create": {"status": 201}});
    // The answers; how many are delivered, refused and waiting; which are left; and what is said of those that wait.
    let cases = [
        (
            vec![Some((200, json!({"errors": false, "items": [created, created, created]})))],
            (3, 0, 0),
            &none,
            "",
        ),
        (vec![of_a(409, "version_conflict_engine_exception", "there")], (3, 0, 0), &none, ""),
        (vec![of_a(400, "document_parsing_exception", "failed to parse")], (1, 2, 0), &a, ""),
        (vec![of_a(403, "cluster_block_exception", block)], (1, 0, 2), &a, "closed the index for writing"),
        (vec![of_a(403, "security_exception", "unauthorized")], (1, 0, 2), &a, "does not allow this"),
        (vec![of_a(404, "index_not_found_exception", "no such index")], (1, 0, 2), &a, "kumon setup"),
        (vec![of_a(503, "unavailable_shards_exception", "not active")], (1, 0, 2), &a, "lacks the shard"),
        (vec![of_a(400, "validation_exception", "[1000]/[1000]")], (1, 0, 2), &a, "no more shards"),
        (
            vec![of_a(429, "es_rejected_execution_exception", "q"), busy_again(), busy_again(), busy_again()],
            (1, 0, 2),
            &a,
            "had no room",
        ),
        (vec![whole(429, "es_rejected_execution_exception")], (0, 0, 3), &all, "more to do than it can take"),
        (vec![whole(401, "security_exception")], (0, 0, 3), &all, "does not accept the credentials"),
        (vec![whole(403, "cluster_block_exception")], (0, 0, 3), &all, "closed the index for writing"),
        (vec![whole(503, "cluster_block_exception")], (0, 0, 3), &all, "is not ready"),
        (vec![Some((502, json!("<html>Bad Gateway</html>")))], (0, 0, 3), &all, "Bad Gateway"),
        (vec![Some((302, json!("http://sso.example/login")))], (0, 0, 3), &all, "redirects to"),
        (vec![Some((200, json!("<html>Log in</html>")))], (0, 0, 3), &all, "is that one?"),
        (vec![None], (0, 0, 3), &all, "ended the connection"),
    ];
    for (answers, counts, stay, said) in cases {
        let about = format!("{answers:?}");
        let stand_in = StandIn::start(answers);
        let mut access = Access::new(vec![stand_in.url.clone()], "secret");
        (access.options.gzip, access.options.timeout) = (false, Duration::from_secs(5));
        let (_state, folder) = letters();
        let mut sink: Box<dyn Sink> = Box::new(access.sink());
        let replayed = replay(&folder, &LetterFilter::default(), &mut sink).unwrap();
        assert_eq!((replayed.delivered, replayed.refused, replayed.waits()), counts, "{about}: {replayed:?}");
        assert_eq!(&left(&folder), stay, "{about}");
        for waiting in replayed.waiting.values() {
            assert!(waiting.reason.contains(said), "{about}: {}", waiting.reason);
        }
    }
}

#[test]
fn letters_wait_while_nobody_is_there_and_arrive_once_afterwards() {
    let nobody = Access::new(vec![format!("http://127.0.0.1:{}", free_port())], "secret");
    let (_state, folder) = letters();
    let mut sink: Box<dyn Sink> = Box::new(nobody.sink());
    let replayed = replay(&folder, &LetterFilter::default(), &mut sink).unwrap();
    assert_eq!((replayed.delivered, replayed.waits(), left(&folder)), (0, 3, vec![1, 2, 3]));
    assert!(replayed.waiting["logs-a-default"].reason.contains("can't be reached"), "{replayed:?}");

    // What had arrived when the connection was cut is told by its id.
    let there = json!({"create": {"status": 409}});
    let all = json!({"errors": true, "items": [there, {"create": {"status": 201}}, there]});
    for (answer, expected) in [(None, (0, 0, 3)), (Some((200, all)), (3, 2, 0))] {
        let stand_in = StandIn::start(vec![answer]);
        let mut access = Access::new(vec![stand_in.url.clone()], "secret");
        access.options.gzip = false;
        let mut sink: Box<dyn Sink> = Box::new(access.sink());
        let replayed = replay(&folder, &LetterFilter::default(), &mut sink).unwrap();
        assert_eq!((replayed.delivered, replayed.duplicates, replayed.waits()), expected, "{replayed:?}");
    }
    assert!(left(&folder).is_empty());
}
