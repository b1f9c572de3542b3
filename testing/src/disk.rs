//! A disk that is soon full.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A tmpfs of a size, `c"size=64k"`, unmounted when dropped. Mounting takes root.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it at `folder`, which is made where there is none.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn mount(folder: impl Into<PathBuf>, options: &CStr) -> SmallDisk {
        let folder = folder.into();
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), options)
            .unwrap_or_else(|e| panic!("mounting a tmpfs at {}: {e}", folder.display()));
        SmallDisk(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the space that is left.
    ///
    /// # Panics
    /// When something else than the lack of space ends the writing.
    pub fn fill(&self) {
        let filled =
            File::create(self.filler()).and_then(|filler| io::copy(&mut io::repeat(b'x'), &mut &filler));
        assert_eq!(filled.map_err(|e| e.kind()), Err(io::ErrorKind::StorageFull));
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When it took nothing.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled before");
    }

    /// Makes the disk larger.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn grow(&self, options: &CStr) {
        mount_remount(&self.0, MountFlags::empty(), options)
            .unwrap_or_else(|e| panic!("growing the tmpfs at {}: {e}", self.0.display()));
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: somebody may still be reading for a moment.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
