//! The locks of the spool's contract.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::folder::make_folder;

/// Whether a writer holds the file; not so means that it is closed for good, also after a crash.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn is_being_written(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Keeps the collector from shedding the file, until [`release_reading`] or until it is closed: the lock belongs to
/// the open file description (fcntl_locking(2), `F_OFD_SETLK`). False when the file is being shed right now.
///
/// # Errors
/// When the kernel refuses.
pub fn lock_for_reading(file: &File) -> io::Result<bool> {
    try_ofd_lock(file, libc::F_RDLCK)
}

/// Lets the collector shed the file again.
///
/// # Errors
/// When the kernel refuses.
pub fn release_reading(file: &File) -> io::Result<()> {
    try_ofd_lock(file, libc::F_UNLCK).map(|_| ())
}

/// Whether somebody holds the lock of [`lock_for_reading`].
pub(crate) fn is_read_locked(file: &File) -> io::Result<bool> {
    let mut conflict = whole_file(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut conflict))?;
    Ok(libc::c_int::from(conflict.l_type) != libc::F_UNLCK)
}

/// Whether nobody has rows of the file in flight; holds off readers until the file is closed.
pub(crate) fn lock_for_shedding(file: &File) -> io::Result<bool> {
    try_ofd_lock(file, libc::F_WRLCK)
}

fn try_ofd_lock(file: &File, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Tries to take a folder's lock: who looks at it ([`is_being_written`]) holds it for an instant.
const LOOKERS_PATIENCE: usize = 10;

/// Keeps a second process out of a folder, for as long as it lives.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock `<folder>/lock`, making the folder where it is missing; `None` when another process has it.
    ///
    /// # Errors
    /// When the folder can't be made or the lock file not be opened.
    pub fn take(folder: &Path) -> io::Result<Option<FolderLock>> {
        make_folder(folder)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        for _ in 0..LOOKERS_PATIENCE {
            match file.try_lock() {
                Ok(()) => return Ok(Some(FolderLock { _file: file })),
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
        Ok(None)
    }
}
