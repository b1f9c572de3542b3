//! Files of names and numbers, a pair a line.

use super::{lines, number, words};

/// The numbers of these names, in their order, in a file like /proc/meminfo or /proc/vmstat. A name's colon, and the unit
/// behind a number, are passed over.
pub(crate) fn pairs<const N: usize>(text: &[u8], names: &[&str; N]) -> [Option<u64>; N] {
    let mut found = [None; N];
    // The kernel writes them in an order that changes little, and so are the names given: mostly the next is the next.
    let mut next = 0;
    for line in lines(text) {
        let mut words = words(line);
        let Some(key) = words.next().map(|key| key.strip_suffix(b":").unwrap_or(key)) else { continue };
        let Some(at) = (next..N).chain(0..next).find(|at| names[*at].as_bytes() == key) else { continue };
        next = at + 1;
        found[at] = words.next().and_then(number);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn numbers_are_found_by_their_names_in_any_order() {
        let text = b"MemFree:  10 kB\nActive(anon):  7 kB\nnr_mapped 5\nother 9\nMemTotal: 20 kB\n";
        let found = pairs(text, &["MemTotal", "MemFree", "Active(anon)", "nr_mapped", "SwapFree"]);
        assert_eq!(found, [Some(20), Some(10), Some(7), Some(5), None]);
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_missing() {
        let names = ["a", "b", "c", "d"];
        assert_eq!(pairs(b"a\nb -1\nc 18446744073709551616\nd: 5x", &names), [None; 4]);
        assert_eq!(pairs(b"a: 1\na: 2\n:\n \n", &names), [Some(2), None, None, None]);
        assert_eq!(pairs(b"", &names), [None; 4]);
    }
}
