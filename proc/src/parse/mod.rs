//! What the kernel's files say. Whatever stands in one, nothing here panics (fuzz/fuzz_targets/proc.rs).
//!
//! The crate `procfs` reads most of these files too. It isn't used: for each reading it makes a map of texts of many files,
//! and it refuses a file for one word that it doesn't know. Of processes it takes as long (46 ms for the stat of 5,000).

mod cgroup;
mod diskstats;
mod mounts;
mod net;
mod pairs;
mod process;
mod socket;
mod stat;
mod totals;

pub(crate) use cgroup::{
    Device, DiskUse, blkio, cgroup_mounts, cpu_max, cpus, first_process, io_stat, value,
};
pub(crate) use diskstats::{DiskNumbers, diskstats};
pub(crate) use mounts::{Mount, mounts};
pub(crate) use net::{InterfaceNumbers, interfaces, protocols, sockets};
pub(crate) use pairs::pairs;
pub(crate) use process::{cgroup_of, owner, process_stat, statm};
pub(crate) use socket::{SocketLine, socket_lines};
pub(crate) use stat::{Stat, Times, stat};
pub(crate) use totals::{Pressure, load, pressure};

/// The lines, without those that are empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// What white space parts.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A number of digits only that 64 bits hold.
fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn only_digits_that_fit_are_numbers() {
        assert_eq!([number(b"0"), number(b"18446744073709551615")], [Some(0), Some(u64::MAX)]);
        for text in ["", "-1", "+1", "1.0", "18446744073709551616", "0x1", " 1"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
