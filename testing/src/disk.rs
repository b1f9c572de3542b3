//! Disks that are soon full, or hang.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// An ext4 in a file, unmounted when dropped, that can be told to hang. It takes root, loop devices and `mkfs.ext4`.
pub struct HangingDisk(PathBuf);

/// While it lives, whoever writes to the disk waits.
pub struct Hang<'a>(&'a HangingDisk);

impl HangingDisk {
    /// Mounts it at `folder`, which is made; its file is made beside it.
    ///
    /// # Panics
    /// When it can't be made or mounted.
    pub fn mount(folder: impl Into<PathBuf>) -> HangingDisk {
        let folder = folder.into();
        let image = folder.with_extension("image");
        let made = fs::create_dir_all(&folder)
            .and_then(|()| File::create(&image))
            .and_then(|image| image.set_len(16 << 20));
        made.unwrap_or_else(|e| panic!("{}: {e}", image.display()));
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&folder));
        HangingDisk(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Lets it hang. What is to write to it in the end must be dropped after the answer, or it waits for ever.
    ///
    /// # Panics
    /// When the kernel refuses it.
    pub fn hang(&self) -> Hang<'_> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.0));
        Hang(self)
    }
}

impl Drop for Hang<'_> {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.0));
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) {
    // Where these programs are, for those whose PATH leaves it out.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = command.env("PATH", path).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?} can't be run: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
