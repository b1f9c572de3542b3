//! /proc/diskstats.

use super::{lines, number, words};

/// The numbers of a disk or partition, in the file's order: reads, merged ones, sectors, ms; the same of writes; requests
/// under way, ms busy, weighted ms; discards as reads; flushes, ms. Older kernels have only the first 11 or 15, then the rest
/// are 0.
pub(crate) type DiskNumbers = [u64; 17];

/// Calls `each` with the device number, the name and the numbers of each line that can be read.
pub(crate) fn diskstats<'a>(text: &'a [u8], mut each: impl FnMut((u64, u64), &'a [u8], &DiskNumbers)) {
    for line in lines(text) {
        let mut words = words(line);
        let (Some(major), Some(minor), Some(name)) =
            (words.next().and_then(number), words.next().and_then(number), words.next())
        else {
            continue;
        };
        let (mut numbers, mut found) = (DiskNumbers::default(), 0);
        for (place, value) in numbers.iter_mut().zip(words.map_while(number)) {
            *place = value;
            found += 1;
        }
        if found >= 11 {
            each((major, minor), name, &numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::diskstats;

    #[test]
    fn lines_of_old_and_new_kernels_are_read_and_others_are_passed_over() {
        let text = b" 254       0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n\
            7 1 loop1 1 2 3 4 5 6 7 8 9 10 11\n8 1 sda1 1 2 3 4\n8 2 sda2 1 2 3 4 5 6 7 8 9 10 x 12\n8\n\n\
            8 3 sdb 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\n";
        let mut found = Vec::new();
        diskstats(text, |device, name, numbers| {
            found.push((device, String::from_utf8_lossy(name).into_owned(), numbers[10], numbers[16]));
        });
        let expected = [((254, 0), "vda", 11, 17), ((7, 1), "loop1", 11, 0), ((8, 3), "sdb", 11, 17)];
        assert_eq!(found, expected.map(|(device, name, tenth, last)| (device, name.to_owned(), tenth, last)));
    }
}
