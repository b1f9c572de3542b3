//! Waiting between tries.

use std::time::Duration;

/// Doubling waits with jitter, so that many shippers don't come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    initial: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Backoff {
        Backoff { next: initial, initial, max }
    }

    /// The time to wait now: half to all of the current step.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        // Without random bytes there is no jitter, which costs nothing but politeness.
        let random = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        step.mul_f64(0.5 + random / 2.0)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.initial;
    }

    /// After a failure that takes a person: no quick tries.
    pub(crate) fn slow_down(&mut self) {
        self.next = self.max;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn waits_grow_to_the_limit_and_start_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.wait().as_millis()).collect();
        for (wait, step) in waits.iter().zip([100, 200, 400, 800, 1000, 1000]) {
            assert!((step / 2..=step).contains(wait), "{waits:?}");
        }
        backoff.reset();
        assert!(backoff.wait().as_millis() <= 100);
    }
}
