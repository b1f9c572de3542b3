//! The dead letters' files, which the shipper and the commands that look after them share.
//!
//! `<state>/dead-letters/<day>-<number>.ndjson`. Whoever changes something holds a lock (flock(2)) on the folder: a
//! lock file would belong to whichever user came first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use chrono::Utc;
use kumon_spool::{NewFile, make_folder};

use super::DeadLetter;

/// The folder of a shipper's dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetterFolder {
    path: PathBuf,
}

/// A file of dead letters, open for reading from its start.
pub(super) struct LetterFile {
    pub(super) path: PathBuf,
    lines: BufReader<File>,
    line: Vec<u8>,
}

impl DeadLetterFolder {
    /// That of the shipper with this state folder; it need not exist.
    pub fn of(state: &Path) -> DeadLetterFolder {
        DeadLetterFolder { path: state.join("dead-letters") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shows every letter, oldest first. A line that a crash cut is passed over.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(&self, mut visit: impl FnMut(&DeadLetter)) -> io::Result<()> {
        for path in self.files()? {
            let Some(mut file) = LetterFile::open(&path)? else { continue };
            while let Some(line) = file.next_line()? {
                if let Ok(letter) = serde_json::from_slice(line) {
                    visit(&letter);
                }
            }
        }
        Ok(())
    }

    /// Removes letters for good; answers how many.
    ///
    /// # Errors
    /// When a file can't be replaced; those before it are done.
    pub fn remove(&self, mut is_doomed: impl FnMut(&DeadLetter) -> bool) -> io::Result<u64> {
        let mut removed = 0;
        for path in self.files()? {
            removed += self.remove_from(&path, &mut is_doomed)?;
        }
        Ok(removed)
    }

    /// Removes letters from one file, which goes away with its last one.
    pub(super) fn remove_from(
        &self,
        path: &Path,
        mut is_doomed: impl FnMut(&DeadLetter) -> bool,
    ) -> io::Result<u64> {
        let folder = self.lock()?;
        let Some(mut file) = LetterFile::open(path)? else { return Ok(0) };
        let old = file.lines.get_ref().metadata()?;
        let rest = NewFile::create(path, 0o640)?;
        // root may tidy up after a shipper that runs as somebody else, and goes on to write there.
        fchown(rest.file(), Some(old.uid()), Some(old.gid()))?;
        let (mut rest, mut removed, mut kept) = (BufWriter::new(rest), 0, 0);
        while let Some(line) = file.next_line()? {
            if serde_json::from_slice(line).is_ok_and(|letter| is_doomed(&letter)) {
                removed += 1;
            } else {
                rest.write_all(line)?;
                kept += 1;
            }
        }
        if kept == 0 {
            fs::remove_file(path)?;
            folder.sync_all()?;
        } else if removed > 0 {
            rest.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
        }
        Ok(removed)
    }

    /// The files, oldest first; none where there is no folder.
    pub(super) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let is_letters = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            !name.starts_with(b".") && name.ends_with(b".ndjson")
        };
        let mut files: Vec<PathBuf> = paths.into_iter().filter(is_letters).collect();
        files.sort();
        Ok(files)
    }

    /// Appends whole lines, durably, to a file that has no more than `file_bytes` yet. Then drops the oldest files
    /// until all are within `max_bytes`; answers how many letters that cost.
    pub(super) fn append(&self, lines: &[u8], file_bytes: u64, max_bytes: u64) -> io::Result<u64> {
        make_folder(&self.path)?;
        let folder = self.lock()?;
        let path = self.newest(file_bytes)?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(&path)?;
        let before = file.metadata()?.len();
        let separator: &[u8] = if ends_with_line(&file, before)? { b"" } else { b"\n" };
        let written =
            file.write_all(separator).and_then(|()| file.write_all(lines)).and_then(|()| file.sync_data());
        if let Err(e) = written {
            // They are written again, so half of them must not stay; if this fails too, one line is cut.
            let _ = file.set_len(before);
            return Err(e);
        }
        if before == 0 {
            // So that a power cut doesn't take the new file's name back.
            folder.sync_all()?;
        }
        self.shrink(max_bytes)
    }

    /// The file that takes the next letters.
    fn newest(&self, file_bytes: u64) -> io::Result<PathBuf> {
        let today = Utc::now().format("%Y-%m-%d").to_string();
        let mut number = 0;
        for path in self.files()? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let Some(used) = name.strip_prefix(&format!("{today}-")).and_then(|n| n.parse::<u32>().ok())
            else {
                continue;
            };
            number = if fs::metadata(&path)?.len() < file_bytes { used } else { used + 1 };
        }
        Ok(self.path.join(format!("{today}-{number:05}.ndjson")))
    }

    fn shrink(&self, max_bytes: u64) -> io::Result<u64> {
        let mut files = Vec::new();
        for path in self.files()? {
            let size = fs::metadata(&path)?.len();
            files.push((path, size));
        }
        let mut total: u64 = files.iter().map(|(_, size)| size).sum();
        let mut dropped = 0;
        // The newest stays: what was just written to it is news.
        for (path, size) in &files[..files.len().saturating_sub(1)] {
            if total <= max_bytes {
                break;
            }
            let mut letters = 0;
            if let Some(mut file) = LetterFile::open(path)? {
                while file.next_line()?.is_some() {
                    letters += 1;
                }
            }
            fs::remove_file(path)?;
            log::warn!(
                "{}: {letters} dead letters dropped, the oldest: all together had more than dead_letters.max_bytes \
                 ({max_bytes} bytes)",
                path.display()
            );
            dropped += letters;
            total -= size;
        }
        Ok(dropped)
    }

    fn lock(&self) -> io::Result<File> {
        let folder = File::open(&self.path)?;
        folder.lock()?;
        Ok(folder)
    }
}

impl LetterFile {
    /// `None` when it has gone away meanwhile.
    pub(super) fn open(path: &Path) -> io::Result<Option<LetterFile>> {
        match File::open(path) {
            Ok(file) => {
                let lines = BufReader::with_capacity(64 << 10, file);
                Ok(Some(LetterFile { path: path.to_owned(), lines, line: Vec::new() }))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The next line that isn't empty, with its line end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            if self.lines.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line != b"\n" {
                return Ok(Some(&self.line));
            }
        }
    }
}

/// Not so after a crash within a line.
fn ends_with_line(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    Ok(last == [b'\n'])
}
