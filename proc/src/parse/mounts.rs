//! /proc/PID/mountinfo.

use super::{lines, number};

/// A mount that a process sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// The id of the mount that it lies on.
    pub(crate) parent: u64,
    /// Major and minor number, by which the mounts of one file system are known.
    pub(crate) device: (u64, u64),
    /// Whether it shows the whole file system, not only a folder of it, as a bind mount may.
    pub(crate) whole: bool,
    pub(crate) point: Vec<u8>,
    /// Whether nothing can be written through this mount.
    pub(crate) mounted_read_only: bool,
    pub(crate) kind: Vec<u8>,
    /// What is mounted: a device file, `server:/export`, or whatever was given.
    pub(crate) source: Vec<u8>,
    /// Whether nothing can be written to the file system, through whichever mount.
    pub(crate) read_only: bool,
}

/// The mounts; none where it is no such file.
pub(crate) fn mounts(text: &[u8]) -> Option<Vec<Mount>> {
    let mounts: Vec<Mount> = lines(text).filter_map(mount).collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// `36 35 98:0 /of/it /mnt/point rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro`, with any number of words before
/// the dash. A word may be empty, so each blank parts two of them.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let device = words.next()?;
    let colon = device.iter().position(|byte| *byte == b':')?;
    let device = (number(&device[..colon])?, number(&device[colon + 1..])?);
    let whole = words.next()? == b"/";
    let point = unescaped(words.next()?);
    let mounted_read_only = has_option(words.next()?, b"ro");
    words.find(|word| *word == b"-")?;
    let (kind, source, options) = (unescaped(words.next()?), unescaped(words.next()?), words.next()?);
    // The last two are ext4's, which leaves the file system's own flag alone since Linux 6.15.
    let read_only =
        [&b"ro"[..], b"emergency_ro", b"shutdown"].into_iter().any(|option| has_option(options, option));
    Some(Mount { id, parent, device, whole, point, mounted_read_only, kind, source, read_only })
}

fn has_option(options: &[u8], option: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|of| of == option)
}

/// Blanks, tabs, line feeds, backslashes and hashes stand there as `\` and three octal digits.
fn unescaped(mut word: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(word.len());
    while let Some((first, rest)) = word.split_first() {
        let escaped = (*first == b'\\').then(|| rest.split_at_checked(3).and_then(octal)).flatten();
        let (byte, rest) = escaped.unwrap_or((*first, rest));
        text.push(byte);
        word = rest;
    }
    text
}

fn octal<'a>((digits, rest): (&[u8], &'a [u8])) -> Option<(u8, &'a [u8])> {
    let value = digits
        .iter()
        .try_fold(0u16, |sum, byte| (b'0'..=b'7').contains(byte).then(|| sum * 8 + u16::from(byte - b'0')));
    Some((u8::try_from(value?).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::{Mount, mounts, unescaped};

    #[test]
    fn mounts_have_names_of_any_kind() {
        let text = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
            31 27 0:41 /sub /mnt/a\\040b\\012c\\134 ro,nosuid shared:3 master:1 - fuse.sshfs user@host:/x\\040y rw,user_id=0\n\
            32 27 0:42 / /empty rw -  rw\n33 27 0:43 / /nameless rw - tmpfs  rw\n\
            34 27 8:1 /gone//deleted /data rw,relatime - ext4 /dev/sda1 ro\n\
            35 27 8:2 / /bad rw - ext4 /dev/sda2 rw,errors=remount-ro,emergency_ro\n\
            36 27 8:3 / /no-dash rw ext4 /dev/sda3 rw\nx 27 8:4 / / rw - ext4 /dev/sda4 rw\n37 27 8 / / rw - a b c\n";
        let found = mounts(text).unwrap();
        let ids: Vec<_> = found.iter().map(|mount| mount.id).collect();
        assert_eq!(ids, [27, 31, 33, 34, 35]);
        let expected = Mount {
            id: 31,
            parent: 27,
            device: (0, 41),
            whole: false,
            point: b"/mnt/a b\nc\\".to_vec(),
            mounted_read_only: true,
            kind: b"fuse.sshfs".to_vec(),
            source: b"user@host:/x y".to_vec(),
            read_only: false,
        };
        assert_eq!(found[1], expected);
        assert!(found[0].whole && found[2].source.is_empty() && !found[3].whole);
        let read_only: Vec<_> =
            found.iter().map(|mount| (mount.mounted_read_only, mount.read_only)).collect();
        assert_eq!(read_only, [(false, false), (true, false), (false, false), (false, true), (false, true)]);
        assert_eq!((mounts(b""), mounts(b"what is this\n")), (None, None));
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (word, text) in [
            ("\\040", " "),
            ("a\\0", "a\\0"),
            ("\\999\\", "\\999\\"),
            ("\\777", "\\777"),
            ("\\043\\134", "#\\"),
        ] {
            assert_eq!(unescaped(word.as_bytes()), text.as_bytes(), "{word}");
        }
    }
}
