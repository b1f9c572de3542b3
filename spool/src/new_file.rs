//! Files that get their place in one step, which a power cut can't halve.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file in the making beside the place that it is to have. What stands there stays until [`finish`](Self::finish), and
/// stays for good when this is dropped before. One writer at a time: what another one began is removed.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    /// Hidden: who lists the folder doesn't take it for what it is to be.
    temporary: PathBuf,
}

impl NewFile {
    /// Begins a file that is to be at `path`, with these permissions as far as the umask leaves them.
    ///
    /// # Errors
    /// When its folder can't be written, or `path` names no file.
    pub fn create(path: &Path, mode: u32) -> io::Result<NewFile> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let temporary = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        Ok(NewFile { file, path: path.to_owned(), temporary })
    }

    /// The file itself, for its owner and permissions.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts it in its place: it is on the disk before it gets the name, and the name is when this returns.
    ///
    /// # Errors
    /// When it can't be written, or not be given the name; what stood there stays then.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_data()?;
        fs::rename(&self.temporary, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone where it was finished.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::NewFile;

    #[test]
    fn a_file_is_the_old_one_until_the_new_one_is_finished_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "old").unwrap();
        let mut given_up = NewFile::create(&path, 0o600).unwrap();
        given_up.write_all(b"new").unwrap();
        drop(given_up);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");

        let mut new = NewFile::create(&path, 0o600).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        new.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(NewFile::create(&folder.path().join(".."), 0o600).is_err());
    }

    #[test]
    fn what_lies_in_its_way_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("state"), folder.path().join("other"));
        fs::write(&other, "other").unwrap();
        symlink(&other, folder.path().join(".state.new")).unwrap();
        let mut new = NewFile::create(&path, 0o600).unwrap();
        new.write_all(b"new").unwrap();
        new.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&other).unwrap()), (b"new".into(), b"other".into()));
    }
}
