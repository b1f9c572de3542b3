//! Telling whether a file still holds what was read from it.

use std::io;

use serde::{Deserialize, Serialize};

use crate::content::Content;

/// So much content at the beginning of a file, and so much before a mark, is its identity. In bytes.
pub(crate) const WINDOW: u64 = 1024;

/// A place in a file, and what stood before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilePosition {
    /// In bytes.
    pub(crate) offset: u64,
    /// CRC-32 of the file's first [`WINDOW`] bytes and of those before `offset`.
    pub(crate) fingerprint: u32,
}

impl FilePosition {
    /// A file's beginning, before which nothing stands.
    pub(crate) const START: FilePosition = FilePosition { offset: 0, fingerprint: 0 };

    /// The one of both that lies before the other.
    pub(crate) fn or_before(self, other: FilePosition) -> FilePosition {
        if other.offset < self.offset { other } else { self }
    }

    /// The one of both that lies behind the other.
    pub(crate) fn or_behind(self, other: FilePosition) -> FilePosition {
        if other.offset > self.offset { other } else { self }
    }

    /// The mark of a file's content at `offset`; `None` where the file is shorter.
    pub(crate) fn of(content: &mut Content, offset: u64) -> io::Result<Option<FilePosition>> {
        Ok(Window::read(content, offset)?
            .map(|window| FilePosition { offset, fingerprint: window.fingerprint() }))
    }

    /// What stands before the mark; `None` where that is not what stood there when it was made.
    pub(crate) fn window(self, content: &mut Content) -> io::Result<Option<Window>> {
        Ok(Window::read(content, self.offset)?.filter(|window| window.fingerprint() == self.fingerprint))
    }

    /// Whether what was read before the mark stands there.
    pub(crate) fn stands_in(self, content: &mut Content) -> io::Result<bool> {
        Ok(self.window(content)?.is_some())
    }
}

/// The content that a mark's fingerprint is made of.
#[derive(Debug, Default)]
pub(crate) struct Window {
    head: Vec<u8>,
    last: Vec<u8>,
}

impl Window {
    fn read(content: &mut Content, offset: u64) -> io::Result<Option<Window>> {
        let length = offset.min(WINDOW);
        let mut window = Window { head: vec![0; length as usize], last: vec![0; length as usize] };
        let read = content.read_exact_at(&mut window.head, 0);
        match read.and_then(|()| content.read_exact_at(&mut window.last, offset - length)) {
            Ok(()) => Ok(Some(window)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Moves on over bytes that were read; so the fingerprint is of what was read, whatever the file holds by now.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let window = WINDOW as usize;
        let missing = window - self.head.len();
        self.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(window)..]);
        self.last.drain(..self.last.len().saturating_sub(window));
    }

    pub(crate) fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.head);
        hasher.update(&self.last);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{FilePosition, Window};
    use crate::content::Content;

    #[test]
    fn what_was_pushed_has_the_fingerprint_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..5000_u32).map(|n| (n * n % 251) as u8).collect();
        fs::write(folder.path().join("a"), &content).unwrap();
        let mut file = Content::from(File::open(folder.path().join("a")).unwrap());
        let (mut window, mut offset) = (Window::default(), 0);
        assert_eq!(FilePosition::of(&mut file, 0).unwrap(), Some(FilePosition::START));
        for length in [1, 500, 600, 1, 2500, 1000] {
            window.push(&content[offset..offset + length]);
            offset += length;
            let mark = FilePosition { offset: offset as u64, fingerprint: window.fingerprint() };
            assert_eq!(FilePosition::of(&mut file, offset as u64).unwrap(), Some(mark));
            assert!(mark.stands_in(&mut file).unwrap());
        }
        assert_eq!(FilePosition::of(&mut file, 5001).unwrap(), None);
    }
}
