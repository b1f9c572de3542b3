//! dbslower against what real servers were asked to do.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::time::{Duration, Instant};

use common::{Collecting, Row, with_budget};
use databases::{Database, Kind, kinds};
use kumon_bpf::Settings;
use kumon_testing::{Child, load_size, require_bpf, time_scale, wait_for};

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(20);

fn settings(threshold: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.db.dbslower.threshold = threshold;
    settings
}

/// The rows of its marked statements.
fn rows_of(mut rows: Vec<Row>, database: &Database) -> Vec<Row> {
    rows.retain(|row| row.text("statement").contains(&database.mark()));
    assert!(rows.iter().all(|row| row.text("database") == database.kind.name()), "{rows:?}");
    rows
}

/// Runs a client and returns how long that took.
fn timed<T>(client: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (client(), start.elapsed())
}

/// Between what the statement slept and what its client took for all.
fn assert_slept(row: &Row, seconds: f64, client: Duration) {
    let slept = row.number("duration") as f64 / 1e9;
    assert!(
        (seconds..client.as_secs_f64()).contains(&slept),
        "{slept} s, not {seconds}, {client:?}: {row:?}"
    );
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
        let database = Database::shared(kind);
        let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
        let me = match kind {
            Kind::MariaDb => "SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()",
            Kind::MySql => {
                "SELECT THREAD_OS_ID FROM performance_schema.threads WHERE PROCESSLIST_ID = CONNECTION_ID()"
            }
            Kind::PostgreSql => "SELECT pg_backend_pid()",
        };
        let (mark, sleep) = (database.mark(), database.sleep(0.5));
        let script = format!("{me}; SELECT 'fast'; {sleep} AS slept, 'secret'");
        let (output, took) = timed(|| database.query(&script));
        let tid: i64 = output.lines().next().unwrap().parse().unwrap();
        let collected = collecting.stop();

        assert_eq!(collected.lost("dbslower"), 0);
        let rows = rows_of(collected.rows("dbslower"), database);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_slept(row, 0.5, took);
        assert_eq!(row.number("tid"), tid);
        assert_eq!(row.text("truncated"), "false");
        match kind {
            // The client sends the statements of a script one by one.
            Kind::MariaDb | Kind::MySql => {
                assert_eq!(row.text("statement"), format!("SELECT {mark} SLEEP(?) AS slept, ?"));
                assert_eq!((row.number("pid"), row.text("name")), (database.id().into(), kind.process()));
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
        let database = Database::shared(kind);
        let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
        let statement = format!("{}, 'secret'", database.sleep("?"));
        let (_, took) = timed(|| database.execute_prepared(&statement, 0.4));
        let expected = match kind {
            Kind::MariaDb | Kind::MySql => format!("{}, ?", database.sleep("?")),
            Kind::PostgreSql => format!("{}, ?;", database.sleep("$1")),
        };
        let rows = rows_of(collecting.stop().rows("dbslower"), database);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(row.text("statement"), expected);
        assert_slept(row, 0.4, took);
    }
}

#[test]
fn a_statement_that_is_cancelled_has_a_row_too() {
    for kind in kinds() {
        let database = Database::shared(kind);
        let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
        let sleep = database.sleep(60);
        let limited = match kind {
            Kind::MariaDb => format!("SET max_statement_time = 0.4; {sleep} FROM mysql.user"),
            Kind::MySql => format!("SET max_execution_time = 400; {sleep} FROM mysql.user"),
            Kind::PostgreSql => format!("SET statement_timeout = 400; {sleep}"),
        };
        let (_, took) = timed(|| database.client(&limited).output().unwrap());
        let rows = rows_of(collecting.stop().rows("dbslower"), database);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_slept(row, 0.4, took);
    }
}

/// A trigger that works when its transaction commits, so that the commit takes what the statement doesn't.
#[test]
fn the_commit_of_a_statement_by_itself_counts_in_each_protocol_of_postgresql() {
    if !require_bpf() || !Kind::PostgreSql.required() {
        return;
    }
    let database = Database::shared(Kind::PostgreSql);
    database.query(
        "CREATE TABLE committed (seconds float); \
         CREATE FUNCTION work() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(new.seconds); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER works AFTER INSERT ON committed DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION work()",
    );
    let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
    let insert = |seconds: &str| format!("INSERT INTO committed VALUES ({seconds}) {}", database.mark());
    let (_, simple) = timed(|| database.query(&insert("0.3")));
    let (_, extended) = timed(|| database.execute_prepared(&insert("?"), 0.5));
    let rows = rows_of(collecting.stop().rows("dbslower"), database);
    let [first, second] = rows.as_slice() else { panic!("{rows:?}") };
    assert_slept(first, 0.3, simple);
    assert_slept(second, 0.5, extended);
}

#[test]
fn a_statement_whose_backend_is_terminated_has_a_row() {
    if !require_bpf() || !Kind::PostgreSql.required() {
        return;
    }
    let database = Database::shared(Kind::PostgreSql);
    let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
    let client = Child::spawn(&mut database.client(&database.sleep(61)));
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE query LIKE '%pg_sleep(61)' AND clock_timestamp() - query_start > '0.4 s'";
    wait_for("the statement to run and its backend to be terminated", LIMIT, || {
        database.query(terminate).trim() == "t"
    });
    drop(client);
    let seen = || rows_of(collecting.rows("dbslower"), database);
    wait_for("the row of the statement", LIMIT, || !seen().is_empty());
    let rows = seen();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.number("duration") >= 400_000_000, "{row:?}");
    collecting.stop();
}

#[test]
fn a_long_statement_is_cut_and_flagged_and_shown_as_it_is_where_masking_is_off() {
    for kind in kinds() {
        let database = Database::shared(kind);
        let mut settings = settings(Duration::from_millis(200));
        settings.db.dbslower.mask = false;
        settings.db.dbslower.max_statement_bytes = 1000;
        let collecting = Collecting::start("db", settings);
        let statement = |bytes: usize| {
            let sleep = database.sleep(0.3);
            format!("{sleep}, 'a\",\n1{}'", "x".repeat(bytes - sleep.len() - 9))
        };
        for bytes in [999, 1000, 1001, 100_000] {
            assert_eq!(statement(bytes).len(), bytes);
            database.query(&statement(bytes));
        }
        let rows = rows_of(collecting.stop().rows("dbslower"), database);
        let told: Vec<_> = rows.iter().map(|row| (row.bytes("statement"), row.text("truncated"))).collect();
        let expected = [(999, "false"), (1000, "false"), (1001, "true"), (100_000, "true")];
        let expected = expected
            .map(|(bytes, truncated)| (statement(bytes).into_bytes()[..bytes.min(1000)].to_vec(), truncated));
        assert_eq!(told, expected);
    }
}

#[test]
fn the_threshold_holds_in_the_kernel_on_both_of_its_sides() {
    const FAST: usize = 1_000;
    for kind in kinds() {
        let database = Database::shared(kind);
        let mut settings = settings(Duration::from_millis(200));
        // What is faster would overrun a buffer of one page if it left the kernel.
        settings.ring_buffer_bytes = 1;
        let collecting = Collecting::start_polling("db", settings, Duration::from_millis(500));
        let fast = format!("SELECT {} 1;\n", database.mark()).repeat(FAST);
        database.script(&format!("{fast}{};\n{};\n", database.sleep("0.05"), database.sleep("0.2")));
        let collected = collecting.stop();
        assert_eq!(collected.lost("dbslower"), 0);
        let [row] = &rows_of(collected.rows("dbslower"), database)[..] else {
            panic!("{:?}", collected.rows("dbslower"))
        };
        assert!(row.number("duration") >= 200_000_000, "{row:?}");
    }
}

/// Statements that run others, after what they need was made.
fn nested(database: &Database) -> Vec<String> {
    let mark = database.mark();
    if database.kind == Kind::PostgreSql {
        let function = |name: &str, body: &str| {
            format!("CREATE FUNCTION {name}() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        };
        database.query(&function("nap", "PERFORM pg_sleep(0.15);"));
        database.query(&function("naps", "PERFORM nap(); EXECUTE 'SELECT nap()';"));
        database.query("CREATE TABLE napping AS SELECT generate_series(1, 3000)");
        for setting in ["parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"] {
            database.query(&format!("ALTER DATABASE postgres SET {setting} = 0"));
        }
        let parallel = format!("SELECT {mark} count(pg_sleep(0.0003)) FROM napping");
        let plan = database.query(&format!("EXPLAIN {parallel}"));
        assert!(plan.contains("Workers Planned: 2"), "{plan}");
        return vec![
            format!("SELECT {mark} naps()"),
            format!("DO {mark} $$ BEGIN PERFORM naps(); END $$"),
            parallel,
        ];
    }
    database.query("CREATE DATABASE naps");
    database.query("CREATE FUNCTION naps.nap() RETURNS INT NO SQL RETURN SLEEP(0.15)");
    database.query("CREATE PROCEDURE naps.nap_twice() SELECT naps.nap(), naps.nap()");
    database.query("CREATE PROCEDURE naps.call_nap() CALL naps.nap_twice()");
    vec![
        format!("SELECT {mark} naps.nap()"),
        format!("CALL {mark} naps.call_nap()"),
        format!("EXECUTE IMMEDIATE {mark} 'CALL naps.call_nap()'"),
    ]
}

#[test]
fn what_runs_inside_of_a_statement_has_no_row_of_its_own() {
    for kind in kinds() {
        let database = Database::shared(kind);
        let mut statements = nested(database);
        if kind == Kind::MySql {
            // It has no EXECUTE IMMEDIATE.
            statements.pop();
        }
        let mut settings = settings(Duration::from_millis(100));
        settings.db.dbslower.mask = false;
        let collecting = Collecting::start("db", settings);
        for statement in &statements {
            database.query(statement);
        }
        let rows = collecting.stop().rows("dbslower");
        // All that is nested naps or sleeps.
        let told = rows.iter().map(|row| row.text("statement")).filter(|text| {
            let text = text.to_lowercase();
            text.contains("nap") || text.contains("sleep")
        });
        assert_eq!(told.collect::<Vec<_>>(), statements);
    }
}

#[test]
fn statements_that_overrun_the_ring_buffer_are_counted() {
    // What the client and other servers on the machine do meanwhile.
    const OTHERS: u64 = 100;
    let statements = load_size(10_000) as u64;
    for kind in kinds() {
        let database = Database::shared(kind);
        let mut settings = with_budget(settings(Duration::ZERO), 0);
        settings.ring_buffer_bytes = 16 << 10;
        let collecting = Collecting::start_polling("db", settings, Duration::from_millis(500) * time_scale());
        database.script(&format!("SELECT {} 1;\n", database.mark()).repeat(statements as usize));
        let collected = collecting.stop();
        let lost = collected.lost("dbslower");
        let told = rows_of(collected.rows("dbslower"), database).len() as u64;
        assert!(lost > 0, "nothing was lost");
        assert!((statements..=statements + OTHERS).contains(&(told + lost)), "{told} told, {lost} lost");
    }
}
