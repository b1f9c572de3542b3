//! Which servers dbslower follows, and from when to when.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Collecting, Programs, Row};
use databases::{Database, Kind, kinds};
use kumon_bpf::Settings;
use kumon_testing::{Child, logged, repetitions, require_bpf, require_program, wait_for};
use libbpf_rs::libbpf_sys::perf_event_attr;
use object::{Object, ObjectSegment, ObjectSymbol};

const LIMIT: Duration = Duration::from_secs(10);

fn settings(threshold: Duration) -> Settings {
    let mut settings = Settings::default();
    settings.db.dbslower.threshold = threshold;
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
        settings.db.dbslower.mask = false;
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
            // PostgreSQL's other processes end by themselves, and their statements with them, once the first one is gone.
            let killed = |row: &Row| kind != Kind::PostgreSql && !row.text("statement").ends_with("(0.2)");
            assert!(!seen().iter().any(killed), "a statement that never ended has no row: {:?}", seen());
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
fn a_server_is_followed_whatever_it_is_called() {
    if !require_bpf() || !Kind::MariaDb.required() {
        return;
    }
    let follows = |collecting: &Collecting, database: &Database| {
        wait_for("the row of the server", LIMIT, || {
            database.query(&database.sleep(0.3));
            let mark = database.mark();
            collecting.rows("dbslower").iter().any(|row| row.text("statement").contains(&mark))
        });
    };
    // By a name that says nothing: one that runs is found at the start.
    let renamed = Database::start_mariadb_by(|folder| {
        fs::rename(folder.join("mariadbd"), folder.join("shop-db")).unwrap();
        folder.join("shop-db")
    });
    let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
    follows(&collecting, &renamed);
    // Through a link: the process is called as that, the executable is not.
    let linked = Database::start_mariadb_by(|folder| {
        std::os::unix::fs::symlink("mariadbd", folder.join("shop-db")).unwrap();
        folder.join("shop-db")
    });
    follows(&collecting, &linked);
    collecting.stop();
}

/// Where in the file of a server a function is.
fn place(executable: &Path, function: &str) -> u64 {
    let data = fs::read(executable).unwrap();
    let elf = object::File::parse(data.as_slice()).unwrap();
    let address = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(function)).unwrap().address();
    let inside = |segment: &object::Segment<'_, '_>| {
        (0..segment.size()).contains(&(address.wrapping_sub(segment.address())))
    };
    let segment = elf.segments().find(inside).unwrap();
    segment.file_range().0 + address - segment.address()
}

/// A probe of another tracer, which wants a reference counter (perf_event_open(2)): the kernel has one for each place and
/// refuses whoever wants another, or none, there.
fn probe_with_reference_counter(executable: &Path, place: u64) -> OwnedFd {
    const TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
    // In the upper half of config. No server can write to the ELF header, so that nothing is counted there.
    const COUNTER: u64 = 2 << 32;
    const FLAG_FD_CLOEXEC: u64 = 8;
    let path = std::ffi::CString::new(executable.to_str().unwrap()).unwrap();
    let mut attributes = perf_event_attr {
        type_: fs::read_to_string(TYPE).unwrap().trim().parse().unwrap(),
        size: size_of::<perf_event_attr>() as u32,
        config: COUNTER,
        ..perf_event_attr::default()
    };
    attributes.__bindgen_anon_3.config1 = path.as_ptr() as u64;
    attributes.__bindgen_anon_4.config2 = place;
    // SAFETY: the attributes and the path outlive the call, and what it returns is a descriptor of nobody else's.
    unsafe {
        let event =
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, 0, -1, FLAG_FD_CLOEXEC);
        assert!(event >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(event as i32)
    }
}

#[test]
fn a_server_that_another_tracer_held_is_followed_once_that_is_gone() {
    if !require_bpf() || !Kind::MariaDb.required() {
        return;
    }
    let database = Database::start(Kind::MariaDb);
    let executable = PathBuf::from(format!("/proc/{}/exe", database.id()));
    let other = probe_with_reference_counter(&executable, place(&executable, "_ZN3THD16update_all_statsEv"));
    let collecting = Collecting::start("db", settings(Duration::from_millis(200)));
    let seen = || {
        let mut rows = collecting.rows("dbslower");
        rows.retain(|row| row.text("statement").contains(&database.mark()));
        rows
    };
    let told = |what: &str| logged(&["statements of /usr/sbin/mariadbd (", what]);
    // Meanwhile it is tried once more, a second after the first time.
    database.query(&database.sleep(1.5));
    assert_eq!(told("Invalid argument"), 1);
    drop(other);
    wait_for("the row of the server", LIMIT, || {
        database.query(&database.sleep(0.3));
        !seen().is_empty()
    });
    assert!(seen().iter().all(|row| row.number("duration") < 1_000_000_000), "{:?}", seen());
    assert_eq!(told("are not seen"), 1);
    assert_eq!(told("failed attempts"), 1);
    collecting.stop();
}

#[test]
fn what_is_only_called_as_a_server_is_told_once() {
    if !require_bpf() || !require_program("sleep") {
        return;
    }
    let programs = Programs::new();
    let collecting = Collecting::start("db", Settings::default());
    let start = |name| Child::spawn(Command::new(programs.copy("/usr/bin/sleep", name)).arg("600"));
    let told = |child: &Child| {
        let process = format!("(process {})", child.id());
        logged(&[&process, "are not seen: it is neither a PostgreSQL nor a MariaDB server"])
    };
    let mut children = Vec::new();
    // Each makes KuMon look at all of them.
    for name in ["mysqld", "mariadbd", "postgres"] {
        children.push(start(name));
        wait_for("a line of the log", LIMIT, || told(&children[children.len() - 1]) > 0);
    }
    assert!(children.iter().all(|child| told(child) == 1));
    collecting.stop();
}

#[test]
fn starts_and_stops_beside_servers_leave_nothing_in_the_kernel() {
    let databases: Vec<_> = kinds().into_iter().map(Database::start).collect();
    let before = kernel_objects();
    for _ in 0..repetitions(4, 20) {
        let collecting = Collecting::start("db", Settings::default());
        // Also where a process of a server ends at that moment, as PostgreSQL's do that served one client.
        assert!(probes() >= 2 * databases.len());
        for database in &databases {
            database.query("SELECT 1");
        }
        collecting.stop();
        assert_eq!(kernel_objects(), before);
    }
}
