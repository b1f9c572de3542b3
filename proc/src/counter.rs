//! What was added to the kernel's counters between two readings.

/// What was added to a counter of 64 bits. One that is lower than before began anew, as that of a device does which came
/// back: then all of it was added.
pub(crate) fn added(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// The same of a counter of 32 bits, which begins at 0 again when it is full.
pub(crate) fn added_32(before: u64, now: u64) -> u64 {
    match now.checked_sub(before) {
        Some(added) => added,
        None if before <= u32::MAX.into() => now + (1 << 32) - before,
        None => now,
    }
}

/// The same of two readings, of which either may be missing.
pub(crate) fn added_if_known(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    Some(added(before?, now?))
}

#[cfg(test)]
mod tests {
    use super::{added, added_32, added_if_known};

    #[test]
    fn what_is_lower_than_before_has_wrapped_or_begun_anew() {
        assert_eq!((added(5, 7), added(7, 7), added(700, 7)), (2, 0, 7));
        assert_eq!((added_32(5, 7), added_32((1 << 32) - 10, 5), added_32(u32::MAX.into(), 0)), (2, 15, 1));
        // No counter of 32 bits was that high.
        assert_eq!(added_32(1 << 40, 7), 7);
        assert_eq!((added_if_known(Some(1), Some(3)), added_if_known(None, Some(3))), (Some(2), None));
    }
}
