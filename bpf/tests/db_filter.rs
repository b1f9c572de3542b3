//! Filter and sample of dbslower against servers whose processes the test knows.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::time::Duration;

use common::{Cgroup, Collected, Collecting};
use databases::{Database, Kind, NOBODY};
use kumon_bpf::Settings;
use kumon_testing::{require, require_bpf};

fn settings(filter: &str) -> Settings {
    let mut settings = Settings::default();
    settings.db.dbslower.threshold = Duration::ZERO;
    settings.db.dbslower.filter = serde_json::from_str(filter).unwrap();
    settings
}

/// How many of its marked statements have a row.
fn told(collected: &Collected, database: &Database) -> usize {
    let rows = collected.rows("dbslower");
    rows.iter().filter(|row| row.text("statement").contains(&database.mark())).count()
}

#[test]
fn servers_are_chosen_by_name_pid_user_and_cgroup() {
    let ready = require_bpf() && Kind::MariaDb.required() && Kind::PostgreSql.required();
    if !ready || !require(Cgroup::mount().is_some(), "a cgroup v2 mount") {
        return;
    }
    let mariadb = Database::start(Kind::MariaDb);
    let postgresql = Database::start(Kind::PostgreSql);
    let name = format!("kumon-db-{}", std::process::id());
    let outer = Cgroup::new(&name).unwrap();
    let inner = Cgroup::new(&format!("{name}/inner")).unwrap();
    let enter = |cgroup: &Cgroup| {
        std::fs::write(cgroup.0.join("cgroup.procs"), mariadb.id().to_string()).unwrap();
    };
    enter(&inner);

    let only_mariadb = (1, 0);
    for (filter, expected) in [
        (r#"{"comm": ["mariadbd"]}"#.to_owned(), only_mariadb),
        (format!(r#"{{"pid": [{}]}}"#, mariadb.id()), only_mariadb),
        (format!(r#"{{"cgroup": ["/{name}"]}}"#), only_mariadb),
        (format!(r#"{{"cgroup": [{}]}}"#, inner.id()), only_mariadb),
        (format!(r#"{{"uid": [{NOBODY}], "comm": ["postgres", "psql"]}}"#), (0, 1)),
        (r#"{"uid": [12345]}"#.to_owned(), (0, 0)),
    ] {
        let collecting = Collecting::start("db", settings(&filter));
        for database in [&mariadb, &postgresql] {
            database.query(&format!("SELECT {} 1", database.mark()));
        }
        let collected = collecting.stop();
        assert_eq!((told(&collected, &mariadb), told(&collected, &postgresql)), expected, "{filter}");
    }
    drop(mariadb);
    drop((inner, outer));
}

#[test]
fn one_slow_statement_in_so_many_is_told_and_the_others_are_counted() {
    const SLOW: u64 = 800;
    if !require_bpf() || !Kind::PostgreSql.required() {
        return;
    }
    let database = Database::start(Kind::PostgreSql);
    let mut settings = settings("{}");
    settings.db.dbslower.threshold = Duration::from_millis(1);
    settings.db.dbslower.sample = serde_json::from_str("4").unwrap();
    let collecting = Collecting::start("db", settings);
    // What is below the threshold is no candidate.
    database.script(&format!("{};\n", database.sleep("0.001")).repeat(SLOW as usize));
    let collected = collecting.stop();
    let told = told(&collected, &database) as u64;
    let sampled_out = collected.losses.iter().find(|loss| loss.reason == "sampled out").unwrap();
    assert_eq!((told + sampled_out.count, collected.lost("dbslower")), (SLOW, sampled_out.count));
    // Six standard deviations around a quarter.
    assert!((127..=273).contains(&told), "{told}");
}
