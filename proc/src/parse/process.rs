//! Files of a process.

use super::{lines, number, pairs, words};

/// What /proc/<pid>/stat says. Times are in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessStat<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) state: u8,
    /// The parent's process id.
    pub(crate) parent: u64,
    pub(crate) user: u64,
    pub(crate) system: u64,
    /// Of children that were waited for.
    pub(crate) children_user: u64,
    pub(crate) children_system: u64,
    pub(crate) threads: u64,
    /// Since the boot.
    pub(crate) start: u64,
    /// In bytes.
    pub(crate) size: u64,
    /// In pages.
    pub(crate) resident: u64,
    /// The first thread's wait for block I/O.
    pub(crate) io_wait: u64,
}

/// Reads it; none where a number is missing. A name may be anything, also brackets, spaces and line ends: it reaches from the
/// first bracket to the last.
pub(crate) fn process_stat(text: &[u8]) -> Option<ProcessStat<'_>> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
    let mut stat = ProcessStat { name: &text[open + 1..close], ..ProcessStat::default() };
    let mut left = 10;
    // The fields by their numbers in man 5 proc.
    for (field, word) in (3..).zip(words(&text[close + 1..])) {
        let place = match field {
            3 => {
                stat.state = *word.first()?;
                continue;
            }
            4 => &mut stat.parent,
            14 => &mut stat.user,
            15 => &mut stat.system,
            16 => &mut stat.children_user,
            17 => &mut stat.children_system,
            20 => &mut stat.threads,
            22 => &mut stat.start,
            23 => &mut stat.size,
            24 => &mut stat.resident,
            42 => &mut stat.io_wait,
            _ => continue,
        };
        // The numbers of children and pages are signed ones, and never below 0.
        *place = number(word)?;
        left -= 1;
    }
    (left == 0).then_some(stat)
}

/// The numbers of /proc/<pid>/statm, in pages: all of the address space, what of it is in memory, what of that is shared,
/// code, nothing (0), data and stack, nothing (0).
pub(crate) fn statm(text: &[u8]) -> Option<[u64; 7]> {
    let mut numbers = words(text).map(number);
    let mut read = [0; 7];
    for place in &mut read {
        *place = numbers.next()??;
    }
    Some(read)
}

/// The real user and group in /proc/<pid>/status.
pub(crate) fn owner(text: &[u8]) -> Option<[u32; 2]> {
    let [user, group] = pairs(text, &["Uid", "Gid"]);
    Some([user?.try_into().ok()?, group?.try_into().ok()?])
}

/// The path of the cgroup v2 in /proc/<pid>/cgroup.
pub(crate) fn cgroup_of(text: &[u8]) -> Option<&[u8]> {
    lines(text).find_map(|line| line.strip_prefix(b"0::")).filter(|path| path.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::{ProcessStat, cgroup_of, owner, process_stat, statm};

    const NUMBERS: &str = " S 1 2 3 0 -1 4194560 8 9 10 11 12 13 14 15 20 0 16 0 17 18 19 18446744073709551615 1 1 0 0 0 0 \
        0 4096 0 0 0 0 17 1 0 0 21 0 0\n";

    #[test]
    fn a_name_may_be_anything() {
        for name in ["sh", "", ") R 1 (", "a\nb c)", "(sd-pam)", "\u{1f600}"] {
            let text = format!("4711 ({name}){NUMBERS}");
            let expected = ProcessStat {
                name: name.as_bytes(),
                state: b'S',
                parent: 1,
                user: 12,
                system: 13,
                children_user: 14,
                children_system: 15,
                threads: 16,
                start: 17,
                size: 18,
                resident: 19,
                io_wait: 21,
            };
            assert_eq!(process_stat(text.as_bytes()), Some(expected), "{name}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_no_process() {
        let whole = format!("1 (a){NUMBERS}");
        for text in [
            "",
            "1 (a",
            "1 a) S",
            ")(",
            "1 (a) S 1 2",
            &whole[..whole.len() - 12],
            &whole.replace(" 17 18 ", " x 18 "),
        ] {
            assert_eq!(process_stat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_other_files_of_a_process_are_read_or_refused() {
        assert_eq!(statm(b"1 2 3 4 0 6 0\n"), Some([1, 2, 3, 4, 0, 6, 0]));
        assert_eq!([b"1 2 3".as_slice(), b"", b"1 2 3 4 5 x 7"].map(statm), [None, None, None]);
        assert_eq!(owner(b"Name:\tUid:\nUid:\t33\t0\t0\t0\nGid:\t34\t0\t0\t0\n"), Some([33, 34]));
        assert_eq!([b"Uid: 1\n".as_slice(), b"Uid: 4294967296\nGid: 1\n"].map(owner), [None, None]);
        let cgroups = b"9:name=systemd:/\n4:memory:/a\n0::/system.slice/b c.service\n";
        assert_eq!(cgroup_of(cgroups), Some(b"/system.slice/b c.service".as_slice()));
        assert_eq!(cgroup_of(b"9:name=systemd:/\n0::\n"), None);
    }
}
