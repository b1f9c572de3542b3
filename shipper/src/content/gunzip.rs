//! Reading what gzip compressed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

/// So much of the file is read at once, in bytes.
const INPUT: usize = 32 << 10;
/// A member's header is no longer, in bytes: the name in it, and 64 KiB of whatever else.
const MOST_HEADER: usize = 256 << 10;

/// A place in a gzip file (RFC 1952) of one or more members, from where it is read forwards. A clone goes on from the
/// same place.
#[derive(Clone)]
pub(crate) struct Gunzip {
    state: Box<InflateState>,
    phase: Phase,
    /// How much of the file was used, in bytes.
    used: u64,
    /// How much came out, in bytes.
    pub(crate) at: u64,
    /// Of the member that is being read: its checksum, and its length in bytes.
    member: (crc32fast::Hasher, u64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Header,
    Data,
    End,
}

impl std::fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gunzip").field("used", &self.used).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Gunzip {
    /// The beginning of a file.
    pub(crate) fn start() -> Gunzip {
        let state = InflateState::new_boxed(DataFormat::Raw);
        Gunzip { state, phase: Phase::Header, used: 0, at: 0, member: Default::default() }
    }

    /// How much of the file was used; all behind that at the end is no gzip data. In bytes.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Fills the buffer; less than that at the end.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends within a member, `InvalidData` where it is damaged.
    pub(crate) fn read(&mut self, file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.phase {
                Phase::Header => self.begin(file)?,
                Phase::Data => filled += self.inflate(file, &mut buffer[filled..])?,
                Phase::End => break,
            }
        }
        Ok(filled)
    }

    fn inflate(&mut self, file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let mut input = [0; INPUT];
        let read = file.read_at(&mut input, self.used)?;
        let result = inflate(&mut self.state, &input[..read], buffer, MZFlush::None);
        self.used += result.bytes_consumed as u64;
        let written = result.bytes_written;
        self.at += written as u64;
        self.member.0.update(&buffer[..written]);
        self.member.1 += written as u64;
        match result.status {
            Ok(MZStatus::StreamEnd) => self.end(file)?,
            _ if written > 0 || result.bytes_consumed > 0 => {}
            _ if read == 0 => return Err(cut()),
            _ => return Err(self.damaged("what stands there can't be decompressed")),
        }
        Ok(written)
    }

    /// Goes on behind a member's header, or ends where there is no further member.
    fn begin(&mut self, file: &File) -> io::Result<()> {
        let mut header = vec![0; 1 << 10];
        loop {
            let read = file.read_at(&mut header, self.used)?;
            let is_member = header[..read].starts_with(b"\x1f\x8b") || (read == 1 && header[0] == 0x1f);
            if !is_member && self.used > 0 {
                self.phase = Phase::End;
                return Ok(());
            }
            match header_length(&header[..read]) {
                Ok(Some(length)) => {
                    self.used += length as u64;
                    self.phase = Phase::Data;
                    return Ok(());
                }
                Ok(None) if read < header.len() => return Err(cut()),
                Ok(None) if read < MOST_HEADER => header.resize(MOST_HEADER, 0),
                Ok(None) => return Err(self.damaged("a header has no end")),
                Err(why) => return Err(self.damaged(why)),
            }
        }
    }

    /// Checks a member's checksum and length, which stand at its end.
    fn end(&mut self, file: &File) -> io::Result<()> {
        let mut trailer = [0; 8];
        file.read_exact_at(&mut trailer, self.used).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => cut(),
            _ => e,
        })?;
        let (checksum, length) = std::mem::take(&mut self.member);
        let expected = u64::from(checksum.finalize()) | (length & 0xffff_ffff) << 32;
        if u64::from_le_bytes(trailer) != expected {
            return Err(self.damaged("its checksum or length is wrong"));
        }
        self.used += trailer.len() as u64;
        self.state.reset(DataFormat::Raw);
        self.phase = Phase::Header;
        Ok(())
    }

    fn damaged(&self, why: &str) -> io::Error {
        let why = format!("its gzip data is damaged at byte {}: {why}", self.used);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

fn cut() -> io::Error {
    let why = "its gzip data ends in the middle: it is still being written, or was cut";
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// The length of a member's header in bytes; `None` where more of it is needed.
fn header_length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(&[_, _, method, flags]) = bytes.first_chunk() else { return Ok(None) };
    if method != 8 || flags & 0xe0 != 0 {
        return Err("its header is of no kind that is known");
    }
    let mut length = 10;
    if flags & 4 != 0 {
        let Some(extra) = bytes.get(length..length + 2) else { return Ok(None) };
        length += 2 + usize::from(u16::from_le_bytes([extra[0], extra[1]]));
    }
    // A name, and a comment.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let Some(end) = bytes.get(length..).and_then(|rest| memchr::memchr(0, rest)) else {
                return Ok(None);
            };
            length += end + 1;
        }
    }
    if flags & 2 != 0 {
        length += 2;
    }
    Ok((length <= bytes.len()).then_some(length))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write};

    use flate2::write::GzEncoder;
    use flate2::{Compression, GzBuilder};

    use super::Gunzip;

    fn gzip(text: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_of_every_kind_are_read_and_clones_go_on_from_where_they_were_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let mut named = GzBuilder::new()
            .filename("a")
            .comment("c")
            .extra(vec![7; 60_000])
            .write(Vec::new(), Compression::fast());
        named.write_all(&text[9000..40_000]).unwrap();
        let members = [
            gzip(&text[..5000], 0),
            gzip(b"", 6),
            gzip(&text[5000..9000], 9),
            named.finish().unwrap(),
            gzip(&text[40_000..], 6),
        ];
        let bytes = members.concat();
        for behind in [&b""[..], b"\0\0\0\0", b"plain text\n"] {
            fs::write(&path, [&bytes, behind].concat()).unwrap();
            let file = File::open(&path).unwrap();
            let (mut reader, mut out, mut clones) = (Gunzip::start(), Vec::new(), Vec::new());
            loop {
                clones.push(reader.clone());
                let mut buffer = vec![0; 70_001];
                let read = reader.read(&file, &mut buffer).unwrap();
                out.extend_from_slice(&buffer[..read]);
                if read < buffer.len() {
                    break;
                }
            }
            assert!(out == text && reader.at == text.len() as u64 && reader.used() == bytes.len() as u64);
            for mut clone in clones {
                let from = clone.at as usize;
                let mut rest = vec![0; text.len() - from];
                assert_eq!(clone.read(&file, &mut rest).unwrap(), rest.len());
                assert!(rest == text[from..]);
            }
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_told_from_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        let (first, second) = (gzip(b"some text, some text", 6), gzip(b"more", 6));
        let bytes = [&first[..], &second[..]].concat();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Gunzip::start().read(&File::open(&path).unwrap(), &mut [0; 100]).map_err(|e| e.kind())
        };
        for cut in 1..bytes.len() {
            let whole = cut == first.len();
            assert_eq!(
                read(&bytes[..cut]),
                if whole { Ok(20) } else { Err(ErrorKind::UnexpectedEof) },
                "{cut}"
            );
        }
        for at in [3, 12, first.len() - 1, first.len() - 5] {
            let mut damaged = first.clone();
            damaged[at] ^= 0xff;
            assert!(read(&damaged).is_err(), "{at}");
        }
    }
}
