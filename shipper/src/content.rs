//! What a file holds: its bytes, or what they decompress to.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

/// How compressed files begin that are not read, so that they don't end as garbage in the dead letters.
const OTHERS: [(&[u8], &str); 4] =
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4")];

/// An open file, read as if it were never compressed.
#[derive(Debug)]
pub(crate) enum Content {
    Plain(File),
    /// Boxed: it is much larger than the other.
    Gzip(Box<Gunzip>),
}

impl Content {
    /// Tells by the first bytes what it is. `known` is how much it holds, where that is known from before; else a
    /// compressed file is decompressed once, which is how an unfinished one shows.
    pub(crate) fn of(file: File, known: Option<u64>) -> io::Result<Content> {
        if Content::is_gzip(&file)? {
            return Ok(Content::Gzip(Gunzip::new(file, known)?.into()));
        }
        let mut first = [0; 6];
        let read = file.read_at(&mut first, 0)?;
        match OTHERS.iter().find(|(magic, _)| first[..read].starts_with(magic)) {
            Some((_, name)) => {
                Err(io::Error::other(format!("it is compressed with {name}; only gzip is read")))
            }
            None => Ok(Content::Plain(file)),
        }
    }

    pub(crate) fn is_gzip(file: &File) -> io::Result<bool> {
        let mut first = [0; 2];
        Ok(file.read_at(&mut first, 0)? == 2 && first == *b"\x1f\x8b")
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Content::Plain(_))
    }

    /// The file as it is on the disk.
    pub(crate) fn file(&self) -> &File {
        match self {
            Content::Plain(file) => file,
            Content::Gzip(gunzip) => &gunzip.file,
        }
    }

    /// In bytes, decompressed.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self {
            Content::Plain(file) => Ok(file.metadata()?.len()),
            Content::Gzip(gunzip) => Ok(gunzip.length),
        }
    }

    /// For a file that changed on the disk.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        match self {
            Content::Plain(_) => Ok(()),
            Content::Gzip(gunzip) => gunzip.measure(),
        }
    }

    /// Reads what stands at `offset`; less than asked for at the end.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => file.read_at(buffer, offset),
            Content::Gzip(gunzip) => gunzip.read_at(buffer, offset),
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
        Content::Plain(file)
    }
}

/// A gzip file (RFC 1952), read forwards; going back begins anew.
#[derive(Debug)]
pub(crate) struct Gunzip {
    file: Arc<File>,
    /// Decompressed, in bytes.
    length: u64,
    /// Set while it is being read.
    reader: Option<Reader>,
}

#[derive(Debug)]
struct Reader {
    decoder: MultiGzDecoder<BufReader<FromStart>>,
    at: u64,
}

impl Gunzip {
    fn new(file: File, known: Option<u64>) -> io::Result<Gunzip> {
        let mut gunzip = Gunzip { file: Arc::new(file), length: 0, reader: None };
        match known {
            // The last member's length; a second one behind the known end would show in it.
            Some(known) if gunzip.trailer()? == known as u32 => gunzip.length = known,
            _ => gunzip.measure()?,
        }
        Ok(gunzip)
    }

    /// The length modulo 2^32 that stands at the end of a gzip file.
    fn trailer(&self) -> io::Result<u32> {
        let mut length = [0; 4];
        let end = self.file.metadata()?.len();
        self.file.read_exact_at(&mut length, end.saturating_sub(4))?;
        Ok(u32::from_le_bytes(length))
    }

    /// Decompresses all of it, which checks it too.
    fn measure(&mut self) -> io::Result<()> {
        self.reader = None;
        let all = io::copy(&mut self.decoder(), &mut io::sink());
        self.length =
            all.map_err(|e| io::Error::new(e.kind(), format!("its gzip data ends or is damaged: {e}")))?;
        Ok(())
    }

    fn decoder(&self) -> MultiGzDecoder<BufReader<FromStart>> {
        let start = FromStart { file: self.file.clone(), at: 0 };
        MultiGzDecoder::new(BufReader::with_capacity(64 << 10, start))
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut reader = match self.reader.take() {
            Some(reader) if reader.at <= offset => reader,
            _ => Reader { decoder: self.decoder(), at: 0 },
        };
        reader.at += io::copy(&mut (&mut reader.decoder).take(offset - reader.at), &mut io::sink())?;
        if reader.at < offset {
            return Ok(0);
        }
        let read = reader.decoder.read(buffer)?;
        reader.at += read as u64;
        // Its tables are of no more use at the end.
        self.reader = (reader.at < self.length).then_some(reader);
        Ok(read)
    }
}

/// Reads a file from its start, without the position that everybody shares who has it open.
#[derive(Debug)]
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::Content;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_files_are_read_as_if_they_were_not_and_unfinished_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        // Two members, as `cat a.gz b.gz` makes them.
        let bytes = [gzip(&text[..5000]), gzip(&text[5000..])].concat();
        fs::write(&path, &bytes).unwrap();
        let mut content = Content::of(File::open(&path).unwrap(), None).unwrap();
        assert_eq!(content.size().unwrap(), text.len() as u64);
        for (offset, length) in [(4990, 20), (700_000, 1000), (0, 10), (text.len() - 7, 7)] {
            let mut read = vec![0; length];
            content.read_exact_at(&mut read, offset as u64).unwrap();
            assert_eq!(read, text[offset..offset + length], "{offset}");
        }
        assert_eq!(content.read_at(&mut [0; 9], text.len() as u64).unwrap(), 0);
        for cut in [3, 15, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Content::of(File::open(&path).unwrap(), None).is_err(), "{cut}");
        }
        fs::write(&path, b"\x28\xb5\x2f\xfd rest").unwrap();
        let error = Content::of(File::open(&path).unwrap(), None).unwrap_err().to_string();
        assert_eq!(error, "it is compressed with zstd; only gzip is read");
    }
}
