//! Random interleavings of what writers, rotators, sinks and kills do. After each run every row must have arrived,
//! and none twice. What a rotator destroys before anybody could read it is left out: a file is truncated or deleted
//! only when its rows have arrived, as far as the sink says.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kumon_testing::Child;

use crate::bulk_server::BulkServer;
use crate::copies::gzip;
use crate::kills;
use crate::restart::{StandInKind, spawn};
use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, Ship, append, lines, open, rows};

/// SplitMix64: repeatable from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// What ships, and what it ships to.
enum Shipping {
    /// In this process, to a stand-in for the sink.
    Thread(StandIn, Option<Ship>),
    /// In a process that is killed at any moment, to a stand-in that speaks HTTP.
    Process(BulkServer, Option<Child>),
}

impl Shipping {
    fn stop_or_start(&mut self, place: &Place, random: &mut Random) -> String {
        match self {
            Shipping::Thread(_, ship @ Some(_)) => {
                let limit = Duration::from_millis(random.below(30));
                ship.take().unwrap().stop_within(limit);
                format!("stop within {limit:?}")
            }
            Shipping::Process(_, child @ Some(_)) if random.below(4) > 0 => {
                std::thread::sleep(Duration::from_millis(random.below(40)));
                child.take().unwrap().kill().unwrap();
                "kill".to_owned()
            }
            Shipping::Process(_, child @ Some(_)) => {
                kills::stop(child.take().unwrap());
                "stop".to_owned()
            }
            _ => {
                self.start(place);
                "start".to_owned()
            }
        }
    }

    fn start(&mut self, place: &Place) {
        match self {
            Shipping::Thread(sink, ship) => _ = ship.get_or_insert_with(|| place.ship(sink)),
            Shipping::Process(server, child) => {
                child.get_or_insert_with(|| kills::spawn(place.folder.path(), server));
            }
        }
    }

    fn fault(&mut self, random: &mut Random) -> String {
        match self {
            Shipping::Thread(sink, _) => {
                let faults = [
                    None,
                    Some(Fault::Away),
                    Some(Fault::Refuses),
                    Some(Fault::AnswersGetLost),
                    Some(Fault::LosesUncommitted),
                ];
                let fault = random.below(faults.len() as u64) as usize;
                sink.fail(faults[fault]);
                format!("fault {fault}")
            }
            Shipping::Process(server, _) => {
                let faulty = random.below(3) > 0;
                server.fail(faulty);
                format!("faults {faulty}")
            }
        }
    }

    /// Waits until all that stands in files, `rows` in all, has arrived.
    fn settle(&mut self, place: &Place, rows: u64) {
        self.start(place);
        match self {
            Shipping::Thread(sink, ship) => {
                sink.fail(None);
                let (ship, start) = (ship.as_ref().unwrap(), Instant::now());
                while !ship.handle.sync(Duration::from_secs(1)) {
                    assert!(start.elapsed() < LIMIT, "{:?}", ship.stats());
                }
            }
            Shipping::Process(server, _) => {
                server.fail(false);
                let start = Instant::now();
                while (server.len() as u64) < rows && start.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// A clean stop, and what has arrived then, in order.
    fn finish(&mut self) -> Vec<u64> {
        match self {
            Shipping::Thread(sink, ship) => {
                let _ = ship.take().map(Ship::stop);
                sink.in_order()
            }
            Shipping::Process(server, child) => {
                child.take().map(kills::stop).unwrap_or_default();
                server.numbers()
            }
        }
    }
}

/// One run: what was written, and where.
struct Run {
    random: Random,
    place: Place,
    shipping: Shipping,
    next: u64,
    rotations: u64,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64, mut shipping: Shipping) -> Run {
        let mut place = Place::new();
        place.options.batch_bytes = 1500;
        shipping.start(&place);
        Run { random: Random(seed), place, shipping, next: 0, rotations: 0, log: Vec::new() }
    }

    fn step(&mut self) {
        let file = self.random.below(4);
        let path = self.place.path(&format!("{file}.{}", if file < 2 { "ndjson" } else { "csv" }));
        match self.random.below(20) {
            0 | 1 => {
                let what = self.shipping.fault(&mut self.random);
                self.log.push(what);
            }
            2 | 3 => self.stop_or_start(),
            4 if path.exists() => self.rename(path),
            5 if path.exists() => self.copy_and_truncate(path),
            6 if path.exists() => self.replace(path),
            _ => self.write(path),
        }
    }

    fn write(&mut self, path: PathBuf) {
        let count = 1 + self.random.below(40);
        let is_csv = path.extension().is_some_and(|extension| extension == "csv");
        let header =
            if is_csv && fs::metadata(&path).map_or(0, |file| file.len()) == 0 { HEADER } else { "" };
        let numbers = self.next..self.next + count;
        self.next += count;
        let text = header.to_owned() + &if is_csv { rows(numbers.clone()) } else { lines(numbers.clone()) };
        // In two parts, of which the first may end within a line.
        let cut = self.random.below(text.len() as u64) as usize;
        append(&path, &text[..cut]);
        if self.random.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(self.random.below(5)));
        }
        append(&path, &text[cut..]);
        self.log.push(format!("write {numbers:?} to {}", path.display()));
    }

    fn stop_or_start(&mut self) {
        let what = self.shipping.stop_or_start(&self.place, &mut self.random);
        self.log.push(what);
    }

    /// What nobody ever saw of a file is nobody's loss but its own; what it held is known from then on, and what
    /// follows, whatever happens to shipper and sink, must not be lost.
    fn let_it_be_seen(&mut self, path: &Path) {
        self.write(path.to_owned());
        self.shipping.settle(&self.place, self.next);
        self.log.push("all arrived".into());
        for _ in 0..self.random.below(4) {
            match self.random.below(4) {
                0 => self.stop_or_start(),
                1 => {
                    let what = self.shipping.fault(&mut self.random);
                    self.log.push(what);
                }
                _ => self.write(path.to_owned()),
            }
        }
    }

    fn rename(&mut self, path: PathBuf) {
        self.let_it_be_seen(&path);
        self.rotations += 1;
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        let extension = if self.random.below(2) == 0 { "old".to_owned() } else { extension };
        let to = path.with_extension(format!("{}.{extension}", self.rotations));
        fs::rename(&path, &to).unwrap();
        self.log.push(format!("rename {} to {}", path.display(), to.display()));
        self.compress(&to);
    }

    fn copy_and_truncate(&mut self, path: PathBuf) {
        self.let_it_be_seen(&path);
        self.rotations += 1;
        // Sometimes over an older copy.
        let number = if self.random.below(3) == 0 { 0 } else { self.rotations };
        let to = PathBuf::from(format!("{}.{number}", path.display()));
        fs::copy(&path, &to).unwrap();
        open(&path).set_len(0).unwrap();
        self.log.push(format!("copy {} to {} and truncate it", path.display(), to.display()));
        self.compress(&to);
        self.settle_copy(number);
    }

    /// A copy that the next one may overwrite is given the time to be read.
    fn settle_copy(&mut self, number: u64) {
        if number == 0 {
            self.shipping.settle(&self.place, self.next);
        }
    }

    fn compress(&mut self, path: &Path) {
        if self.random.below(2) == 0 {
            std::thread::sleep(Duration::from_millis(self.random.below(20)));
            gzip(path);
            self.log.push(format!("compress {}", path.display()));
        }
    }

    /// Truncates the file, or deletes it and lets another one take its inode; what it held must have arrived.
    fn replace(&mut self, path: PathBuf) {
        self.shipping.settle(&self.place, self.next);
        if self.random.below(3) == 0 {
            self.stop_or_start();
        }
        if self.random.below(2) == 0 {
            open(&path).set_len(0).unwrap();
            self.log.push(format!("truncate {}", path.display()));
        } else {
            fs::remove_file(&path).unwrap();
            self.log.push(format!("delete {}", path.display()));
        }
        self.write(path);
    }

    fn finish(mut self, seed: u64) {
        self.shipping.settle(&self.place, self.next);
        let arrived = self.shipping.finish();
        let once: HashSet<u64> = arrived.iter().copied().collect();
        let lost: Vec<u64> = (0..self.next).filter(|n| !once.contains(n)).collect();
        let mut seen = HashSet::new();
        let doubled: Vec<u64> = arrived.into_iter().filter(|n| !seen.insert(*n)).collect();
        assert!(
            lost.is_empty() && doubled.is_empty(),
            "seed {seed}: lost {lost:?}, doubled {doubled:?}\n{}",
            self.log.join("\n")
        );
        assert!(self.place.dead_letters().is_empty(), "seed {seed}: {:?}", self.place.dead_letters());
    }
}

/// As many as fit in the time; `SEED` sees one run again, `RANDOM_SECONDS` makes more of them.
pub(crate) fn seeds(time: Duration) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = number("RANDOM_SECONDS").map_or(time, Duration::from_secs);
    let end = Instant::now() + if number("SEED").is_some() { Duration::ZERO } else { time };
    let first = number("SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("SEED={first}");
    let others = (1..).take_while(move |_| Instant::now() < end).map(move |turn| first.wrapping_add(turn));
    std::iter::once(first).chain(others)
}

fn any_interleaving(time: Duration, shipping: impl Fn(u64) -> Shipping) {
    for seed in seeds(time) {
        let mut run = Run::new(seed, shipping(seed));
        (0..60).for_each(|_| run.step());
        run.finish(seed);
    }
}

#[test]
fn nothing_is_lost_or_doubled_by_any_interleaving_into_a_sink_that_knows_ids() {
    any_interleaving(Duration::from_secs(6), |_| Shipping::Thread(StandIn::default(), None));
}

#[test]
fn nothing_is_lost_or_doubled_by_any_interleaving_into_a_sink_that_keeps_positions() {
    any_interleaving(Duration::from_secs(6), |_| Shipping::Thread(StandIn::store(), None));
}

#[test]
fn nothing_is_lost_or_doubled_by_any_interleaving_with_kills_and_a_sink_that_fails() {
    any_interleaving(Duration::from_secs(15), |seed| Shipping::Process(BulkServer::start(seed), None));
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_at_any_moment() {
    for seed in seeds(Duration::from_secs(4)) {
        let mut random = Random(seed);
        let kind = if random.below(2) == 0 { StandInKind::Ids } else { StandInKind::Store };
        let place = Place::new();
        let (file, mut next) = (place.folder.path().join("sink"), 0);
        for turn in 0..6 {
            let mut child = spawn(place.folder.path(), kind);
            let end = Instant::now() + Duration::from_millis(random.below(80));
            while Instant::now() < end {
                append(&place.path("a.ndjson"), &lines(next..next + 20));
                next += 20;
                std::thread::sleep(Duration::from_micros(random.below(3000)));
            }
            child.kill().unwrap();
            if random.below(3) == 0 {
                let _ = fs::rename(place.path("a.ndjson"), place.path(&format!("{turn}.ndjson")));
            }
        }
        let sink = kind.open(&file);
        let ship = place.ship(&sink);
        ship.sync();
        assert_eq!(sink.numbers(), (0..next).collect::<Vec<_>>(), "seed {seed}, {kind:?}");
    }
}
