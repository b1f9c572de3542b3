//! Wall-clock times for the kernel's boot-time stamps.

use rustix::time::{ClockId, clock_gettime};

/// Turns `bpf_ktime_get_boot_ns()` stamps into wall-clock time by an offset that [`Clock::refresh`] takes anew, so
/// that steps of the wall clock are followed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Wall-clock time minus boot time, ns.
    offset: i64,
}

impl Clock {
    /// A clock with the offset of now.
    pub fn new() -> Clock {
        Clock { offset: offset() }
    }

    /// Takes the offset anew; called before each poll.
    pub fn refresh(&mut self) {
        self.offset = offset();
    }

    /// Nanoseconds since the Unix epoch of a CLOCK_BOOTTIME stamp in nanoseconds.
    pub fn wall(&self, boottime: u64) -> i64 {
        boottime as i64 + self.offset
    }

    /// Now, in nanoseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        nanoseconds(ClockId::Realtime)
    }
}

/// Nanoseconds of a clock tick, in which /proc counts times (USER_HZ).
pub fn tick() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second()
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// The wall clock is read between two readings of boot time, so that a preemption in between halves its error.
fn offset() -> i64 {
    let before = nanoseconds(ClockId::Boottime);
    let wall = nanoseconds(ClockId::Realtime);
    let after = nanoseconds(ClockId::Boottime);
    wall - (before + (after - before) / 2)
}

/// Now as the kernel's stamps have it: CLOCK_BOOTTIME, ns.
pub fn boottime() -> u64 {
    nanoseconds(ClockId::Boottime) as u64
}

fn nanoseconds(id: ClockId) -> i64 {
    let time = clock_gettime(id);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::{Clock, ClockId, nanoseconds};

    #[test]
    fn a_stamp_of_now_is_now_on_the_wall_clock() {
        let clock = Clock::new();
        let before = clock.now();
        let stamp = clock.wall(nanoseconds(ClockId::Boottime) as u64);
        let after = clock.now();
        // The offset's own error is half the time its three readings took.
        assert!((before - 1_000_000..=after + 1_000_000).contains(&stamp), "{before} {stamp} {after}");
    }
}
