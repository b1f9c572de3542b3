//! Budgets of single events under storms: what they let through, what they count, and from whom they take it.

// A failure in a helper is a failed test.
#![allow(clippy::unwrap_used)]

mod common;
mod databases;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    Cgroup, Collected, Collecting, Load, NAP, Programs, SETTLE, TASK_STORAGE, UPROBE_COOKIES, file_settings,
    kernel_is_at_least, with_budget,
};
use databases::{Database, kinds};
use kumon_bpf::{Enabled, Settings};
use kumon_collect::Filter;
use kumon_testing::{load_size, require, require_bpf, require_program, time_scale, wait_for};

const PYTHON: &str = "/usr/bin/python3";

/// The same budget for all metrics, which are about processes of these names only.
fn limited(settings: Settings, rows_per_second: u32, names: &[&str]) -> Settings {
    let filter: Filter = serde_json::from_value(serde_json::json!({ "comm": names })).unwrap();
    let mut settings = with_budget(settings, rows_per_second);
    settings.process.exec.filter = filter.clone();
    settings.process.exit.filter = filter.clone();
    settings.sched.runqslower.filter = filter.clone();
    settings.tcp.tcplife.filter = filter.clone();
    settings.file.filelife.filter = filter.clone();
    settings.file.filegone.filter = filter.clone();
    settings.db.dbslower.filter = filter;
    Settings { ring_buffer_bytes: 32 << 20, ..settings }
}

/// The most that a budget lets through in so long a time, with what was saved up. Each CPU may be given the last row of a part
/// of it at the same moment.
fn most_rows(rows_per_second: u32, time: Duration) -> u64 {
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    (f64::from(rows_per_second) * (time.as_secs_f64() + 2.0)) as u64 + 2 * cpus
}

fn rate_limited(collected: &Collected, metric: &str) -> u64 {
    let of = collected.losses.iter().filter(|loss| loss.metric == metric && loss.reason == "rate limit");
    of.map(|loss| loss.count).sum()
}

/// Renames a file back and forth, once it is told to: so many times with a pause in between, or until it is told to stop. Then
/// says how often it has.
const RENAMER: &str = "
import os, select, sys, time
times, pause, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
names = [folder + '/one', folder + '/other']
open(names[0], 'w').close()
print('ready', flush=True)
sys.stdin.readline()
count = 0
while count < times or not times and not select.select([sys.stdin], [], [], 0)[0]:
    for i in range(1 if times else 100):
        os.rename(*names)
        names.reverse()
        count += 1
    time.sleep(pause)
print(count, flush=True)
";

struct Renamer {
    load: Load,
    folder: tempfile::TempDir,
}

impl Renamer {
    fn start(mut python: Command, times: usize, pause: f64) -> Renamer {
        let folder = tempfile::tempdir().unwrap();
        python.args(["-c", RENAMER, &times.to_string(), &pause.to_string()]).arg(folder.path());
        let mut load = Load::start(python);
        assert_eq!(load.told().unwrap(), ["ready"]);
        Renamer { load, folder }
    }

    /// How often it has renamed.
    fn end(self) -> (u64, tempfile::TempDir) {
        (self.load.end()[0][0].parse().unwrap(), self.folder)
    }
}

/// How many rows of filegone a renamer has.
fn rows_in(collected: &Collected, folder: &tempfile::TempDir) -> u64 {
    let folder = folder.path().canonicalize().unwrap();
    let mut rows = collected.rows("filegone");
    rows.retain(|row| row.text("path").starts_with(folder.to_str().unwrap()));
    rows.len() as u64
}

/// Where the two processes of a test are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// Where the test itself is.
    Here,
    Container,
}

/// Lets one process storm while another one makes half of the rows that are kept for it.
fn storm_beside_a_quiet_one(mut settings: Settings, storming: Place, quiet: Place) {
    let rows_per_second = load_size(400) as u32;
    let (noisy, calm) = ("kumon-noisy", "kumon-calm");
    let programs = Programs::new();
    let Some((cgroup, container)) = Cgroup::of_container() else { return };
    let python = |name, place| {
        let python = programs.copy(PYTHON, name);
        if place == Place::Here { Command::new(python) } else { cgroup.command(python) }
    };
    settings.file.filelife.enabled = Enabled::No;
    let pause = 32.0 / f64::from(rows_per_second);
    let mut quiet = Renamer::start(python(calm, quiet), load_size(60), pause);
    let mut storm = Renamer::start(python(noisy, storming), 0, 0.0);
    let (storm_pid, begin) = (storm.load.pid(), Instant::now());
    let collecting = Collecting::start("file", limited(settings, rows_per_second, &[noisy, calm]));
    storm.load.go_on();
    wait_for("what is for all to be used up", Duration::from_secs(30), || {
        collecting.rows("filegone").len() >= rows_per_second as usize
    });
    quiet.load.go_on();
    let (quiet_made, quiet_folder) = quiet.end();
    storm.load.go_on();
    let (storm_made, storm_folder) = storm.end();
    let collected = collecting.stop();
    let most = most_rows(rows_per_second, begin.elapsed());

    let losses = &collected.losses;
    assert_eq!(rows_in(&collected, &quiet_folder), quiet_made, "the quiet one lost none: {losses:?}");
    let (rows, left_out) = (rows_in(&collected, &storm_folder), rate_limited(&collected, "filegone"));
    assert!(left_out > 0, "the storm must be over the budget, or this tests nothing");
    assert_eq!(rows + collected.lost("filegone"), storm_made, "{losses:?}");
    assert!(rows + quiet_made <= most, "{rows} and {quiet_made} rows, at most {most}");
    let [by] = &collected.rate_limited[..] else { panic!("{:?}", collected.rate_limited) };
    let expected = match storming {
        Place::Here => format!("process {storm_pid} ({noisy})"),
        Place::Container => format!("container {} ({noisy})", &container[..12]),
    };
    assert_eq!((by.metric, by.rows, &by.by), ("filegone", left_out, &expected));
}

#[test]
fn one_storm_takes_nothing_from_a_quiet_process_wherever_that_is() {
    for settings in file_settings() {
        for (storming, quiet) in [
            (Place::Container, Place::Here),
            (Place::Container, Place::Container),
            (Place::Here, Place::Here),
        ] {
            eprintln!("{:?}: {storming:?} beside {quiet:?}", settings.file.file_hooks);
            storm_beside_a_quiet_one(settings.clone(), storming, quiet);
        }
    }
}

/// What docs/collectors/budgets.md promises, to the last storm.
#[test]
fn three_storms_in_its_cgroup_and_in_three_others_each_take_nothing_from_a_quiet_process() {
    const ROWS: u32 = 400;
    // The promise begins at more rows than the storms of an emulated processor have.
    if time_scale() > 1 {
        return;
    }
    let programs = Programs::new();
    for mut settings in file_settings() {
        settings.file.filelife.enabled = Enabled::No;
        let name = |number| format!("kumon-budget-{}-{number}", std::process::id());
        let cgroups: Option<Vec<Cgroup>> = (0..4).map(|number| Cgroup::new(&name(number))).collect();
        if !require(cgroups.is_some(), "a cgroup v2 mount") {
            return;
        }
        let cgroups = cgroups.unwrap();
        let (noisy, calm) = (programs.copy(PYTHON, "kumon-noisy"), programs.copy(PYTHON, "kumon-calm"));
        let mut quiet = Renamer::start(cgroups[0].command(calm), 60, 32.0 / f64::from(ROWS));
        let storming = cgroups.iter().flat_map(|cgroup| [cgroup; 3]);
        let mut storms: Vec<Renamer> =
            storming.map(|cgroup| Renamer::start(cgroup.command(&noisy), 0, 0.0)).collect();
        let collecting = Collecting::start("file", limited(settings, ROWS, &["kumon-noisy", "kumon-calm"]));
        storms.iter_mut().for_each(|storm| storm.load.go_on());
        wait_for("what is for all to be used up", Duration::from_secs(30), || {
            collecting.rows("filegone").len() >= ROWS as usize
        });
        quiet.load.go_on();
        let (made, folder) = quiet.end();
        storms.iter_mut().for_each(|storm| storm.load.go_on());
        let stormed: u64 = storms.into_iter().map(|storm| storm.end().0).sum();
        let collected = collecting.stop();
        assert_eq!(rows_in(&collected, &folder), made, "{:?}", collected.losses);
        let rows = collected.rows("filegone").len() as u64;
        assert_eq!(rows + collected.lost("filegone"), stormed + made, "{:?}", collected.losses);
    }
}

/// Collects a load with a budget of so many rows and without one: with it there are fewer, and the others are counted.
fn compare(collector: &'static str, metrics: &[&str], settings: &Settings, name: &str, load: impl FnOnce()) {
    const ROWS: u32 = 1;
    let begin = Instant::now();
    let unlimited = Collecting::start(collector, limited(settings.clone(), 0, &[name]));
    let collecting = Collecting::start(collector, limited(settings.clone(), ROWS, &[name]));
    load();
    let (collected, unlimited) = (collecting.stop(), unlimited.stop());
    let most = most_rows(ROWS, begin.elapsed());
    for &metric in metrics {
        let (rows, all) = (collected.rows(metric).len() as u64, unlimited.rows(metric).len() as u64);
        let left_out = rate_limited(&collected, metric);
        assert!(left_out > 0, "{metric}: the load must be over the budget: {rows} of {all} rows");
        assert!(rows > 0 && rows <= most, "{metric}: {rows} rows, at most {most}");
        assert_eq!(rate_limited(&unlimited, metric), 0, "{metric}");
        let (with, without) = (rows + collected.lost(metric), all + unlimited.lost(metric));
        assert_eq!(
            with, without,
            "{metric}: {:?}, without a budget {:?}",
            collected.losses, unlimited.losses
        );
        let made_by: u64 =
            collected.rate_limited.iter().filter(|by| by.metric == metric).map(|by| by.rows).sum();
        assert!(made_by > 0 && made_by <= left_out, "{metric}: {:?}", collected.rate_limited);
    }
}

const STORM: &str = "kumon-storm";

/// A script of Python, run by a program of that name.
fn storm(programs: &Programs, script: &str) {
    let status = Command::new(programs.copy(PYTHON, STORM)).args(["-S", "-c", script]).status();
    assert!(status.unwrap().success());
}

#[test]
fn execs_and_exits_keep_to_their_budget() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let (programs, short) = (Programs::new(), Programs::new());
    let mut settings = Settings::default();
    settings.process.exec.failed = kernel_is_at_least(TASK_STORAGE);
    let script = format!(
        "import os
for i in range({}):
    child = os.fork()
    if not child:
        try: os.execv('/no-such-program', ['none'])
        except OSError: os.execv({:?}, ['{STORM}'])
    os.waitpid(child, 0)",
        load_size(500),
        short.copy("/bin/true", STORM)
    );
    compare("process", &["exec", "exit"], &settings, STORM, || storm(&programs, &script));
}

#[test]
fn slow_waits_keep_to_their_budget() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let programs = Programs::new();
    let mut settings = Settings::default();
    settings.sched.runqslower.threshold = Duration::from_nanos(1);
    let script = format!("{NAP}nap({})", load_size(2_000));
    compare("sched", &["runqslower"], &settings, STORM, || storm(&programs, &script));
}

#[test]
fn sessions_keep_to_their_budget() {
    if !require_bpf() || !require_program("python3") {
        return;
    }
    let programs = Programs::new();
    let script = format!(
        "{SETTLE}
import socket
listener = socket.create_server(('127.0.0.1', 0))
port = listener.getsockname()[1]
for i in range({}):
    client = socket.create_connection(('127.0.0.1', port))
    server = listener.accept()[0]
    client.close()
    server.close()
settle(port)",
        load_size(2_000)
    );
    compare("tcp", &["tcplife"], &Settings::default(), STORM, || storm(&programs, &script));
}

#[test]
fn files_keep_to_their_budget() {
    let programs = Programs::new();
    for settings in file_settings() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "import os
for i in range({}):
    path = {:?} + '/' + str(i)
    os.close(os.open(path, os.O_CREAT))
    os.unlink(path)",
            load_size(5_000),
            folder.path()
        );
        compare("file", &["filelife", "filegone"], &settings, STORM, || storm(&programs, &script));
    }
}

#[test]
fn statements_keep_to_their_budget() {
    if !kernel_is_at_least(UPROBE_COOKIES) {
        return; // Statements are not collected there.
    }
    for kind in kinds() {
        let database = Database::shared(kind);
        let mut settings = Settings::default();
        settings.db.dbslower.threshold = Duration::ZERO;
        let script = format!("SELECT {} 1;\n", database.mark()).repeat(load_size(2_000));
        compare("db", &["dbslower"], &settings, kind.process(), || database.script(&script));
    }
}
