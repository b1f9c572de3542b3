//! Holes: runs of NULs where no rows stand. A file that is truncated under a writer begins with one; space that is
//! taken in advance ends in one, which fills up; and a power cut leaves blocks that were never written.

use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::content::Content;

/// A shorter run may be a part of the record that it stands in. In bytes.
const SHORTEST: usize = 16;
/// A hole is passed over once something has stood behind it for so long: some writers, and network file systems, write
/// in another order.
const SETTLED: Duration = Duration::from_secs(1);
/// So much is read of one at once, so that other files have their turn. In bytes.
const AT_ONCE: usize = 16 << 20;
/// What was found empty is believed to be for so long, where what stands before it changes.
const BELIEVED: Duration = Duration::from_secs(10);

/// Less than that can be looked at each time. In bytes.
const WORTH: usize = 1 << 20;

/// A run of NULs in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) length: usize,
    /// Whether it ends with the buffer, and so may go on.
    pub(crate) is_last: bool,
}

impl Run {
    /// The first one from `from` on that can be a hole: long, or before a record, or at the buffer's end. It begins
    /// and ends between characters of `unit` bytes.
    pub(crate) fn first(buffer: &[u8], mut from: usize, unit: usize) -> Option<Run> {
        loop {
            let found = from + memchr::memchr(0, &buffer[from..])?;
            let start = found.next_multiple_of(unit);
            let length = buffer.get(start..)?.iter().take_while(|byte| **byte == 0).count();
            let run = Run { start, length, is_last: start + length == buffer.len() };
            // With two bytes a character, there is a NUL in each that is ASCII.
            let before_record = unit == 1 && (start == 0 || buffer[start - 1] == b'\n');
            if length >= SHORTEST || before_record || (run.is_last && length >= unit) {
                return Some(run);
            }
            from = (start + length).max(found + 1);
        }
    }

    /// For a run within a record: whether it belongs to it.
    pub(crate) fn is_of_record(&self) -> bool {
        self.length < SHORTEST && !self.is_last
    }
}

/// What is known of the holes of a file.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// Where one begins, where it ends, and when that was first seen.
    found: Option<(u64, u64, Instant)>,
    empty: Option<Empty>,
    /// When that is to be seen anew, where it was believed.
    again: Option<Instant>,
    passed: Passed,
}

/// What was passed over in a file's content so far.
#[derive(Debug, Default)]
struct Passed {
    holes: u64,
    bytes: u64,
    /// Where the last of them ends. Those before it are read again when rows have to be sent again.
    to: u64,
}

/// Where nothing was found.
#[derive(Debug, Clone, Copy)]
struct Empty {
    from: u64,
    to: u64,
    seen: Instant,
    /// Whether that was up to the file's end; else there is more to look at.
    whole: bool,
}

/// What follows a place where a NUL stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Something else, there: what is before it is a hole.
    Data(u64),
    /// Something else, but not for long.
    Unsettled,
    /// NULs up to the file's end, which may fill up.
    Nothing,
    /// That takes more reading.
    Unknown,
}

impl Holes {
    /// Forgets what was seen, as reading goes back, but not what was counted.
    pub(crate) fn forget(&mut self) {
        *self = Holes { passed: std::mem::take(&mut self.passed), ..Holes::default() };
    }

    /// Counts one that was passed over; answers whether it is the first time.
    pub(crate) fn count(&mut self, from: u64, to: u64) -> bool {
        let is_new = to > self.passed.to;
        if is_new {
            self.passed = Passed { holes: self.passed.holes + 1, bytes: self.passed.bytes + (to - from), to };
        }
        is_new
    }

    /// What was passed over so far, where anything was.
    pub(crate) fn note(&self) -> Option<String> {
        let Passed { holes, bytes, .. } = self.passed;
        let runs = if holes == 1 { "run" } else { "runs" };
        (holes > 0).then(|| format!("{holes} {runs} of NULs passed over, {bytes} bytes in all"))
    }

    /// When the hole that stops reading can be passed over.
    pub(crate) fn settles(&self) -> Option<Instant> {
        self.found.map(|(_, _, since)| since + SETTLED)
    }

    /// When it is to be looked again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.settles().or(self.again)
    }

    /// What follows `from` in a file of `size` bytes. With `over` nothing more is written to it.
    pub(crate) fn behind(
        &mut self,
        content: &mut Content,
        from: u64,
        size: u64,
        over: bool,
    ) -> io::Result<Behind> {
        let known = self.empty.filter(|empty| empty.from <= from && empty.seen.elapsed() < BELIEVED);
        let mut at = known.map_or(from, |empty| empty.to.clamp(from, size));
        let (behind, read) = search(content, &mut at, size)?;
        let now = Instant::now();
        self.again = None;
        let Behind::Data(end) = behind else {
            let whole = behind == Behind::Nothing;
            let believed = known.filter(|empty| empty.whole).map(|empty| empty.seen);
            // What takes no time needs no belief.
            let is_worth_it = known.is_some() || read >= WORTH;
            self.empty = is_worth_it.then_some(Empty { from, to: at, seen: believed.unwrap_or(now), whole });
            if whole {
                (self.found, self.again) = (None, believed.map(|seen| seen + BELIEVED));
            }
            return Ok(behind);
        };
        // Before it is passed over, all of it is looked at once more.
        self.empty = None;
        let found = self.found.filter(|found| (found.0, found.1) == (from, end));
        let since = found.map_or(now, |(.., since)| since);
        if end == from || over || since.elapsed() >= SETTLED {
            self.found = None;
            return Ok(Behind::Data(end));
        }
        self.found = Some((from, end, since));
        Ok(Behind::Unsettled)
    }
}

/// Where the first record of a file begins, behind the hole that may be there; at most `end`.
pub(crate) fn beginning(content: &mut Content, unit: usize, end: u64) -> io::Result<u64> {
    let mut at = 0;
    while search(content, &mut at, end)?.0 == Behind::Unknown {}
    // As above: with two bytes a character, a few NULs are none.
    let is_hole = unit == 1 || at >= SHORTEST as u64;
    Ok(if is_hole { at - at % unit as u64 } else { 0 })
}

/// Moves `at` on over NULs; answers how many of them had to be read as well. What was never written is not.
fn search(content: &mut Content, at: &mut u64, size: u64) -> io::Result<(Behind, usize)> {
    let (mut buffer, mut read) = (vec![0; 128 << 10], 0);
    while *at < size {
        *at = next_data(content, *at).map_or(size, |next| next.clamp(*at, size));
        let rest = buffer.len().min(usize::try_from(size - *at).unwrap_or(usize::MAX));
        let got = content.read_at(&mut buffer[..rest], *at)?;
        if let Some(data) = buffer[..got].iter().position(|byte| *byte != 0) {
            *at += data as u64;
            return Ok((Behind::Data(*at), read));
        }
        if got == 0 {
            break;
        }
        *at += got as u64;
        read += got;
        if read >= AT_ONCE {
            return Ok((Behind::Unknown, read));
        }
    }
    Ok((Behind::Nothing, read))
}

/// Where something is written next; `None` where nothing is. File systems that don't tell have it all written.
fn next_data(content: &Content, at: u64) -> Option<u64> {
    if !content.is_plain() {
        return Some(at);
    }
    // Reading says where it reads: nobody else uses the file's own position.
    match seek(content.file(), SeekFrom::Data(at)) {
        Err(Errno::NXIO) => None,
        found => Some(found.unwrap_or(at)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::time::{Duration, Instant};

    use super::{AT_ONCE, Behind, Holes, Run, SETTLED};
    use crate::content::Content;

    #[test]
    fn runs_that_can_be_holes_are_told_from_those_of_records() {
        let long = [b"a".as_slice(), &[0; 16], b"b"].concat();
        let wide = [b"\n\0\0".as_slice(), &[0; 15], b"a\0"].concat();
        for (buffer, unit, expected) in [
            (b"abc".as_slice(), 1, None),
            (b"", 1, None),
            (b"\0a", 1, Some((0, 1))),
            (b"a\n\0\0b", 1, Some((2, 2))),
            (b"a\0\0b\n", 1, None),
            (b"a\0b\n\0c", 1, Some((4, 1))),
            (b"a\0\0", 1, Some((1, 2))),
            (&long, 1, Some((1, 16))),
            (b"a\0\n\0b\0", 2, None),
            (b"\0a\0\n\0b", 2, None),
            (b"a\0\n\0\0\0", 2, Some((4, 2))),
            (&wide, 2, Some((2, 16))),
        ] {
            let run = Run::first(buffer, 0, unit).map(|run| (run.start, run.length));
            assert_eq!(run, expected, "{:?}", String::from_utf8_lossy(buffer));
        }
    }

    fn file(size: u64) -> (tempfile::TempDir, File, Content) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let write = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        write.set_len(size).unwrap();
        let content = Content::from(File::open(&path).unwrap());
        (folder, write, content)
    }

    #[test]
    fn a_sparse_hole_of_terabytes_takes_no_time() {
        let size = 4 << 40;
        let (_folder, file, mut content) = file(size);
        let (mut holes, start) = (Holes::default(), Instant::now());
        assert_eq!(holes.behind(&mut content, 0, size, false).unwrap(), Behind::Nothing);
        file.write_all_at(b"x", size - 1).unwrap();
        assert_eq!(holes.behind(&mut content, 0, size, true).unwrap(), Behind::Data(size - 1));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }

    #[test]
    fn a_hole_is_passed_over_once_it_has_stood_for_a_while() {
        let (_folder, file, mut content) = file(0);
        let mut holes = Holes::default();
        file.write_all_at(b"x", 10_000).unwrap();
        assert_eq!(holes.behind(&mut content, 5, 10_001, false).unwrap(), Behind::Unsettled);
        let due = holes.settles().unwrap();
        // What fills it meanwhile counts.
        file.write_all_at(b"y", 9_000).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        assert_eq!(holes.behind(&mut content, 5, 10_001, false).unwrap(), Behind::Unsettled);
        std::thread::sleep(SETTLED);
        assert_eq!(holes.behind(&mut content, 5, 10_001, false).unwrap(), Behind::Data(9_000));
        assert_eq!(holes.due(), None);
        file.write_all_at(b"z", 5).unwrap();
        assert_eq!(holes.behind(&mut content, 5, 10_001, false).unwrap(), Behind::Data(5));
    }

    #[test]
    fn written_nuls_are_read_a_part_at_a_time() {
        let size = 2 * AT_ONCE as u64 + 100;
        let (_folder, file, mut content) = file(0);
        for part in 0..5 {
            file.write_all_at(&vec![0; AT_ONCE / 2], part * AT_ONCE as u64 / 2).unwrap();
        }
        file.set_len(size).unwrap();
        file.write_all_at(b"x", size - 1).unwrap();
        let mut holes = Holes::default();
        let seen: Vec<_> = (0..3).map(|_| holes.behind(&mut content, 7, size, true).unwrap()).collect();
        assert_eq!(seen, [Behind::Unknown, Behind::Unknown, Behind::Data(size - 1)]);
        // What was read up to its end is believed to be empty, but not for ever.
        file.write_all_at(&[0], size - 1).unwrap();
        let mut look = |holes: &mut Holes| holes.behind(&mut content, 7, size, false).unwrap();
        (0..2).for_each(|_| assert_eq!(look(&mut holes), Behind::Unknown));
        assert_eq!((look(&mut holes), holes.due()), (Behind::Nothing, None));
        file.write_all_at(b"x", size - 1).unwrap();
        assert_eq!(look(&mut holes), Behind::Nothing);
        assert!(holes.due().is_some_and(|due| due > Instant::now()) && holes.settles().is_none());
    }
}
