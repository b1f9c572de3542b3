//! dbslower against what the servers themselves log as slow. bcc's dbslower can't stand beside it at a MariaDB server: bcc
//! 0.26 asks for its probe of dispatch_command with a reference counter, after which the kernel refuses every other probe
//! there ("ref_ctr_offset mismatch" in its log).

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::collections::BTreeMap;
use std::time::Duration;

use common::Collecting;
use databases::{Database, Kind};
use kumon_bpf::Settings;
use kumon_testing::{require_bpf, time_scale};

const THRESHOLD: Duration = Duration::from_millis(100);
/// Every other one is slow. None is so close to the threshold that the two could see it on different sides of it.
const STATEMENTS: usize = 40;

/// Runs the load over one connection and returns what the server logged: milliseconds by the statement's number.
fn logged(database: &Database) -> BTreeMap<usize, f64> {
    let number = |text: &str| text.rsplit_once("AS n")?.1.trim_end_matches(';').trim().parse().ok();
    let milliseconds = THRESHOLD.as_millis();
    let statements: String = (0..STATEMENTS)
        .map(|n| format!("{} AS n{n}; ", database.sleep(if n % 2 == 0 { 0.15 } else { 0.02 })))
        .collect();
    match database.kind {
        Kind::MariaDb | Kind::MySql => {
            database.query("SET GLOBAL log_output = 'TABLE', GLOBAL slow_query_log = ON");
            let threshold = THRESHOLD.as_secs_f64();
            // The first slow one makes the server open its log, which it doesn't count in.
            let first = database.sleep(0.15);
            database.query(&format!("SET SESSION long_query_time = {threshold}; {first}; {statements}"));
            let log =
                "SELECT MICROSECOND(query_time) / 1000, CONVERT(sql_text USING utf8) FROM mysql.slow_log";
            let log = database.query(log);
            let lines = log.lines().filter_map(|line| line.split_once('\t'));
            lines
                .filter(|(_, text)| text.contains(&database.mark()))
                .filter_map(|(time, text)| Some((number(text)?, time.parse().unwrap())))
                .collect()
        }
        Kind::PostgreSql => {
            let settings =
                format!("SET client_min_messages = log; SET log_min_duration_statement = {milliseconds};");
            let output = database.script_output(&format!("{settings}\n{}", statements.replace("; ", ";\n")));
            // `LOG:  duration: 150.321 ms  statement: SELECT …`, sent to the client too.
            let lines = output
                .lines()
                .filter_map(|line| line.split_once("duration: ")?.1.split_once(" ms  statement: "));
            lines.filter_map(|(time, text)| Some((number(text)?, time.parse().unwrap()))).collect()
        }
    }
}

#[test]
fn slow_statements_are_those_that_the_server_logs() {
    for kind in [Kind::MariaDb, Kind::MySql, Kind::PostgreSql] {
        if !require_bpf() || !kind.required() {
            continue;
        }
        let database = Database::start(kind);
        let mut settings = Settings::default();
        settings.dbslower.threshold = THRESHOLD;
        let collecting = Collecting::start("db", settings);
        let theirs = logged(&database);
        let collected = collecting.stop();
        let ours: BTreeMap<usize, f64> = collected
            .rows("dbslower")
            .iter()
            .filter(|row| row.text("statement").contains(&database.mark()))
            .filter_map(|row| {
                let number =
                    row.text("statement").rsplit_once("AS n")?.1.trim_end_matches(';').parse().ok()?;
                Some((number, row.number("duration") as f64 / 1e6))
            })
            .collect();
        // A stall of the machine makes a fast one slow, to the server as to KuMon.
        assert!((0..STATEMENTS).step_by(2).all(|n| theirs.contains_key(&n)), "{kind:?}: {theirs:?}");
        assert!(ours.keys().eq(theirs.keys()), "{kind:?}: {ours:?} {theirs:?}");
        // What only one of the two counts in, as taking the statement in, takes long on an emulated processor.
        let margin = 2.0 * f64::from(time_scale());
        for (number, time) in theirs {
            assert!(
                (ours[&number] - time).abs() < time / 50.0 + margin,
                "{kind:?} {number}: {} {time}",
                ours[&number]
            );
        }
        assert_eq!(collected.lost("dbslower"), 0);
    }
}
