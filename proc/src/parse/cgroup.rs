//! Files of cgroups, of v1 and v2.

use super::{lines, number, words};

/// What a cgroup did with a disk, in bytes or requests: reads, writes, synchronous ones, asynchronous ones, discards, all.
/// cgroup v2 doesn't tell which were synchronous.
pub(crate) type DiskUse = [Option<u64>; 6];

/// A disk by its device number.
pub(crate) type Device = (u64, u64);

/// Calls `each` with the mount point and the controllers of each cgroup hierarchy in /proc/<pid>/mountinfo (man 5 proc): none
/// of cgroup v2. Mounts of a part of one are passed over.
pub(crate) fn cgroup_mounts<'a>(text: &'a [u8], mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
    for line in lines(text) {
        let mut words = words(line);
        let (root, mount) = (words.nth(3), words.next());
        // Optional words, and then a dash.
        let kind = words.find(|word| *word == b"-").and_then(|_| words.next());
        let options = words.nth(1);
        let (Some(b"/"), Some(mount), Some(options)) = (root, mount, options) else { continue };
        match kind {
            Some(b"cgroup2") => each(mount, None),
            Some(b"cgroup") => each(mount, Some(options)),
            _ => {}
        }
    }
}

/// A file of one number; none where it says `max` or, as those of v1 do, -1.
pub(crate) fn value(text: &[u8]) -> Option<u64> {
    number(text.trim_ascii())
}

/// The CPUs that cpu.max allows: a quota, or `max`, and its period.
pub(crate) fn cpu_max(text: &[u8]) -> Option<f64> {
    let mut words = words(text).map(number);
    cpus(words.next()??, words.next()??)
}

/// How many CPUs may be used all of the time where `quota` microseconds may be in each `period`.
pub(crate) fn cpus(quota: u64, period: u64) -> Option<f64> {
    (period > 0).then(|| quota as f64 / period as f64)
}

/// Calls `each` with the disks in a file such as blkio.throttle.io_serviced.
pub(crate) fn blkio(text: &[u8], mut each: impl FnMut(Device, &DiskUse)) {
    let mut current: Option<(Device, DiskUse)> = None;
    for line in lines(text) {
        let mut words = words(line);
        let (Some(device), Some(kind), Some(number)) =
            (words.next().and_then(device), words.next(), words.next().and_then(number))
        else {
            continue;
        };
        let kinds: [&[u8]; 6] = [b"Read", b"Write", b"Sync", b"Async", b"Discard", b"Total"];
        let Some(at) = kinds.iter().position(|of| *of == kind) else { continue };
        if current.is_some_and(|(of, _)| of != device) {
            current.take().iter().for_each(|(device, disk)| each(*device, disk));
        }
        current.get_or_insert((device, DiskUse::default())).1[at] = Some(number);
    }
    current.iter().for_each(|(device, disk)| each(*device, disk));
}

/// Calls `each` with the disks in io.stat, their bytes and their requests.
pub(crate) fn io_stat(text: &[u8], mut each: impl FnMut(Device, &DiskUse, &DiskUse)) {
    for line in lines(text) {
        // Some kernels write a disk without numbers, and no line end behind it.
        let (mut disk, mut found) = (None, [None; 6]);
        for word in words(line) {
            let Some(equals) = word.iter().position(|byte| *byte == b'=') else {
                disk = device(word);
                continue;
            };
            let keys: [&[u8]; 6] = [b"rbytes", b"wbytes", b"dbytes", b"rios", b"wios", b"dios"];
            if let Some(at) = keys.iter().position(|key| *key == &word[..equals]) {
                found[at] = number(&word[equals + 1..]);
            }
        }
        let [read, written, discarded, reads, writes, discards] = found;
        if let (Some(disk), Some(_)) = (disk, read) {
            each(disk, &disk_use(read, written, discarded), &disk_use(reads, writes, discards));
        }
    }
}

fn disk_use(read: Option<u64>, written: Option<u64>, discarded: Option<u64>) -> DiskUse {
    let all = [read, written, discarded].iter().flatten().fold(0u64, |sum, of| sum.saturating_add(*of));
    [read, written, None, None, discarded, Some(all)]
}

/// `254:0`
fn device(word: &[u8]) -> Option<Device> {
    let colon = word.iter().position(|byte| *byte == b':')?;
    Some((number(&word[..colon])?, number(&word[colon + 1..])?))
}

/// The first process in a cgroup.procs. A 0 is one that can't be seen from here.
pub(crate) fn first_process(text: &[u8]) -> Option<u32> {
    lines(text).filter_map(number).find(|pid| *pid > 0)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{blkio, cgroup_mounts, cpu_max, first_process, io_stat, value};

    #[test]
    fn hierarchies_are_told_by_their_mounts() {
        let text =
            b"35 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:1 master:2 - cgroup2 cgroup2 rw,nsdelegate\n\
            42 31 0:38 /docker/abc /rootfs/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
            22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n43 31 0:39 / /cut rw - cgroup\n- cgroup\n\n";
        let mut found = Vec::new();
        cgroup_mounts(text, |mount, controllers| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(mount), controllers.map(text)));
        });
        let expected =
            [("/sys/fs/cgroup/cpu,cpuacct", Some("rw,cpu,cpuacct")), ("/sys/fs/cgroup/unified", None)];
        assert_eq!(found, expected.map(|(mount, of)| (mount.into(), of.map(Into::into))));
    }

    #[test]
    fn what_is_no_limit_is_no_number() {
        assert_eq!(
            [b"5\n".as_slice(), b"max\n", b"-1\n", b"", b"5 6"].map(value),
            [Some(5), None, None, None, None]
        );
        let limits = ["50000 100000\n", "max 100000\n", "5 0", "5", ""].map(|text| cpu_max(text.as_bytes()));
        assert_eq!(limits, [Some(0.5), None, None, None, None]);
        assert_eq!(
            [b"0\n12\n13\n".as_slice(), b"", b"x\n99999999999\n"].map(first_process),
            [Some(12), None, None]
        );
    }

    #[test]
    fn disks_of_v1_have_a_line_for_each_kind() {
        let text =
            b"254:0 Read 1\n254:0 Write 2\n254:0 Sync 3\n254:0 Async 0\n254:0 Discard 4\n254:0 Total 7\n\
            7:1 Read 5\n7:1 New 6\n7:1 Total x\nTotal 12\n";
        let mut found = Vec::new();
        blkio(text, |device, disk| found.push((device, *disk)));
        let expected = [
            ((254, 0), [Some(1), Some(2), Some(3), Some(0), Some(4), Some(7)]),
            ((7, 1), [Some(5), None, None, None, None, None]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn disks_of_v2_have_a_line_each() {
        let text = b"8:0 254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\n7:0 \n8:16 rbytes=x\nrbytes=1\n";
        let mut found = Vec::new();
        io_stat(text, |device, bytes, requests| found.push((device, *bytes, *requests)));
        let bytes = [Some(1), Some(2), None, None, Some(5), Some(8)];
        let requests = [Some(3), Some(4), None, None, Some(6), Some(13)];
        assert_eq!(found, [((254, 0), bytes, requests)]);
    }
}
