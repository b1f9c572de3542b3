//! What a file holds: its bytes, or what they decompress to.

mod gunzip;
pub(crate) mod unpack;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use self::gunzip::Gunzip;
use self::unpack::{NEAR, Unpacked, Unpacker};

/// How compressed files begin. Only the first kind is read: the others are not to end as garbage in the dead letters.
const MAGICS: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
    (b"PK\x03\x04", "zip"),
];
/// bzip2's has the block size in it, and what makes it none that a text begins with.
const BZIP2: (&[u8], &[u8]) = (b"BZh", b"1AY&SY");

/// So many places behind which reading may have to go back are kept, each further than [`NEAR`] from the next.
const MOST_BEHIND: usize = 8;
/// Reading so little answers a question, and moves no reader. In bytes.
const QUESTION: usize = 1 << 10;

/// A file's size in bytes, and when it was last modified.
pub(crate) type FileState = (u64, SystemTime);

/// An open file, read as if it were never compressed.
#[derive(Debug)]
pub(crate) struct Content {
    file: Arc<File>,
    /// Who decompresses it; `None` for KuMon's own files, which never are compressed.
    unpacker: Option<Arc<Unpacker>>,
    packed: Option<Box<Packed>>,
}

/// How a file begins.
#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    Plain,
    Gzip,
    /// Compressed with something else.
    Other(&'static str),
    /// What there is of it may become anything.
    Open,
}

/// A compressed file.
#[derive(Debug)]
struct Packed {
    unpacked: Arc<Unpacked>,
    /// Decompressed, in bytes.
    length: u64,
    /// Set while it is being read.
    reader: Option<Gunzip>,
    /// Places before that one, in their order.
    behind: VecDeque<Gunzip>,
    /// What was read last, and where that stands: a part of it may be asked for again.
    last: (u64, Vec<u8>),
}

impl Content {
    /// Tells by the first bytes what it is, not by the name.
    ///
    /// # Errors
    /// When it is compressed and can't be read; `is_later` when that is not known yet. With `settle` a compressed one
    /// that was just written to is waited for.
    pub(crate) fn of(file: File, unpacker: &Arc<Unpacker>, settle: bool) -> io::Result<Content> {
        let unpacker = Some(unpacker.clone());
        let mut content = Content { file: Arc::new(file), unpacker, packed: None };
        content.decide(settle)?;
        Ok(content)
    }

    /// The same file, opened once more.
    pub(crate) fn reopened(&self, file: File) -> io::Result<Content> {
        match &self.unpacker {
            Some(unpacker) => Content::of(file, unpacker, false),
            None => Ok(file.into()),
        }
    }

    /// For a file that changed on the disk: decides anew what it is.
    ///
    /// # Errors
    /// As [`of`](Self::of); then it stays what it was.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.decide(true)
    }

    fn decide(&mut self, settle: bool) -> io::Result<()> {
        let Some(unpacker) = &self.unpacker else { return Ok(()) };
        match Kind::of(&self.file)? {
            Kind::Plain | Kind::Open => self.packed = None,
            Kind::Other(name) => {
                return Err(io::Error::other(format!("it is compressed with {name}; only gzip is read")));
            }
            Kind::Gzip => {
                let (unpacked, length) = unpacker.look_into(&self.file, settle)?;
                if self.packed.as_ref().is_none_or(|packed| !Arc::ptr_eq(&packed.unpacked, &unpacked)) {
                    let (behind, last) = (VecDeque::new(), (0, Vec::new()));
                    self.packed = Some(Packed { unpacked, length, reader: None, behind, last }.into());
                }
            }
        }
        Ok(())
    }

    /// What the file begins as now, where that may differ from what it was taken for: nobody has read of it yet.
    pub(crate) fn kind(&self) -> io::Result<Kind> {
        match (&self.unpacker, &self.packed) {
            (Some(_), None) => Kind::of(&self.file),
            _ => Ok(Kind::Plain),
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.packed.is_none()
    }

    /// The file as it is on the disk.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// In bytes, decompressed.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match &self.packed {
            None => Ok(self.file.metadata()?.len()),
            Some(packed) => Ok(packed.length),
        }
    }

    /// Reads what stands at `offset`; less than asked for at the end.
    ///
    /// # Errors
    /// `is_later` where a compressed file has to be decompressed to there first.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match (&mut self.packed, &self.unpacker) {
            (Some(packed), Some(unpacker)) => packed.read_at(&self.file, unpacker, buffer, offset),
            _ => self.file.read_at(buffer, offset),
        }
    }

    /// As [`read_at`](Self::read_at), but all of it.
    pub(crate) fn read_exact_at(&mut self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl From<File> for Content {
    fn from(file: File) -> Content {
        Content { file: Arc::new(file), unpacker: None, packed: None }
    }
}

impl Kind {
    fn of(file: &File) -> io::Result<Kind> {
        let mut first = [0; BZIP2.0.len() + 1 + BZIP2.1.len()];
        let read = file.read_at(&mut first, 0)?;
        Ok(Kind::of_bytes(&first[..read]))
    }

    fn of_bytes(first: &[u8]) -> Kind {
        for (magic, name) in MAGICS {
            if first.starts_with(magic) {
                return if name == "gzip" { Kind::Gzip } else { Kind::Other(name) };
            }
        }
        let (start, rest) = BZIP2;
        let behind = first.strip_prefix(start).and_then(|size| size.split_first());
        match behind {
            Some((b'1'..=b'9', behind)) if behind.starts_with(rest) => return Kind::Other("bzip2"),
            Some((b'1'..=b'9', behind)) if rest.starts_with(behind) => return Kind::Open,
            _ => {}
        }
        let may_become = |magic: &[u8]| magic.starts_with(first);
        if MAGICS.iter().any(|(magic, _)| may_become(magic)) || may_become(start) {
            return Kind::Open;
        }
        Kind::Plain
    }
}

impl Packed {
    fn read_at(
        &mut self,
        file: &File,
        unpacker: &Unpacker,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        if offset >= self.length {
            // What it takes to go on is of no more use.
            (self.reader, self.last) = (None, (0, Vec::new()));
            self.behind.clear();
            self.unpacked.forget_readers();
        }
        if buffer.is_empty() || offset >= self.length {
            return Ok(0);
        }
        let known = offset.checked_sub(self.last.0).and_then(|skipped| self.last.1.get(skipped as usize..));
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            let read = known.len().min(buffer.len());
            buffer[..read].copy_from_slice(&known[..read]);
            return Ok(read);
        }
        let is_question = buffer.len() <= QUESTION;
        if is_question && let Some(read) = self.unpacked.piece(offset, buffer) {
            return Ok(read);
        }
        let is_near = |reader: &&Gunzip| (reader.at..=reader.at + NEAR).contains(&offset);
        if let Some(reader) = self.reader.take_if(|reader| is_near(&&*reader)) {
            return self.read_with(reader, file, buffer, offset);
        }
        let known = self.behind.iter().rev().find(is_near).cloned();
        let mut reader = known.map_or_else(|| unpacker.reader(&self.unpacked, offset), Ok)?;
        if is_question {
            skip(&mut reader, file, offset)?;
            return reader.read(file, buffer);
        }
        self.behind.retain(|behind| behind.at < offset);
        self.read_with(reader, file, buffer, offset)
    }

    /// Reads on, and keeps the reader for what comes behind.
    fn read_with(
        &mut self,
        mut reader: Gunzip,
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        skip(&mut reader, file, offset)?;
        if self.behind.back().is_none_or(|last| last.at + NEAR <= reader.at) {
            self.behind.push_back(reader.clone());
            let too_many = self.behind.len().saturating_sub(MOST_BEHIND);
            self.behind.drain(..too_many);
        }
        let read = reader.read(file, buffer)?;
        self.last = (offset, buffer[..read].to_vec());
        self.reader = Some(reader);
        Ok(read)
    }
}

/// Goes on to a place that is near.
fn skip(reader: &mut Gunzip, file: &File, offset: u64) -> io::Result<()> {
    let mut skipped = [0; 16 << 10];
    while reader.at < offset {
        let length = (offset - reader.at).min(skipped.len() as u64) as usize;
        if reader.read(file, &mut skipped[..length])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{Content, Kind};
    use crate::content::unpack::{NEAR, Unpacker, is_later};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn patient() -> Arc<Unpacker> {
        let unpacker = Unpacker::new(channel().0);
        unpacker.wait_for(Duration::from_secs(60));
        unpacker
    }

    fn content(path: &Path, unpacker: &Arc<Unpacker>) -> std::io::Result<Content> {
        Content::of(File::open(path).unwrap(), unpacker, false)
    }

    #[test]
    fn compressed_files_are_read_as_if_they_were_not_and_unfinished_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        let text: Vec<u8> = (0..3 * NEAR as u32 / 4).flat_map(|n| n.to_le_bytes()).collect();
        // Two members, as `cat a.gz b.gz` makes them.
        let bytes = [gzip(&text[..5000]), gzip(&text[5000..])].concat();
        fs::write(&path, &bytes).unwrap();
        let unpacker = patient();
        let mut content = content(&path, &unpacker).unwrap();
        assert_eq!(content.size().unwrap(), text.len() as u64);
        // Near and far, forwards and backwards, questions and what is read on from.
        let (near, far) = (NEAR as usize, 2 * NEAR as usize + 5000);
        for (offset, length) in [
            (4990, 20),
            (far, 1000),
            (far, 100_000),
            (0, 10),
            (far - 1000, 1000),
            (near, 100_000),
            (text.len() - 7, 7),
            (far + 300, 200),
        ] {
            let mut read = vec![0; length];
            content.read_exact_at(&mut read, offset as u64).unwrap();
            assert!(read == text[offset..offset + length], "{offset}");
        }
        assert_eq!(content.read_at(&mut [0; 9], text.len() as u64).unwrap(), 0);
        for cut in [3, 15, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            let error = super::tests::content(&path, &unpacker).unwrap_err().to_string();
            assert!(error.starts_with("its gzip data ends in the middle"), "{cut}: {error}");
        }
        fs::write(&path, b"\x28\xb5\x2f\xfd rest").unwrap();
        let error = super::tests::content(&path, &unpacker).unwrap_err().to_string();
        assert_eq!(error, "it is compressed with zstd; only gzip is read");
    }

    #[test]
    fn what_a_file_is_shows_in_its_first_bytes_and_stays_open_until_they_are_there() {
        for (bytes, kind) in [
            (&b""[..], Kind::Open),
            (b"\x1f", Kind::Open),
            (b"\x1f\x8b", Kind::Gzip),
            (b"\x1fa", Kind::Plain),
            (b"{", Kind::Plain),
            (b"\x28\xb5", Kind::Open),
            (b"(a", Kind::Plain),
            (b"\xfd7zXZ\0", Kind::Other("xz")),
            (b"BZh91AY&SY", Kind::Other("bzip2")),
            (b"BZh9", Kind::Open),
            (b"BZh,b\n", Kind::Plain),
            (b"BZh9,b\n", Kind::Plain),
            (b"PK\x03\x04", Kind::Other("zip")),
            (b"PK,b\n", Kind::Plain),
        ] {
            assert_eq!(Kind::of_bytes(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn who_has_no_patience_is_told_to_ask_again_and_gets_a_message_when_it_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        fs::write(&path, gzip(&vec![b'\n'; 50 << 20])).unwrap();
        let (sender, messages) = channel();
        let unpacker = Unpacker::new(sender);
        assert!(is_later(&content(&path, &unpacker).unwrap_err()) && unpacker.is_busy());
        let limit = Duration::from_secs(60);
        messages.recv_timeout(limit).unwrap();
        let mut content = content(&path, &unpacker).unwrap();
        let (mut buffer, far) = (vec![0; 1 << 20], 40 << 20);
        assert!(is_later(&content.read_at(&mut buffer, far).unwrap_err()));
        messages.recv_timeout(limit).unwrap();
        assert_eq!(content.read_at(&mut buffer, far).unwrap(), buffer.len());
        // From there it goes on at once, and back to where it has been.
        for offset in [far + (1 << 20), far + (8 << 20), far + (1 << 20)] {
            let read = content.read_at(&mut buffer, offset);
            assert!(read.is_ok() || is_later(&read.unwrap_err()));
        }
    }
}
