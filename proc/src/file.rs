//! Files of the kernel, which are made anew each time they are read from the beginning.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::{Errno, pread};

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
        read_all(file, &mut self.content)
    }
}

/// A folder of which several small files are read: that spares looking up its path for each.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Folder> {
        Folder::open_at(CWD, path)
    }

    /// The one of that name inside of it.
    pub(crate) fn folder(&self, name: &str) -> io::Result<Folder> {
        Folder::open_at(&self.0, Path::new(name))
    }

    fn open_at(of: impl AsFd, path: &Path) -> io::Result<Folder> {
        Ok(Folder(openat(of, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// What is in the folder of that name inside of it; `.` is itself.
    pub(crate) fn entries(&self, name: &str) -> io::Result<Dir> {
        Ok(Dir::new(openat(
            &self.0,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?)?)
    }

    /// What is in the file, read into `content`, which can be used again and again.
    pub(crate) fn read<'a>(&self, file: &str, content: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let file = openat(&self.0, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let length = read_all(&file, content)?;
        Ok(&content[..length])
    }

    /// The same of a file that need not be there, or be readable.
    pub(crate) fn read_if_any<'a>(&self, file: &str, content: &'a mut Vec<u8>) -> &'a [u8] {
        self.read(file, content).unwrap_or_default()
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads the whole file, from its beginning; `content` is made larger where that takes more. How long it is.
fn read_all(file: impl AsFd, content: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if length == content.len() {
            if length >= MOST_BYTES {
                return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
            }
            content.resize((length * 2).max(4096), 0);
        }
        match pread(&file, &mut content[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
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
