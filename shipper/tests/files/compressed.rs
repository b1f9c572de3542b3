//! Compressed files: what they are shows late, and what they hold may be much.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use kumon_testing::wait_for;

use crate::copies::gzip;
use crate::stand_in::StandIn;
use crate::support::{HEADER, LIMIT, Place, Ship, append, exactly, expect, lines, rows};

pub(crate) fn packed(text: &(impl AsRef<[u8]> + ?Sized)) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// In place, as `>` does it.
fn rewrite(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// What happens to a file; each time the shipper has seen all before. Behind the last step the rows 0 to 29 are to be
/// there.
type Steps = &'static [fn(&Path)];

const KINDS: [(&str, Steps); 15] = [
    ("empty, then compressed", &[|file| rewrite(file, b""), |file| rewrite(file, &packed(&lines(0..30)))]),
    ("empty, then plain", &[|file| rewrite(file, b""), |file| append(file, &lines(0..30))]),
    (
        "the first byte of gzip, then the rest in three parts",
        &[
            |file| rewrite(file, &packed(&lines(0..30))[..1]),
            |file| append_bytes(file, &packed(&lines(0..30))[1..5]),
            |file| append_bytes(file, &packed(&lines(0..30))[5..40]),
            |file| append_bytes(file, &packed(&lines(0..30))[40..]),
        ],
    ),
    (
        "the first byte of zstd, then a text that goes on otherwise",
        &[|file| rewrite(file, b"("), |file| append(file, "\n"), |file| append(file, &lines(0..30))],
    ),
    (
        "compressed in place",
        &[|file| append(file, &lines(0..20)), |file| rewrite(file, &packed(&lines(0..30)))],
    ),
    (
        "emptied, and compressed in place a while later",
        &[
            |file| append(file, &lines(0..20)),
            |file| {
                rewrite(file, b"");
                std::thread::sleep(Duration::from_millis(100));
                append_bytes(file, &packed(&lines(0..30)));
            },
        ],
    ),
    (
        "replaced by what it was compressed to",
        &[
            |file| append(file, &lines(0..20)),
            |file| {
                let new = file.with_extension("tmp");
                rewrite(&new, &packed(&lines(0..30)));
                fs::rename(new, file).unwrap();
            },
        ],
    ),
    (
        "plain, then other content that is compressed",
        &[|file| append(file, &lines(0..20)), |file| rewrite(file, &packed(&lines(20..30)))],
    ),
    (
        "compressed, then other content that is plain",
        &[|file| rewrite(file, &packed(&lines(0..20))), |file| rewrite(file, lines(20..30).as_bytes())],
    ),
    (
        "decompressed in place",
        &[|file| rewrite(file, &packed(&lines(0..20))), |file| rewrite(file, lines(0..30).as_bytes())],
    ),
    (
        "members that are appended, also in parts",
        &[
            |file| rewrite(file, &packed(&lines(0..10))),
            |file| append_bytes(file, &packed(&lines(10..20))),
            |file| append_bytes(file, &packed(&lines(20..30))[..12]),
            |file| append_bytes(file, &packed(&lines(20..30))[12..]),
        ],
    ),
    (
        "garbage behind it",
        &[|file| rewrite(file, &[&packed(&lines(0..30))[..], b"garbage\n{\"n\":99}\n"].concat())],
    ),
    ("zeros behind it", &[|file| rewrite(file, &[&packed(&lines(0..30))[..], &[0; 512]].concat())]),
    ("plain under such a name", &[|file| append(file, &lines(0..30))]),
    (
        "damaged, then whole",
        &[
            |file| {
                rewrite(file, &packed(&lines(0..30)));
                OpenOptions::new().write(true).open(file).unwrap().write_at(b"xyz", 30).unwrap();
            },
            |file| rewrite(file, &packed(&lines(0..30))),
        ],
    ),
];

/// Whatever was seen of it has been looked at.
fn let_see(ship: &Ship, place: &Place) {
    ship.sync();
    // Longer than one that is written to is waited for.
    std::thread::sleep(Duration::from_millis(300));
    ship.sync();
    assert!(place.dead_letters().len() <= 1);
}

#[test]
fn a_file_is_plain_or_compressed_whenever_that_shows() {
    std::thread::scope(|scope| {
        for (what, steps) in KINDS {
            // While it runs, and between two runs; with a sink that keeps the positions, too.
            for (restarts, keeps) in [(false, false), (true, false), (false, true), (true, true)] {
                scope.spawn(move || {
                    let sink = if keeps { StandIn::store() } else { StandIn::default() };
                    let mut place = Place::new();
                    place.options.inputs[0].paths[0].push_str(".gz");
                    let file = place.path("a.ndjson.gz");
                    let mut ship = place.ship(&sink);
                    ship.sync();
                    for step in steps {
                        if restarts {
                            ship.stop();
                            step(&file);
                            ship = place.ship(&sink);
                        } else {
                            step(&file);
                        }
                        let_see(&ship, &place);
                    }
                    wait_for(what, LIMIT * 4, || sink.len() >= 30);
                    ship.sync();
                    let mut numbers = sink.numbers();
                    numbers.sort_unstable();
                    assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "{what}, {restarts} {keeps}");
                    let bad = usize::from(what.contains("zstd"));
                    assert_eq!(place.dead_letters().len(), bad, "{what}: {:?}", place.dead_letters());
                });
            }
        }
    });
}

#[test]
fn a_huge_gzip_and_a_bomb_hold_up_nobody_else_while_they_are_measured_and_shipped() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.inputs[1].paths[0].push_str(".gz");
    // Empty lines, of which no row comes, and a line without end.
    let empty = packed(&"\n".repeat(16 << 20));
    let endless = packed(&"x".repeat(16 << 20));
    let bytes =
        [&packed(HEADER)[..], &empty.repeat(12), &packed(&rows(1000..1001)), &endless.repeat(4)].concat();
    fs::write(place.path("big.csv.gz"), bytes).unwrap();
    let ship = place.ship(&sink);
    let (start, mut next, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let is_there = || sink.numbers().contains(&1000);
    while !is_there() && start.elapsed() < Duration::from_secs(240) {
        let written = Instant::now();
        append(&place.path("small.ndjson"), &lines(next..next + 1));
        next += 1;
        wait_for("a row of another file", LIMIT, || sink.numbers().contains(&(next - 1)));
        slowest = slowest.max(written.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(is_there() && next > 5, "{next} rows in {:?}: {:?}", start.elapsed(), ship.stats());
    assert!(slowest < Duration::from_secs(2), "a row took {slowest:?}");
}

#[test]
fn a_kill_in_the_middle_of_a_large_gzip_loses_and_doubles_nothing() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.inputs[0].paths[0].push_str(".gz");
    place.options.batch_bytes = 100_000;
    let long = "x".repeat(400);
    let text: String = (0..16_000).map(|n| format!("{{\"n\":{n},\"text\":\"{long}\"}}\n")).collect();
    fs::write(place.path("a.ndjson.gz"), packed(&text)).unwrap();
    for part in [5000, 12_000] {
        let ship = place.ship(&sink);
        let start = Instant::now();
        while sink.len() <= part {
            std::thread::sleep(Duration::from_millis(20));
            assert!(start.elapsed() < LIMIT * 4, "{} rows of {part}: {:?}", sink.len(), ship.stats());
        }
        ship.stop_within(Duration::ZERO);
        assert!(sink.len() < 16_000);
    }
    let ship = place.ship(&sink);
    wait_for("the rows", LIMIT * 4, || sink.len() >= 16_000);
    ship.sync();
    exactly(&sink, 0..16_000);
}

#[test]
fn compressed_files_that_a_pattern_matches_are_shipped_once_they_are_whole() {
    let (mut place, sink) = (Place::new(), StandIn::default());
    place.options.inputs[1].paths[0].push('*');
    place.options.batch_bytes = 5000;
    fs::write(place.path("old.csv"), HEADER.to_owned() + &rows(0..5000)).unwrap();
    gzip(&place.path("old.csv"));
    let bytes = fs::read(place.path("old.csv.gz")).unwrap();
    fs::write(place.path("old.csv.gz"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(place.path("other.csv.zst"), b"\x28\xb5\x2f\xfd rest").unwrap();
    let ship = place.ship(&sink);
    let stuck = |name: &str, why: &str| {
        let path = place.path(name).display().to_string();
        ship.wait_until("it to be named", |stats| stats.stuck.get(&path).is_some_and(|it| it.contains(why)));
    };
    stuck("old.csv.gz", "its gzip data ends in the middle");
    stuck("other.csv.zst", "compressed with zstd; only gzip is read");
    assert_eq!(sink.len(), 0);
    fs::write(place.path("old.csv.gz"), &bytes).unwrap();
    expect(&sink, 0..5000);
    ship.stop();
    place.ship(&sink).sync();
    assert_eq!((sink.len(), place.dead_letters().len()), (5000, 0));
}
