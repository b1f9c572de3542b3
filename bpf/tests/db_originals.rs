//! dbslower against bcc's dbslower and what the servers themselves log as slow, all at the same time.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod bcc;
mod common;
mod databases;

use std::collections::BTreeMap;
use std::time::Duration;

use bcc::{require_dbslower, start_dbslower};
use common::Collecting;
use databases::{Database, Kind, Session, kinds};
use kumon_bpf::Settings;
use kumon_testing::{time_scale, wait_for};

const THRESHOLD: Duration = Duration::from_millis(100);
/// Longer than the threshold, and shorter, s. Neither is so close to it that two could see it on different sides.
const SLOW: f64 = 0.15;
const FAST: f64 = 0.02;
/// Every other one is slow.
const STATEMENTS: usize = 40;

/// Milliseconds by the statement's number.
type Times = BTreeMap<usize, f64>;

/// The number that stands last in a statement of the load.
fn number(statement: &str) -> Option<usize> {
    let number = statement.rsplit_once("AS n")?.1;
    number.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// A session of which the server logs what is slow.
fn logged_session(database: &Database) -> Session {
    if database.kind == Kind::PostgreSql {
        let session = database.session();
        // To the client too.
        session.query("SET client_min_messages = log");
        session.query(&format!("SET log_min_duration_statement = {}", THRESHOLD.as_millis()));
        return session;
    }
    database.query("SET GLOBAL log_output = 'TABLE', GLOBAL slow_query_log = ON");
    let session = database.session();
    session.query(&format!("SET SESSION long_query_time = {}", THRESHOLD.as_secs_f64()));
    session
}

/// What the server logged of the load.
fn logged(database: &Database, session: &Session) -> Times {
    let time = |(time, text): (&str, &str)| {
        let number = number(text).filter(|_| text.contains(&database.mark()))?;
        Some((number, time.parse().unwrap()))
    };
    if database.kind == Kind::PostgreSql {
        // `LOG:  duration: 150.321 ms  statement: SELECT …`
        let parts = |line: &str| time(line.split_once("duration: ")?.1.split_once(" ms  statement: ")?);
        return session.messages().lines().filter_map(parts).collect();
    }
    let log = "SELECT MICROSECOND(query_time) / 1000, CONVERT(sql_text USING utf8) FROM mysql.slow_log";
    database.query(log).lines().filter_map(|line| time(line.split_once('\t')?)).collect()
}

/// What bcc's dbslower told of the load: `TIME PID MS QUERY`.
fn told(lines: &[String], pid: i64) -> Times {
    let time = |line: &String| {
        let mut columns = line.split_whitespace().skip(1);
        assert_eq!(columns.next().unwrap().parse(), Ok(pid), "{line}");
        (number(line).unwrap(), columns.next().unwrap().parse().unwrap())
    };
    let times: Times = lines.iter().map(time).collect();
    assert_eq!(times.len(), lines.len(), "a statement stands twice in {lines:?}");
    times
}

/// The same statements, and about the same times: what only one of the two counts in, as taking the statement in, takes
/// long on an emulated processor.
fn assert_alike(ours: &Times, theirs: &Times, whose: &str) {
    assert!(ours.keys().eq(theirs.keys()), "{whose}: {ours:?} {theirs:?}");
    let margin = 2.0 * f64::from(time_scale());
    for (number, time) in theirs {
        assert!(
            (ours[number] - time).abs() < time / 50.0 + margin,
            "{whose} {number}: {} {time}",
            ours[number]
        );
    }
}

#[test]
fn slow_statements_are_those_that_the_server_logs_and_the_original_tells() {
    for kind in kinds() {
        if !require_dbslower() {
            continue;
        }
        let database = Database::start(kind);
        let session = logged_session(&database);
        let mut settings = Settings::default();
        settings.db.dbslower.threshold = THRESHOLD;
        let collecting = Collecting::start("db", settings);
        let original = start_dbslower(&database, &session, THRESHOLD.as_millis());
        // The first one that is logged makes the server open its log, which it doesn't count in.
        wait_for("the original's first line", Duration::from_secs(60), || {
            session.query(&database.sleep(SLOW));
            original.lines().iter().any(|line| line.contains(&database.mark()))
        });
        for n in 0..STATEMENTS {
            session.query(&format!("{} AS n{n}", database.sleep(if n % 2 == 0 { SLOW } else { FAST })));
        }
        let theirs = logged(&database, &session);
        // A stall of the machine makes a fast one slow, to the server as to the others.
        assert!((0..STATEMENTS).step_by(2).all(|n| theirs.contains_key(&n)), "{kind:?}: {theirs:?}");
        let of_load = |line: &String| line.contains(&database.mark()) && number(line).is_some();
        let originals = original.stop_after(theirs.len(), of_load);
        let collected = collecting.stop();
        assert_eq!(collected.lost("dbslower"), 0);
        let mut rows = collected.rows("dbslower");
        rows.retain(|row| row.text("statement").contains(&database.mark()));
        let time =
            |row: &common::Row| Some((number(row.text("statement"))?, row.number("duration") as f64 / 1e6));
        let ours: Times = rows.iter().filter_map(time).collect();
        assert_alike(&ours, &theirs, &format!("{kind:?}'s log"));
        assert_alike(&ours, &told(&originals, rows[0].number("pid")), &format!("dbslower at {kind:?}"));
    }
}
