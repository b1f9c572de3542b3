//! A shipper in a process of its own that ships to a stand-in over HTTP, and can be killed at any moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kumon_shipper::elasticsearch::{Authentication, ElasticsearchSink, Options};
use kumon_shipper::{Input, Shipper};
use kumon_testing::{Child, wait_for};

use crate::bulk_server::{BulkServer, TIMEOUT};
use crate::copies::gzip;
use crate::random::{Random, seeds};
use crate::support::{HEADER, LIMIT, Place, append, lines, open, options, rows};

/// A busy machine takes its time.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Starts one for the usual inputs of this folder.
pub(crate) fn spawn(folder: &Path, server: &BulkServer) -> Child {
    spawn_with(&options(folder).inputs, folder, server)
}

/// Starts one for these inputs, which are the usual ones of this folder but for their order and patterns.
pub(crate) fn spawn_with(inputs: &[Input], folder: &Path, server: &BulkServer) -> Child {
    let inputs: Vec<_> = inputs.iter().map(|input| (&input.dataset, &input.paths)).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kills::shipper_over_http", "--nocapture"]);
    command.env("SHIPPER_OVER_HTTP", folder).env("BULK_URL", &server.url);
    command.env("INPUTS", serde_json::to_string(&inputs).unwrap());
    Child::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// A clean stop.
pub(crate) fn stop(mut child: Child) {
    drop(child.inner().stdin.take());
    child.wait(2 * STOP_LIMIT);
}

/// Not a test: see [`spawn`]. Stops cleanly when its standard input ends.
#[test]
fn shipper_over_http() {
    let Some(folder) = std::env::var_os("SHIPPER_OVER_HTTP").map(PathBuf::from) else { return };
    let sink = ElasticsearchSink::new(Options {
        hosts: vec![std::env::var("BULK_URL").unwrap()],
        authentication: Authentication::None,
        ca_file: None,
        client_certificate: None,
        gzip: false,
        section: "output.elasticsearch".into(),
        timeout: TIMEOUT,
    });
    let mut options = options(&folder);
    options.batch_bytes = 2000;
    let inputs: Vec<(String, Vec<String>)> = serde_json::from_str(&std::env::var("INPUTS").unwrap()).unwrap();
    let with = |(dataset, paths)| {
        let usual = options.inputs.iter().find(|input| input.dataset == dataset);
        Input { paths, ..usual.unwrap().clone() }
    };
    options.inputs = inputs.into_iter().map(with).collect();
    let (shipper, handle) = Shipper::new(options, Box::new(sink.unwrap())).unwrap();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        handle.stop(STOP_LIMIT);
    });
    shipper.with_linger(Duration::from_millis(500)).run();
}

/// `KILLS` says how often; the run of a thousand takes a minute and a half.
#[test]
fn nothing_is_lost_or_doubled_by_many_kills_while_the_sink_fails_too() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let Some(seed) = seeds(Duration::ZERO).next() else { return };
    let (place, server, mut random) = (Place::new(), BulkServer::start(seed), Random(seed));
    let (log, mut next, start) = (place.path("log.ndjson"), 0, Instant::now());
    server.fail(true);
    for kill in 0..kills {
        let mut child = spawn(place.folder.path(), &server);
        let end = Instant::now() + Duration::from_millis(random.below(100));
        while Instant::now() < end {
            append(&log, &lines(next..next + 5));
            next += 5;
            std::thread::sleep(Duration::from_micros(500 + random.below(4000)));
        }
        child.kill().unwrap();
        if kill % 10 == 9 {
            // It must be known before it gets a name that no pattern matches.
            settle(&place, &server, next);
            append(&log, &lines(next..next + 50));
            next += 50;
            let rotated = place.path(&format!("log.ndjson.{kill}"));
            fs::rename(&log, &rotated).unwrap();
            if kill % 20 == 9 {
                gzip(&rotated);
            }
        }
    }
    let resends = server.resends();
    settle(&place, &server, next);
    println!(
        "{kills} SIGKILLs in {:.0} s, {next} rows, {resends} of them sent again: 0 lost, 0 doubled",
        start.elapsed().as_secs_f32()
    );
}

/// The writer of a file that is copied and truncated goes on without a header.
#[test]
fn a_kill_right_behind_a_truncation_leaves_the_rows_that_follow_their_header() {
    for delay in 0..15 {
        let (place, server) = (Place::new(), BulkServer::start(0));
        let log = place.path("log.csv");
        append(&log, &(HEADER.to_owned() + &rows(0..2000)));
        let mut child = spawn(place.folder.path(), &server);
        wait_for("the first rows", LIMIT, || server.len() > 0);
        fs::copy(&log, place.path("log.csv.1")).unwrap();
        open(&log).set_len(0).unwrap();
        std::thread::sleep(Duration::from_millis(2 * delay));
        child.kill().unwrap();
        append(&log, &rows(2000..2010));
        settle(&place, &server, 2010);
    }
}

/// Lets a shipper deliver all there is, and checks it.
fn settle(place: &Place, server: &BulkServer, next: u64) {
    server.fail(false);
    stop(spawn(place.folder.path(), server));
    server.fail(true);
    let mut numbers = server.numbers();
    numbers.sort_unstable();
    let doubled: Vec<_> = numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    numbers.dedup();
    let lost: Vec<u64> = (0..next).filter(|n| numbers.binary_search(n).is_err()).collect();
    assert!(lost.is_empty() && doubled.is_empty(), "lost {lost:?}, doubled {doubled:?}");
}
