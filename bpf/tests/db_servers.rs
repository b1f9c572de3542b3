//! Which servers dbslower follows, and from when to when.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::time::Duration;

use common::Collecting;
use databases::{Database, Kind, kinds};
use kumon_bpf::Settings;
use kumon_testing::{Child, load_size, require_bpf, wait_for};

const LIMIT: Duration = Duration::from_secs(10);

fn settings(threshold: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.dbslower.threshold = threshold;
    settings
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
            let seen = || {
                let mut rows = collecting.rows("dbslower");
                rows.retain(|row| row.text("statement").contains(&mark));
                rows
            };
            wait_for("the row of a server that started later", LIMIT, || {
                database.query(&database.sleep(0.2));
                !seen().is_empty()
            });

            let client = Child::spawn(&mut database.client(&database.sleep(60)));
            let working = match kind {
                Kind::MariaDb => {
                    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(60)'"
                }
                Kind::MySql => {
                    "SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE '%SLEEP(60)'"
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
fn a_server_in_a_container_is_followed() {
    if !require_bpf() || !Kind::MariaDb.required() {
        return;
    }
    let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
    let database = Database::start_mariadb_contained();
    wait_for("the row of the server", LIMIT, || {
        database.query(&database.sleep(0.3));
        let mark = database.mark();
        collecting.rows("dbslower").iter().any(|row| row.text("statement").contains(&mark))
    });
    collecting.stop();
}

#[test]
fn twenty_starts_and_stops_beside_servers_leave_nothing_in_the_kernel() {
    let databases: Vec<_> = kinds().into_iter().map(Database::start).collect();
    let before = kernel_objects();
    for _ in 0..load_size(20) {
        let collecting = Collecting::start("db", Settings::default());
        // Where the process by which a server is found ends at that moment, as PostgreSQL's do that served one client, the
        // next poll tries again.
        wait_for("the probes", LIMIT, || probes() >= 2 * databases.len());
        for database in &databases {
            database.query("SELECT 1");
        }
        collecting.stop();
        assert_eq!(kernel_objects(), before);
    }
}
