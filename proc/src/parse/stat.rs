//! /proc/stat.

use super::{lines, number, words};

/// Ticks by kind, in the file's order: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
pub(crate) type Times = [u64; 10];

/// What /proc/stat says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Of all CPUs together.
    pub(crate) all: Times,
    /// Of each CPU that is online, by its number.
    pub(crate) cpus: Vec<(u32, Times)>,
    pub(crate) interrupts: Option<u64>,
    pub(crate) context_switches: Option<u64>,
    pub(crate) forks: Option<u64>,
    pub(crate) running: Option<u64>,
    pub(crate) blocked: Option<u64>,
    pub(crate) soft_interrupts: Option<u64>,
}

/// Reads it; none without the line of all CPUs.
pub(crate) fn stat(text: &[u8]) -> Option<Stat> {
    let (mut stat, mut has_all) = (Stat::default(), false);
    for line in lines(text) {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        if let Some(cpu) = key.strip_prefix(b"cpu") {
            if cpu.is_empty() {
                (stat.all, has_all) = (times(words)?, true);
            } else if let (Some(cpu), Some(times)) = (number(cpu), times(words)) {
                stat.cpus.push((u32::try_from(cpu).ok()?, times));
            }
            continue;
        }
        let place = match key {
            b"intr" => &mut stat.interrupts,
            b"ctxt" => &mut stat.context_switches,
            b"processes" => &mut stat.forks,
            b"procs_running" => &mut stat.running,
            b"procs_blocked" => &mut stat.blocked,
            b"softirq" => &mut stat.soft_interrupts,
            _ => continue,
        };
        // The sum, of interrupts; those of each kind follow.
        *place = words.next().and_then(number);
    }
    has_all.then_some(stat)
}

/// Older kernels have fewer of them, newer ones may have more.
fn times<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Times> {
    let (mut times, mut found) = (Times::default(), 0);
    for (time, word) in times.iter_mut().zip(words) {
        *time = number(word)?;
        found += 1;
    }
    (found >= 4).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::{Stat, stat};

    #[test]
    fn every_line_is_read_and_unknown_ones_are_passed_over() {
        let text = b"cpu  431 205 137 336 40 0 18 59 7 8\ncpu0 210 102 65 178 12 0 2 30 3 4\n\
            cpu3 221 103 72 158 28 0 16 29 4 4 99\nintr 739 0 1\nctxt 274\nbtime 1795981573\nprocesses 27\n\
            procs_running 4\nprocs_blocked 1\nsoftirq 510 0 482\nnew_one x\n";
        let expected = Stat {
            all: [431, 205, 137, 336, 40, 0, 18, 59, 7, 8],
            cpus: vec![
                (0, [210, 102, 65, 178, 12, 0, 2, 30, 3, 4]),
                (3, [221, 103, 72, 158, 28, 0, 16, 29, 4, 4]),
            ],
            interrupts: Some(739),
            context_switches: Some(274),
            forks: Some(27),
            running: Some(4),
            blocked: Some(1),
            soft_interrupts: Some(510),
        };
        assert_eq!(stat(text), Some(expected));
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_missing_and_nothing_else() {
        let read = stat(b"cpu 1 2 3 4\ncpu0 1 2 x 4\ncpu99999999 1 2\nctxt\nprocesses -5").unwrap();
        assert_eq!(read, Stat { all: [1, 2, 3, 4, 0, 0, 0, 0, 0, 0], ..Stat::default() });
        for text in ["", "cpu", "cpu 1 2 3", "cpu a b c d", "cpu0 1 2 3 4", "\0\0\0"] {
            assert_eq!(stat(text.as_bytes()), None, "{text}");
        }
    }
}
