//! The keys of an interval that get a row of their own.

use std::cmp::Reverse;

/// Name of the row that sums the keys that get none of their own.
pub const OTHER: &[u8] = b"other";

/// Splits off the `limit` items of the largest weight; what is left over makes the row `other`.
pub fn top<T>(mut items: Vec<T>, limit: usize, weight: impl Fn(&T) -> u64) -> (Vec<T>, Vec<T>) {
    if items.len() <= limit {
        return (items, Vec::new());
    }
    items.select_nth_unstable_by_key(limit, |item| Reverse(weight(item)));
    let rest = items.split_off(limit);
    (items, rest)
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn the_largest_are_split_off_and_none_is_lost() {
        let (mut large, mut rest) = top(vec![5, 1, 9, 3, 7], 2, |&n| n);
        large.sort_unstable();
        rest.sort_unstable();
        assert_eq!((large, rest), (vec![7, 9], vec![1, 3, 5]));
        assert_eq!(top(vec![1, 2], 2, |&n| n), (vec![1, 2], vec![]));
        assert!(top(vec![1, 2], 0, |&n| n).0.is_empty());
    }
}
