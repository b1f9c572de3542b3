//! dbslower against what real servers were asked to do.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::time::Duration;

use common::{Collecting, Row};
use databases::{Database, Kind};
use kumon_bpf::Settings;
use kumon_testing::{Child, require_bpf, wait_for};

const KINDS: [Kind; 2] = [Kind::MariaDb, Kind::PostgreSql];
const LIMIT: Duration = Duration::from_secs(10);

fn settings(threshold: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.dbslower.threshold = threshold;
    settings
}

/// The kinds of servers that a test can run with.
fn kinds() -> impl Iterator<Item = Kind> {
    let bpf = require_bpf();
    KINDS.into_iter().filter(move |kind| bpf && kind.required())
}

fn marked(rows: Vec<Row>, mark: &str) -> Vec<Row> {
    rows.into_iter().filter(|row| row.text("statement").contains(mark)).collect()
}

/// The rows of its marked statements.
fn rows_of(rows: Vec<Row>, database: &Database) -> Vec<Row> {
    let rows = marked(rows, &database.mark());
    assert!(rows.iter().all(|row| row.text("database") == database.kind.name()), "{rows:?}");
    rows
}

/// What is attached to servers: each probe is a perf event of this process.
fn probes() -> usize {
    descriptors(&["[perf_event]"])
}

/// The programs, maps, links and probes of this process.
fn kernel_objects() -> usize {
    descriptors(&["[perf_event]", "bpf-prog", "bpf-map", "bpf_link", "bpf-link"])
}

fn descriptors(kinds: &[&str]) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    targets.filter(|target| kinds.iter().any(|kind| target.contains(kind))).count()
}

/// Within 5 % of what the statement slept, and never below.
fn assert_slept(row: &Row, seconds: f64) {
    let slept = row.number("duration") as f64 / 1e9;
    assert!((seconds..seconds * 1.05).contains(&slept), "{slept} s, not {seconds}: {row:?}");
}

/// As /proc tells it: boot id, pid and start in clock ticks.
fn entity_id(pid: i64) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split(' ').nth(20).unwrap().to_owned();
    format!("{}-{pid}-{ticks}", boot.trim().replace('-', ""))
}

#[test]
fn a_slow_statement_has_a_row_that_tells_where_it_ran_and_a_fast_one_has_none() {
    for kind in kinds() {
        let database = Database::start(kind);
        let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
        let me = match kind {
            Kind::MariaDb => "SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()",
            Kind::PostgreSql => "SELECT pg_backend_pid()",
        };
        let (mark, sleep) = (database.mark(), database.sleep(0.5));
        let output = database.query(&format!("{me}; SELECT 'fast'; {sleep} AS slept, 'secret'"));
        let tid: i64 = output.lines().next().unwrap().parse().unwrap();
        let collected = collecting.stop();

        assert_eq!(collected.lost("dbslower"), 0);
        let rows = rows_of(collected.rows("dbslower"), &database);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_slept(row, 0.5);
        assert_eq!(row.number("tid"), tid);
        assert_eq!(row.text("truncated"), "false");
        match kind {
            // The client sends the statements of a script one by one.
            Kind::MariaDb => {
                assert_eq!(row.text("statement"), format!("SELECT {mark} SLEEP(?) AS slept, ?"));
                assert_eq!((row.number("pid"), row.text("name")), (database.id().into(), "mariadbd"));
                assert_eq!(row.text("entity_id"), entity_id(row.number("pid")));
            }
            Kind::PostgreSql => {
                let sleep = format!("SELECT {mark} pg_sleep(?) AS slept, ?");
                assert_eq!(row.text("statement"), format!("SELECT pg_backend_pid(); SELECT ?; {sleep}"));
                assert_eq!((row.number("pid"), row.text("name")), (tid, "postgres"));
            }
        }
    }
}

#[test]
fn prepared_statements_are_told_by_the_text_that_was_prepared() {
    for kind in kinds() {
        let database = Database::start(kind);
        let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
        database.execute_prepared(&format!("{}, 'secret'", database.sleep("?")), 0.4);
        let expected = match kind {
            Kind::MariaDb => format!("{}, ?", database.sleep("?")),
            Kind::PostgreSql => format!("{}, ?;", database.sleep("$1")),
        };
        let rows = rows_of(collecting.stop().rows("dbslower"), &database);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(row.text("statement"), expected);
        assert_slept(row, 0.4);
    }
}

#[test]
fn a_statement_that_is_cancelled_has_a_row_too() {
    for kind in kinds() {
        let database = Database::start(kind);
        let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
        let sleep = database.sleep(60);
        let limited = match kind {
            Kind::MariaDb => format!("SET max_statement_time = 0.4; {sleep} FROM mysql.user"),
            Kind::PostgreSql => format!("SET statement_timeout = 400; {sleep}"),
        };
        database.client(&limited).output().unwrap();
        let rows = rows_of(collecting.stop().rows("dbslower"), &database);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_slept(row, 0.4);
    }
}

#[test]
fn a_long_statement_is_cut_and_flagged_and_shown_as_it_is_where_masking_is_off() {
    for kind in kinds() {
        let database = Database::start(kind);
        let mut settings = settings(Duration::from_millis(200));
        settings.dbslower.mask = false;
        settings.dbslower.max_statement_bytes = 1000;
        let collecting = Collecting::start("db", settings);
        let statement = |bytes: usize| {
            let sleep = database.sleep(0.3);
            format!("{sleep}, 'a\",\n1{}'", "x".repeat(bytes - sleep.len() - 9))
        };
        for bytes in [999, 1000, 1001, 100_000] {
            assert_eq!(statement(bytes).len(), bytes);
            database.query(&statement(bytes));
        }
        let rows = rows_of(collecting.stop().rows("dbslower"), &database);
        let told: Vec<_> = rows.iter().map(|row| (row.bytes("statement"), row.text("truncated"))).collect();
        let expected = [(999, "false"), (1000, "false"), (1001, "true"), (100_000, "true")];
        let expected = expected
            .map(|(bytes, truncated)| (statement(bytes).into_bytes()[..bytes.min(1000)].to_vec(), truncated));
        assert_eq!(told, expected);
    }
}

#[test]
fn ten_thousand_statements_are_each_told_or_counted_as_lost() {
    const STATEMENTS: usize = 10_000;
    for kind in kinds() {
        let database = Database::start(kind);
        let collecting = Collecting::start("db", settings(Duration::ZERO));
        let mark = database.mark();
        let statements: String = (0..STATEMENTS).map(|i| format!("SELECT {mark} 'marked', {i};\n")).collect();
        database.script(&statements);
        let collected = collecting.stop();
        let marked = rows_of(collected.rows("dbslower"), &database).len();
        assert_eq!(marked as u64 + collected.lost("dbslower"), STATEMENTS as u64);
        assert!(collected.lost("dbslower") == 0, "{:?}", collected.losses);
    }
}

#[test]
fn a_server_is_found_when_it_starts_and_let_go_when_it_is_killed_in_mid_statement() {
    for kind in kinds() {
        let mut settings = settings(Duration::from_millis(100));
        settings.dbslower.mask = false;
        let collecting = Collecting::start("db", settings);
        let before = probes();
        for _ in 0..2 {
            let database = Database::start(kind);
            let mark = database.mark();
            let seen = || marked(collecting.rows("dbslower"), &mark);
            wait_for("the row of a server that started later", LIMIT, || {
                database.query(&database.sleep(0.2));
                !seen().is_empty()
            });

            let client = Child::spawn(&mut database.client(&database.sleep(60)));
            let working = match kind {
                Kind::MariaDb => {
                    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(60)'"
                }
                Kind::PostgreSql => "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'",
            };
            wait_for("the statement to run", LIMIT, || database.query(working).trim() == "1");
            database.kill();
            wait_for("the probes to be gone", LIMIT, || probes() == before);
            let ended = seen().iter().all(|row| row.text("statement").ends_with("(0.2)"));
            assert!(ended, "a statement that never ended has no row: {:?}", seen());
            drop(client);
        }
        collecting.stop();
    }
}

#[test]
fn statements_that_overrun_the_ring_buffer_are_counted() {
    const STATEMENTS: u64 = 10_000;
    // What the client and other servers on the machine do meanwhile.
    const OTHERS: u64 = 100;
    for kind in kinds() {
        let database = Database::start(kind);
        let mut settings = settings(Duration::ZERO);
        settings.ring_buffer_bytes = 64 << 10;
        let collecting = Collecting::start_polling("db", settings, Duration::from_millis(500));
        database.script(&format!("SELECT {} 1;\n", database.mark()).repeat(STATEMENTS as usize));
        let collected = collecting.stop();
        let lost = collected.lost("dbslower");
        let told = rows_of(collected.rows("dbslower"), &database).len() as u64;
        assert!(lost > 0, "nothing was lost");
        assert!((STATEMENTS..=STATEMENTS + OTHERS).contains(&(told + lost)), "{told} told, {lost} lost");
    }
}

#[test]
fn a_server_in_a_container_is_followed() {
    if !require_bpf() || !Kind::MariaDb.required() {
        return;
    }
    let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
    let database = Database::start_mariadb_contained();
    wait_for("the row of the server", LIMIT, || {
        database.query(&database.sleep(0.3));
        !rows_of(collecting.rows("dbslower"), &database).is_empty()
    });
    collecting.stop();
}

#[test]
fn twenty_starts_and_stops_beside_a_server_leave_nothing_in_the_kernel() {
    for kind in kinds() {
        let database = Database::start(kind);
        let before = kernel_objects();
        for _ in 0..20 {
            let collecting = Collecting::start("db", Settings::default());
            assert!(probes() >= 2);
            database.query("SELECT 1");
            collecting.stop();
            assert_eq!(kernel_objects(), before);
        }
    }
}
