//! Random interleavings of what writers, rotators, sinks and kills do. After each run every row must have arrived,
//! and none twice. What a rotator destroys before anybody could read it is left out: a file is truncated or deleted
//! only when its rows have arrived, as far as the sink says.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::restart::{StandInKind, spawn};
use crate::stand_in::{Fault, StandIn};
use crate::support::{HEADER, LIMIT, Place, Ship, append, lines, open, rows};

/// SplitMix64: repeatable from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// One run: what was written, and where.
struct Run {
    random: Random,
    place: Place,
    sink: StandIn,
    ship: Option<Ship>,
    next: u64,
    rotations: u64,
    log: Vec<String>,
}

impl Run {
    fn new(seed: u64, sink: StandIn) -> Run {
        let mut place = Place::new();
        place.options.batch_bytes = 1500;
        let ship = Some(place.ship(&sink));
        Run { random: Random(seed), place, sink, ship, next: 0, rotations: 0, log: Vec::new() }
    }

    fn step(&mut self) {
        let file = self.random.below(4);
        let path = self.place.path(&format!("{file}.{}", if file < 2 { "ndjson" } else { "csv" }));
        match self.random.below(16) {
            0 => self.fault(),
            1 => self.stop_or_start(),
            2 if path.exists() => self.rename(path),
            3 if path.exists() => self.replace(path),
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

    fn fault(&mut self) {
        let faults = [
            None,
            Some(Fault::Away),
            Some(Fault::Refuses),
            Some(Fault::AnswersGetLost),
            Some(Fault::LosesUncommitted),
        ];
        let fault = self.random.below(faults.len() as u64) as usize;
        self.sink.fail(faults[fault]);
        self.log.push(format!("fault {fault}"));
    }

    fn stop_or_start(&mut self) {
        match self.ship.take() {
            Some(ship) => {
                let limit = Duration::from_millis(self.random.below(30));
                ship.stop_within(limit);
                self.log.push(format!("stop within {limit:?}"));
            }
            None => {
                self.ship = Some(self.place.ship(&self.sink));
                self.log.push("start".into());
            }
        }
    }

    fn rename(&mut self, path: PathBuf) {
        self.let_it_be_seen();
        self.rotations += 1;
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        let extension = if self.random.below(2) == 0 { "old".to_owned() } else { extension };
        let to = path.with_extension(format!("{}.{extension}", self.rotations));
        fs::rename(&path, &to).unwrap();
        self.log.push(format!("rename {} to {}", path.display(), to.display()));
    }

    /// A file that lived only while nobody looked is nobody's loss but its own.
    fn let_it_be_seen(&mut self) {
        self.sink.fail(None);
        let ship = self.ship.get_or_insert_with(|| self.place.ship(&self.sink));
        let start = Instant::now();
        while !ship.handle.sync(Duration::from_secs(1)) {
            assert!(start.elapsed() < LIMIT, "{:?}", ship.stats());
        }
    }

    /// Truncates the file, or deletes it and lets another one take its inode.
    fn replace(&mut self, path: PathBuf) {
        self.let_it_be_seen();
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
        self.let_it_be_seen();
        let arrived = self.sink.in_order();
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

/// Set `SEED` to see a run again.
fn seeds() -> impl Iterator<Item = u64> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let end = Instant::now() + Duration::from_secs(if seed.is_some() { 0 } else { 4 });
    let first = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("SEED={first}");
    let others = (1..).take_while(move |_| Instant::now() < end).map(move |turn| first.wrapping_add(turn));
    std::iter::once(first).chain(others)
}

#[test]
fn nothing_is_lost_or_doubled_by_any_interleaving_into_a_sink_that_knows_ids() {
    for seed in seeds() {
        let mut run = Run::new(seed, StandIn::default());
        (0..60).for_each(|_| run.step());
        run.finish(seed);
    }
}

#[test]
fn nothing_is_lost_or_doubled_by_any_interleaving_into_a_sink_that_keeps_positions() {
    for seed in seeds() {
        let mut run = Run::new(seed, StandIn::store());
        (0..60).for_each(|_| run.step());
        run.finish(seed);
    }
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_at_any_moment() {
    for seed in seeds() {
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
