//! How large the next batch is to be.

use std::time::Duration;

/// The first batches, in bytes: a sink in trouble, or a slow line, is not met with the largest ones.
const FIRST: usize = 512 << 10;
/// Smaller ones are nearly all overhead.
const LEAST: usize = 64 << 10;
/// So many full batches tell how fast a size goes.
const SAMPLES: u32 = 4;
/// A larger size must go faster by this factor to be kept: it costs memory, and single rows wait longer for their turn.
const GAIN: f64 = 1.1;
/// So many full batches later a larger size is tried again: what limits the sink may have changed.
const TRY_AGAIN: u32 = 100;
/// No batch should take longer: the rows of all other files wait meanwhile.
const LONGEST: Duration = Duration::from_secs(2);

/// Grows batches while that makes them go faster; shrinks them when the sink pushes back or takes long.
#[derive(Debug)]
pub(crate) struct BatchSizer {
    bytes: usize,
    most: usize,
    sample: Sample,
    /// Bytes a second of the size before the one that is being tried.
    before: Option<f64>,
    /// Full batches until a larger size is tried.
    rest: u32,
}

#[derive(Debug, Default)]
struct Sample {
    batches: u32,
    bytes: usize,
    time: Duration,
}

impl BatchSizer {
    /// Never more than `most` bytes.
    pub(crate) fn new(most: usize) -> BatchSizer {
        BatchSizer { bytes: FIRST.min(most), most, sample: Sample::default(), before: None, rest: 0 }
    }

    /// What a batch is to hold, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A batch of so many bytes was delivered in this time.
    pub(crate) fn delivered(&mut self, bytes: usize, time: Duration) {
        if time > LONGEST {
            self.pushed_back();
        }
        if bytes < self.bytes {
            // All that there was: it says nothing of full ones.
            return;
        }
        self.rest = self.rest.saturating_sub(1);
        self.sample.batches += 1;
        self.sample.bytes += bytes;
        self.sample.time += time;
        if self.sample.batches >= SAMPLES {
            self.judge();
        }
    }

    /// The sink has more to do than it can take.
    pub(crate) fn pushed_back(&mut self) {
        self.change(self.bytes / 2);
        (self.before, self.rest) = (None, TRY_AGAIN);
    }

    fn judge(&mut self) {
        let rate = self.sample.bytes as f64 / self.sample.time.as_secs_f64().max(1e-6);
        self.sample = Sample::default();
        match self.before.take() {
            Some(before) if rate < before * GAIN => {
                self.change(self.bytes / 2);
                self.rest = TRY_AGAIN;
            }
            _ if self.rest == 0 && self.bytes < self.most => {
                self.before = Some(rate);
                self.change(self.bytes * 2);
            }
            _ => {}
        }
    }

    fn change(&mut self, bytes: usize) {
        self.bytes = bytes.clamp(LEAST.min(self.most), self.most);
        self.sample = Sample::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BatchSizer, FIRST, LEAST};

    /// The size after so many full batches, each of which takes this time.
    fn after(pace: &mut BatchSizer, batches: u32, time: impl Fn(usize) -> Duration) -> usize {
        for _ in 0..batches {
            pace.delivered(pace.bytes(), time(pace.bytes()));
        }
        pace.bytes()
    }

    #[test]
    fn batches_grow_as_long_as_that_makes_them_faster() {
        // So long a request, whatever is in it: larger ones are better up to the limit.
        let mut pace = BatchSizer::new(5_000_000);
        assert_eq!(pace.bytes(), FIRST);
        assert_eq!(after(&mut pace, 40, |_| Duration::from_millis(50)), 5_000_000);
        // So long a byte: size makes no difference, so that small ones will do.
        let mut pace = BatchSizer::new(5_000_000);
        assert_eq!(after(&mut pace, 90, |bytes| Duration::from_nanos(bytes as u64)), FIRST);
    }

    #[test]
    fn batches_shrink_when_the_sink_pushes_back_and_grow_again_later() {
        let mut pace = BatchSizer::new(5_000_000);
        after(&mut pace, 40, |_| Duration::from_millis(50));
        (0..3).for_each(|_| pace.pushed_back());
        assert_eq!(pace.bytes(), 625_000);
        assert_eq!(after(&mut pace, 20, |_| Duration::from_secs(5)), LEAST);
        assert_eq!(after(&mut pace, 300, |_| Duration::from_millis(50)), 5_000_000);
        assert_eq!(BatchSizer::new(500).bytes(), 500);
    }
}
