//! The log-linear histograms of include/histogram.h.

use std::collections::BTreeMap;

use crate::events;
use crate::types;

/// ns of one unit of a histogram of latencies, `LATENCY_UNIT` there.
const LATENCY_UNIT: u64 = 125;
/// Bytes of one unit of a histogram of sizes, `SIZE_UNIT` there.
const SIZE_UNIT: u64 = 512;

/// Up to here every unit has its own bucket, `HISTOGRAM_LINEAR` there; from here on each power of two has eight.
const LINEAR: u64 = 16;

/// A histogram of one key and interval.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    min: Option<u64>,
    max: u64,
    /// Count and sum of the values, by the bucket's index; non-empty ones only.
    buckets: BTreeMap<usize, (u64, u64)>,
}

/// What a row tells of a histogram, in the unit of its values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
}

/// The buckets of one power of two: values from `low` to below `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Octave {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) count: u64,
}

impl Octave {
    /// Names a bucket of latencies (ns): `04: from 1 µs`. The number is for those that can only sort texts, as a
    /// heat map in Kibana does.
    fn latency_label(&self) -> String {
        let low = self.low as f64;
        let start = match [("s", 1e9), ("ms", 1e6), ("µs", 1e3)].into_iter().find(|(_, size)| low >= *size) {
            Some((unit, size)) => format!("{} {unit}", three_digits(low / size)),
            None => format!("{low} ns"),
        };
        self.label(LATENCY_UNIT, &start)
    }

    /// Names a bucket of sizes (bytes): `04: from 4 KiB`, see [`Octave::latency_label`].
    fn size_label(&self) -> String {
        let start = match self.low.checked_ilog2().unwrap_or(0) {
            10..20 => format!("{} KiB", self.low >> 10),
            20..30 => format!("{} MiB", self.low >> 20),
            30.. => format!("{} GiB", self.low >> 30),
            _ => format!("{} B", self.low),
        };
        self.label(SIZE_UNIT, &start)
    }

    fn label(&self, unit: u64, start: &str) -> String {
        let number = (self.low / unit).checked_ilog2().map_or(0, |log2| log2 + 1);
        format!("{number:02}: from {start}")
    }
}

/// As many decimals as make three digits: 1.02, 16.4, 512; none where they would be zeros.
fn three_digits(number: f64) -> String {
    let decimals = if number < 10.0 {
        100.0
    } else if number < 100.0 {
        10.0
    } else {
        1.0
    };
    ((number * decimals).round() / decimals).to_string()
}

impl Histogram {
    /// Reads a `struct histogram`, which is the last member of a map's value.
    pub(crate) fn at_end_of(value: &[u8]) -> Histogram {
        let mut histogram = Histogram::default();
        let start = value.len().saturating_sub(size_of::<types::histogram>());
        // SAFETY: struct histogram holds integers only.
        if let Some(kernel) = unsafe { events::read::<types::histogram>(&value[start..]) } {
            let buckets = kernel.buckets.iter().map(|bucket| (bucket.count, bucket.sum));
            histogram.add(kernel.max, kernel.inverse_min, buckets);
        }
        histogram
    }

    /// Adds what the kernel counted: `struct histogram` by its fields, each bucket as count and sum. A program that
    /// finds an extreme locked all the time leaves it as it is (`raise_to` there): then the mean of the outermost bucket
    /// is nearer.
    fn add(&mut self, max: u64, inverse_min: u64, buckets: impl Iterator<Item = (u64, u64)>) {
        let mut other = Histogram::default();
        other.buckets.extend(buckets.enumerate().filter(|(_, (count, _))| *count > 0));
        if let (Some(first), Some(last)) = (other.buckets.values().next(), other.buckets.values().last()) {
            other.min = Some((!inverse_min).min(first.1 / first.0));
            other.max = max.max(last.1.div_ceil(last.0));
        }
        self.merge(&other);
    }

    /// Adds another histogram of the same unit.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.min = [self.min, other.min].into_iter().flatten().min();
        self.max = self.max.max(other.max);
        for (&index, (count, sum)) in &other.buckets {
            let bucket = self.buckets.entry(index).or_default();
            bucket.0 += count;
            bucket.1 += sum;
        }
    }

    /// Sum of the values.
    pub(crate) fn sum(&self) -> u64 {
        self.buckets.values().map(|(_, sum)| sum).sum()
    }

    /// The histogram in numbers; none where it is empty.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let (min, max) = (self.min?, self.max);
        let count = self.buckets.values().map(|(count, _)| count).sum();
        let percentile = |percent| self.percentile(count, percent).clamp(min, max);
        let (p50, p90, p99) = (percentile(50), percentile(90), percentile(99));
        Some(Summary { count, sum: self.sum(), min, max, p50, p90, p99 })
    }

    /// By nearest rank, the mean of its bucket standing for the value.
    fn percentile(&self, count: u64, percent: u64) -> u64 {
        let rank = (count * percent).div_ceil(100);
        let mut below = 0;
        for (in_bucket, sum) in self.buckets.values() {
            below += in_bucket;
            if below >= rank {
                return (sum + in_bucket / 2) / in_bucket;
            }
        }
        self.max
    }

    /// Counts by powers of two of `unit`, the first for values below one unit; non-empty ones only.
    pub(crate) fn octaves(&self, unit: u64) -> Vec<Octave> {
        let mut octaves: Vec<Octave> = Vec::new();
        for (&index, &(count, _)) in &self.buckets {
            let (low, high) = match lowest(index).checked_ilog2() {
                None => (0, unit),
                Some(log2) => (unit << log2, unit << (log2 + 1)),
            };
            match octaves.last_mut() {
                Some(octave) if octave.low == low => octave.count += count,
                _ => octaves.push(Octave { low, high, count }),
            }
        }
        octaves
    }
}

/// Emits the row of a histogram's summary and one for each of its octaves; none where it is empty. The former may have
/// fields of its own: `Runqlat { throttled_count: 1 }`.
///
/// ```ignore
/// emit_histogram!(emitter, subject, histogram, LATENCY, Biolatency, BiolatencyHist, { timestamp, interval, disk });
/// ```
macro_rules! emit_histogram {
    ($emitter:expr, $subject:expr, $histogram:expr, $scale:expr, $Row:ident $({ $($own:ident: $own_value:expr),* })?, $Hist:ident, { $($field:ident),* }) => {
        if let Some($crate::histogram::Summary { count, sum, min, max, p50, p90, p99 }) = $histogram.summary() {
            let row = ::kumon_schema::rows::$Row {
                $($field,)* $($($own: $own_value,)*)? count, sum, min, max, p50, p90, p99,
            };
            $emitter.emit(&row, $subject);
            for octave in $histogram.octaves($scale.unit) {
                let $crate::histogram::Octave { low, high, count } = octave;
                let label = ($scale.label)(&octave);
                let row = ::kumon_schema::rows::$Hist { $($field,)* low, high, label: label.as_bytes(), count };
                $emitter.emit(&row, $subject);
            }
        }
    };
}
pub(crate) use emit_histogram;

/// What a histogram's values are.
pub(crate) struct Scale {
    /// The histogram's unit, in the unit of the values.
    pub(crate) unit: u64,
    /// Names an octave.
    pub(crate) label: fn(&Octave) -> String,
}

/// Latencies in ns.
pub(crate) const LATENCY: Scale = Scale { unit: LATENCY_UNIT, label: Octave::latency_label };
/// Sizes in bytes.
pub(crate) const SIZE: Scale = Scale { unit: SIZE_UNIT, label: Octave::size_label };

/// The smallest value of a bucket, in units.
fn lowest(index: usize) -> u64 {
    let index = index as u64;
    if index < LINEAR {
        return index;
    }
    let (octave, eighth) = ((index - LINEAR) / 8, (index - LINEAR) % 8);
    (8 + eighth) << (octave + 1)
}

#[cfg(test)]
mod tests {
    use super::{Histogram, LINEAR, Octave, lowest};

    /// What bucket_of of include/histogram.h says.
    fn bucket_of(units: u64) -> usize {
        (0..).take_while(|&index| lowest(index) <= units).count() - 1
    }

    fn of(values: &[u64], unit: u64) -> Histogram {
        let mut histogram = Histogram::default();
        for &value in values {
            let mut buckets = [(0, 0); 216];
            buckets[bucket_of(value / unit)] = (1, value);
            histogram.add(value, !value, buckets.into_iter());
        }
        histogram
    }

    #[test]
    fn buckets_follow_each_other_and_powers_of_two_begin_one() {
        let bounds: Vec<u64> = (0..216).map(lowest).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        assert!((0..29).all(|log2| bounds.contains(&(1 << log2))));
        let widest = bounds.windows(2).skip(LINEAR as usize).map(|pair| (pair[1] - pair[0]) * 8 / pair[0]);
        assert_eq!(widest.max(), Some(1));
    }

    #[test]
    fn equal_values_have_exact_percentiles_and_others_stay_within_a_bucket() {
        let equal = of(&[65_536; 3], 512).summary().unwrap();
        assert_eq!((equal.count, equal.sum, equal.min, equal.max), (3, 196_608, 65_536, 65_536));
        assert_eq!((equal.p50, equal.p90, equal.p99), (65_536, 65_536, 65_536));

        let values: Vec<u64> = (1..=1000).map(|n| n * 1_000).collect();
        let spread = of(&values, 125).summary().unwrap();
        assert_eq!((spread.min, spread.max), (1_000, 1_000_000));
        for (found, exact) in [(spread.p50, 500_000), (spread.p90, 900_000), (spread.p99, 990_000)] {
            assert!(found.abs_diff(exact) * 16 <= exact, "{found} for {exact}");
        }
        assert_eq!(of(&[], 125).summary(), None);
    }

    #[test]
    fn extremes_that_could_not_be_raised_are_near_the_values() {
        let mut histogram = Histogram::default();
        let buckets = [(0, 0), (2, 300), (0, 0), (3, 1_301)];
        histogram.add(0, 0, buckets.into_iter());
        let summary = histogram.summary().unwrap();
        assert_eq!((summary.min, summary.max), (150, 434));
        assert_eq!((summary.count, summary.p50, summary.p99), (5, 434, 434));
    }

    #[test]
    fn octaves_are_powers_of_two_of_microseconds_from_one_on() {
        let octaves = of(&[0, 100, 900, 999, 1_000, 1_999, 2_000, 3_999, 4_000], 125).octaves(125);
        let octave = |low, high, count| Octave { low, high, count };
        let expected = [
            octave(0, 125, 2),
            octave(500, 1_000, 2),
            octave(1_000, 2_000, 2),
            octave(2_000, 4_000, 2),
            octave(4_000, 8_000, 1),
        ];
        assert_eq!(octaves, expected);
    }

    #[test]
    fn labels_sort_as_their_buckets_do() {
        let labels = |unit: u64, label: fn(&Octave) -> String| -> Vec<String> {
            let lows = std::iter::once(0).chain((0..28).map(|log2| unit << log2));
            lows.map(|low| label(&Octave { low, high: 0, count: 0 })).collect()
        };
        let (latencies, sizes) = (labels(125, Octave::latency_label), labels(512, Octave::size_label));
        assert!(latencies.is_sorted() && sizes.is_sorted(), "{latencies:?} {sizes:?}");
        let some = |labels: &[String], numbers: &[usize]| -> Vec<String> {
            numbers.iter().map(|&number| labels[number].clone()).collect()
        };
        assert_eq!(
            some(&latencies, &[0, 1, 4, 13, 14, 18, 24]),
            [
                "00: from 0 ns",
                "01: from 125 ns",
                "04: from 1 µs",
                "13: from 512 µs",
                "14: from 1.02 ms",
                "18: from 16.4 ms",
                "24: from 1.05 s"
            ]
        );
        assert_eq!(
            some(&sizes, &[0, 1, 4, 12, 22]),
            ["00: from 0 B", "01: from 512 B", "04: from 4 KiB", "12: from 1 MiB", "22: from 1 GiB"]
        );
    }
}
