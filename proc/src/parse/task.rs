//! Files of /proc/PID.

use super::{lines, number, words};

/// What /proc/PID/stat says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskStat<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) threads: u64,
    /// Clock ticks since the boot.
    pub(crate) start: u64,
}

/// `7 (a name) S 1 …`: a name may have blanks, parentheses and line feeds in it, so it ends at the last parenthesis.
pub(crate) fn task_stat(text: &[u8]) -> Option<TaskStat<'_>> {
    let begin = text.iter().position(|byte| *byte == b'(')?;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(begin + 1..end)?;
    let mut words = words(&text[end + 1..]);
    let state = *words.next()?.first()?;
    let parent = number(words.next()?)?.try_into().ok()?;
    // Of the fields as proc(5) counts them: 20 and 22, behind the 4th.
    let threads = words.nth(15).and_then(number)?;
    let start = words.nth(1).and_then(number)?;
    Some(TaskStat { name, state, parent, threads, start })
}

/// The real user's and group's ids of /proc/PID/status.
pub(crate) fn task_ids(text: &[u8]) -> Option<(u32, u32)> {
    let id = |name: &[u8]| {
        let line = lines(text).find_map(|line| line.strip_prefix(name))?;
        number(words(line).next()?)?.try_into().ok()
    };
    Some((id(b"Uid:")?, id(b"Gid:")?))
}

/// The path of the cgroup v2 of /proc/PID/cgroup; none where there is cgroup v1 only.
pub(crate) fn task_cgroup(text: &[u8]) -> Option<&[u8]> {
    lines(text).find_map(|line| line.strip_prefix(b"0::"))
}

#[cfg(test)]
mod tests {
    use super::{TaskStat, task_cgroup, task_ids, task_stat};

    #[test]
    fn a_process_may_have_any_name() {
        let rest = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1000 200 18446744073709551615 1 1";
        let names: [&[u8]; 4] = [b"bash", b"a) R 9 (b", b") (\n\xff", b""];
        for name in names {
            let text = [b"7 (", name, b") ", rest.as_bytes(), b"\n"].concat();
            let expected = TaskStat { name, state: b'S', parent: 1, threads: 3, start: 12345 };
            assert_eq!(task_stat(&text), Some(expected));
        }
        for text in ["", "7 (a", "7 )a(", "7 (a) S", "7 (a) S x", "7 (a) S 1 2 3"] {
            assert_eq!(task_stat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_and_cgroups_stand_behind_their_names() {
        let text = b"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t100\t1\t1\t1\n";
        assert_eq!((task_ids(text), task_ids(b"Uid:\t1\n"), task_ids(b"")), (Some((1000, 100)), None, None));
        assert_eq!(task_cgroup(b"12:pids:/a\n0::/system.slice/x:y\n"), Some(&b"/system.slice/x:y"[..]));
        assert_eq!(task_cgroup(b"12:pids:/a\n"), None);
    }
}
