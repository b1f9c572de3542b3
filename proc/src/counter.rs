//! What was added to the kernel's counters between two readings.

/// What was added to a counter of 64 bits. One that is lower than before began anew, as that of a device does which came
/// back: then all of it was added.
pub(crate) fn added(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// The same of two readings, of which either may be missing.
pub(crate) fn added_if_known(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    Some(added(before?, now?))
}

#[cfg(test)]
mod tests {
    use super::{added, added_if_known};

    #[test]
    fn what_is_lower_than_before_began_anew() {
        assert_eq!((added(5, 7), added(7, 7), added(700, 7)), (2, 0, 7));
        assert_eq!((added_if_known(Some(1), Some(3)), added_if_known(None, Some(3))), (Some(2), None));
    }
}
