//! A long outage of Elasticsearch: the spool grows to its limit and sheds, and what is left is caught up with.

use std::fs;
use std::time::{Duration, Instant};

use kumon_spool::{Limits, Lost, Spool, list};
use kumon_testing::wait_for;

use crate::bulk_server::BulkServer;
use crate::kills;
use crate::support::{Place, exec};

const LIMIT: Duration = Duration::from_secs(60);
/// Rows before the outage, which tell how fast rows go when there is nothing to catch up with.
const BEFORE: u64 = 20_000;
/// Rows during the outage: eight times what the spool may hold.
const MEANWHILE: u64 = 120_000;
/// In bytes; some 15,000 rows.
const SPOOL: u64 = 1_500_000;
/// What the shipper may grow by during the outage, in bytes: the batch that is sent and the one behind it are of 2 kB
/// here, at most 256 files are open with 2 KiB of their content each, of the others it knows the names; the rest is what
/// the allocator rounds up to. The rows of the outage are six times as much.
const GROWTH: u64 = 2 << 20;

#[test]
fn an_outage_longer_than_the_spool_sheds_the_oldest_and_the_rest_arrives_at_full_speed() {
    let (place, server) = (Place::new(), BulkServer::start(1));
    let limits = Limits { file_bytes: 20_000, spool_bytes: SPOOL, ..Limits::default() };
    let mut spool = Spool::open(&place.options.spool, limits).unwrap();
    let child = kills::spawn(place.folder.path(), &server);
    write(&mut spool, 0..BEFORE);
    let start = Instant::now();
    wait_for("the rows before", LIMIT, || server.len() as u64 == BEFORE);
    let rate = BEFORE as f64 / start.elapsed().as_secs_f64();

    server.away(true);
    write(&mut spool, BEFORE..BEFORE + 1000);
    wait_for("the outage to be noticed", LIMIT, || server.refused() > 0);
    let memory = resident(child.id());
    for first in (BEFORE + 1000..BEFORE + MEANWHILE).step_by(1000) {
        write(&mut spool, first..first + 1000);
    }
    let held = || list(&place.options.spool).unwrap().iter().map(|file| file.size).sum::<u64>();
    wait_for("the spool to shed", LIMIT, || {
        spool.flush().unwrap();
        held() <= SPOOL
    });
    // The shipper has looked at what is left, and tried again.
    let tries = server.refused();
    wait_for("two more tries", LIMIT, || server.refused() > tries + 2);
    let grown = resident(child.id()).saturating_sub(memory);
    assert!(grown < GROWTH, "{grown} bytes more");

    let lost = spool.stats().lost.get(&("exec".to_owned(), Lost::SpoolLimit)).copied().unwrap_or(0);
    let left = MEANWHILE - lost;
    assert!(lost > MEANWHILE / 2, "only {lost} rows were shed");
    server.away(false);
    let start = Instant::now();
    wait_for("the rest", LIMIT, || server.len() as u64 >= BEFORE + left);
    let caught_up = left as f64 / start.elapsed().as_secs_f64();
    println!(
        "{rate:.0} rows a second before, {caught_up:.0} after the outage; {lost} shed, {grown} bytes more"
    );
    // Were there a timer in it, one batch of 2 kB a scan or a try, it would be a hundredth.
    assert!(caught_up > rate / 5.0, "{caught_up} rows a second, {rate} before the outage");
    kills::stop(child);

    let mut arrived = server.numbers();
    arrived.sort_unstable();
    assert_eq!(arrived.len() as u64, BEFORE + left, "each row has arrived or is counted as shed");
    assert!(arrived.windows(2).all(|pair| pair[0] < pair[1]), "rows arrived twice");
    // The oldest are what is missing, but for the files of which rows were on their way.
    let newest = BEFORE + MEANWHILE - left / 2..BEFORE + MEANWHILE;
    assert!(newest.clone().all(|n| arrived.binary_search(&n).is_ok()), "rows of the newest half are missing");
}

fn write(spool: &mut Spool, pids: std::ops::Range<u64>) {
    pids.for_each(|pid| spool.append(&mut exec(pid, b"sh")));
    spool.flush().unwrap();
}

/// Resident memory of a process, in bytes (/proc/<pid>/statm counts pages).
fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
