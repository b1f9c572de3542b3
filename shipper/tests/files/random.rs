//! Random interleavings of what writers, rotators, administrators, sinks and kills do. After each run every row must
//! have arrived, and none twice. What is destroyed before anybody could read it is left out: a file is truncated or
//! deleted only when its rows have arrived, as far as the sink says.

mod events;
mod shipping;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::shipping::Shipping;
use crate::bulk_server::BulkServer;
use crate::restart::{StandInKind, spawn};
use crate::stand_in::StandIn;
use crate::support::{HEADER, Place, append, lines, rows};

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

/// One run: what was written, and where.
struct Run {
    seed: u64,
    random: Random,
    place: Place,
    shipping: Shipping,
    next: u64,
    rotations: u64,
    /// Files that were renamed over since all had arrived.
    renamed_over: HashSet<PathBuf>,
    log: Vec<String>,
}

/// The folder that comes and goes; a wildcard stands for it.
const FOLDER: &str = "d";

impl Run {
    fn new(seed: u64, mut shipping: Shipping) -> Run {
        let mut place = Place::new();
        place.options.batch_bytes = 1500;
        for (input, pattern) in [(0, "*/*.ndjson"), (0, "p*.gz"), (1, "*/*.csv")] {
            let path = place.path(pattern).to_str().unwrap().to_owned();
            place.options.inputs[input].paths.push(path);
        }
        shipping.start(&place);
        Run {
            seed,
            random: Random(seed),
            place,
            shipping,
            next: 0,
            rotations: 0,
            renamed_over: HashSet::new(),
            log: Vec::new(),
        }
    }

    fn any_file(&mut self) -> PathBuf {
        let file = self.random.below(6);
        let folder = if file < 4 { String::new() } else { format!("{FOLDER}/") };
        self.place.path(&format!("{folder}{file}.{}", if file.is_multiple_of(2) { "ndjson" } else { "csv" }))
    }

    fn step(&mut self) {
        let path = self.any_file();
        match self.random.below(40) {
            0..4 => self.fault(),
            4..8 => self.stop_or_start(),
            8 | 9 if path.exists() => self.rename(path),
            10 | 11 if path.exists() => self.copy_and_truncate(path),
            12 if path.exists() => self.replace(path),
            13 if path.exists() => self.leave_a_hole(path),
            14 => self.take_space(path),
            15 | 16 if path.exists() => self.rename_over(path),
            17 if self.place.path(FOLDER).exists() => self.move_folder(),
            18 => self.change_inputs(),
            19 | 20 => self.pack(),
            _ => self.write(path),
        }
    }

    /// What else happens while something takes its time.
    fn meanwhile(&mut self, path: &Path) {
        match self.random.below(5) {
            0 => self.stop_or_start(),
            1 => self.fault(),
            2 => std::thread::sleep(Duration::from_millis(self.random.below(300))),
            _ => self.write(path.to_owned()),
        }
    }

    /// New rows for this file, as a writer of it would write them.
    fn text(&mut self, path: &Path) -> String {
        let numbers = self.next..self.next + 1 + self.random.below(40);
        self.next = numbers.end;
        self.log.push(format!("rows {numbers:?} for {}", path.display()));
        let is_empty = fs::metadata(path).map_or(0, |file| file.len()) == 0;
        match path.extension().is_some_and(|extension| extension == "csv") {
            true => (if is_empty { HEADER } else { "" }).to_owned() + &rows(numbers),
            false => lines(numbers),
        }
    }

    fn write(&mut self, path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = self.text(&path);
        // In two parts, of which the first may end within a line.
        let cut = self.random.below(text.len() as u64) as usize;
        append(&path, &text[..cut]);
        if self.random.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(self.random.below(5)));
        }
        append(&path, &text[cut..]);
    }

    fn fault(&mut self) {
        let what = self.shipping.fault(&mut self.random);
        self.log.push(what);
    }

    fn stop_or_start(&mut self) {
        let what = self.shipping.stop_or_start(&self.place, &mut self.random);
        self.log.push(what);
    }

    /// Waits until all that stands in files has arrived.
    fn settle(&mut self) {
        let arrived = self.shipping.settle(&self.place, self.next);
        self.renamed_over.clear();
        self.log.push(format!("{arrived} of {} rows arrived", self.next));
    }

    fn finish(mut self) {
        self.settle();
        let arrived = self.shipping.finish();
        let once: HashSet<u64> = arrived.iter().copied().collect();
        let lost: Vec<u64> = (0..self.next).filter(|n| !once.contains(n)).collect();
        let mut seen = HashSet::new();
        let doubled: Vec<u64> = arrived.into_iter().filter(|n| !seen.insert(*n)).collect();
        assert!(lost.is_empty() && doubled.is_empty(), "lost {lost:?}, doubled {doubled:?}");
        assert!(self.place.dead_letters().is_empty(), "{:?}", self.place.dead_letters());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}:\n{}", self.seed, self.log.join("\n"));
        }
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
    let (mut runs, mut rows) = (0, 0);
    for seed in seeds(time) {
        let mut run = Run::new(seed, shipping(seed));
        (0..60).for_each(|_| run.step());
        (runs, rows) = (runs + 1, rows + run.next);
        run.finish();
    }
    println!("{runs} runs, {rows} rows: 0 lost, 0 doubled");
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
