//! Files of the kernel, which are made anew each time they are read from the beginning.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::ReadError;

/// More than any of them has on the largest of machines.
const MOST_BYTES: usize = 16 << 20;

/// A file that is read again and again. It stays open: that spares looking up its path each time.
#[derive(Debug)]
pub(crate) struct KernelFile {
    path: PathBuf,
    file: Option<File>,
    content: Vec<u8>,
}

impl KernelFile {
    pub(crate) fn at(path: PathBuf) -> KernelFile {
        KernelFile { path, file: None, content: Vec::new() }
    }

    /// What is in it now.
    pub(crate) fn read(&mut self) -> Result<&[u8], ReadError> {
        match self.try_read() {
            Ok(length) => Ok(&self.content[..length]),
            Err(source) => {
                self.file = None;
                Err(ReadError { path: self.path.clone(), source })
            }
        }
    }

    /// The same, as what `parse` makes of it.
    pub(crate) fn read_as<T>(&mut self, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, ReadError> {
        let parsed = parse(self.read()?);
        parsed.ok_or_else(|| ReadError::not_understood(self.path.clone()))
    }

    /// The same of a file that not every kernel has.
    pub(crate) fn read_if_any(&mut self) -> &[u8] {
        self.read().unwrap_or_default()
    }

    fn try_read(&mut self) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => closed.insert(File::open(&self.path)?),
        };
        let mut length = 0;
        loop {
            if length == self.content.len() {
                if length >= MOST_BYTES {
                    return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
                }
                self.content.resize((length * 2).max(4096), 0);
            }
            match file.read_at(&mut self.content[length..], length as u64) {
                Ok(0) => return Ok(length),
                Ok(read) => length += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::KernelFile;

    #[test]
    fn each_reading_is_of_now_and_one_that_failed_is_tried_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat");
        let mut file = KernelFile::at(path.clone());
        let message = file.read().unwrap_err().to_string();
        assert!(message.contains("/stat: No such file"), "{message}");
        assert_eq!(file.read_if_any(), b"");
        for text in ["a".repeat(10_000), "b".into(), String::new()] {
            fs::write(&path, &text).unwrap();
            assert_eq!(file.read().unwrap(), text.as_bytes());
        }
        let message = file.read_as(|_| None::<()>).unwrap_err().to_string();
        assert!(message.ends_with("/stat: it is not what Linux writes there"), "{message}");
    }
}
