//! Folders that another user may write to, and folders that a power cut must not take back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

/// A folder held open, so that what is done in it is done in this one, whatever gets its name meanwhile. The other
/// side's user may put a link there at any moment: that would lend it the rights of who writes, or deletes.
pub(crate) struct Folder(File);

impl Folder {
    /// The folder that a file of this path is in.
    ///
    /// # Errors
    /// When it is none, or a link to a folder of another user that root didn't make.
    pub(crate) fn of(path: &Path) -> io::Result<Folder> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let open = |flags| OpenOptions::new().read(true).custom_flags(libc::O_PATH | flags).open(folder);
        let opened = open(libc::O_NOFOLLOW)?;
        let named = opened.metadata()?;
        if !named.is_symlink() {
            return if named.is_dir() {
                Ok(Folder(opened))
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            };
        }
        let target = open(libc::O_DIRECTORY)?;
        if named.uid() != 0 && named.uid() != target.metadata()?.uid() {
            return Err(io::Error::other(
                "its folder is a link to a folder of another user; remove the link",
            ));
        }
        Ok(Folder(target))
    }

    /// The path under which a file of it is reached, as long as this lives; `path` gives the name.
    pub(crate) fn join(&self, path: &Path) -> PathBuf {
        let mut held = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        held.extend(path.file_name());
        held
    }
}

/// Makes a folder, and those above it, where it is missing; a power cut doesn't take it back.
///
/// # Errors
/// When one can't be made.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(parent)?;
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    // The folder's name stands in the one above it.
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::{Folder, make_folder};

    #[test]
    fn folders_are_made_with_those_above_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b/c");
        make_folder(&folder).unwrap();
        make_folder(&folder).unwrap();
        assert!(folder.is_dir());
        fs::write(folder.join("file"), "").unwrap();
        make_folder(&folder.join("file/d")).unwrap_err();
    }

    #[test]
    fn a_folder_that_gave_its_name_away_is_still_the_one_that_is_used() {
        let root = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (root.path().join("folder"), root.path().join("elsewhere"));
        make_folder(&folder).unwrap();
        make_folder(&elsewhere).unwrap();
        let held = Folder::of(&folder.join("file")).unwrap();
        fs::rename(&folder, root.path().join("away")).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        fs::write(held.join(&folder.join("file")), "text").unwrap();
        assert!(root.path().join("away/file").exists() && !elsewhere.join("file").exists());
        // A link of one's own is followed, as it may stand for the spool itself.
        assert!(Folder::of(&folder.join("file")).is_ok());
        if kumon_testing::require_root() {
            lchown(&folder, Some(65534), Some(65534)).unwrap();
            assert!(Folder::of(&folder.join("file")).is_err());
        }
    }
}
