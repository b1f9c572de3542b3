//! What has arrived.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// The counts since the last reset.
#[derive(Default)]
pub(crate) struct Ledger {
    /// How often each expected row was accepted, by its number.
    seen: Vec<u8>,
    /// Hashes of the ids accepted so far. 64 bits are enough: among a million ids, two meet once in 37 million runs.
    ids: HashSet<u64, BuildHasherDefault<AsItIs>>,
    /// Rows that were expected and arrived, each counted once.
    pub(crate) rows: u64,
    doubled: u64,
    /// Documents that are none of the expected rows: without a number, or with one out of range.
    others: u64,
    /// Documents whose id was known already; they were refused, as Elasticsearch does.
    resent: u64,
    requests: u64,
    gzipped: u64,
    wire_bytes: u64,
    body_bytes: u64,
    /// ns since 1970.
    last_arrival: u64,
    /// ns from when a row was written until it arrived, of rows that say so.
    latencies: Vec<u64>,
}

impl Ledger {
    /// One that expects the rows 0 to `rows` - 1.
    pub(crate) fn expecting(rows: usize) -> Ledger {
        Ledger { seen: vec![0; rows], ..Ledger::default() }
    }

    pub(crate) fn request(&mut self, wire_bytes: usize, body_bytes: usize, gzipped: bool) {
        self.requests += 1;
        self.gzipped += u64::from(gzipped);
        self.wire_bytes += wire_bytes as u64;
        self.body_bytes += body_bytes as u64;
    }

    /// Whether a document with this id is new; those without one always are.
    pub(crate) fn is_new(&mut self, id: Option<&[u8]>) -> bool {
        let Some(id) = id else { return true };
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let new = self.ids.insert(hasher.finish());
        self.resent += u64::from(!new);
        new
    }

    /// Takes note of an accepted document.
    pub(crate) fn accept(&mut self, number: Option<u64>, sent: Option<u64>, now: u64) {
        let number = number.and_then(|number| usize::try_from(number).ok());
        let Some(times) = number.and_then(|number| self.seen.get_mut(number)) else {
            self.others += 1;
            return;
        };
        *times = times.saturating_add(1);
        if *times > 1 {
            self.doubled += 1;
            return;
        }
        self.rows += 1;
        self.last_arrival = now;
        self.latencies.extend(sent.map(|sent| now.saturating_sub(sent)));
    }

    pub(crate) fn report(&self) -> Value {
        json!({
            "rows": self.rows,
            "missing": self.seen.iter().filter(|times| **times == 0).count(),
            "doubled": self.doubled,
            "others": self.others,
            "resent": self.resent,
            "requests": self.requests,
            "gzipped": self.gzipped,
            "wire_bytes": self.wire_bytes,
            "body_bytes": self.body_bytes,
            "last_arrival": self.last_arrival,
            "latencies": self.latencies,
        })
    }
}

/// ns since 1970.
pub(crate) fn now() -> u64 {
    // Before 1970 it never is; 64 bits last until 2554.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// The ids are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 is hashed")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
