//! Small files of few numbers.

use super::{lines, number, words};

/// What a file of /proc/pressure says: how long tasks waited since the boot, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// At least one task.
    pub(crate) some: Option<u64>,
    /// All that had something to do.
    pub(crate) full: Option<u64>,
}

pub(crate) fn pressure(text: &[u8]) -> Pressure {
    let mut pressure = Pressure::default();
    for line in lines(text) {
        let mut words = words(line);
        let place = match words.next() {
            Some(b"some") => &mut pressure.some,
            Some(b"full") => &mut pressure.full,
            _ => continue,
        };
        *place = words.find_map(|word| number(word.strip_prefix(b"total=")?));
    }
    pressure
}

/// The load averages over 1, 5 and 15 minutes of /proc/loadavg.
pub(crate) fn load(text: &[u8]) -> Option<[f64; 3]> {
    let mut words = words(text).map(|word| {
        let load: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
        (load.is_finite() && load >= 0.0).then_some(load)
    });
    Some([words.next()??, words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::{Pressure, load, pressure};

    #[test]
    fn totals_of_pressure_are_read_and_a_missing_line_is_missing() {
        let text = b"some avg10=5.02 avg60=9.15 avg300=11.18 total=24559114436\nfull avg10=0.00 total=7\n";
        assert_eq!(pressure(text), Pressure { some: Some(24_559_114_436), full: Some(7) });
        assert_eq!(pressure(b"some total=x\nall total=5"), Pressure::default());
        assert_eq!(pressure(b""), Pressure::default());
    }

    #[test]
    fn only_three_loads_are_loads() {
        assert_eq!(load(b"0.69 1.20 1.72 3/137 4711\n"), Some([0.69, 1.2, 1.72]));
        for text in ["", "1 2", "1 2 x", "1 inf 3", "1 -2 3", "NaN 1 2"] {
            assert_eq!(load(text.as_bytes()), None, "{text}");
        }
    }
}
