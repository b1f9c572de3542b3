//! Where cgroup v2 is mounted, and where in it a cgroup is.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The mount point of cgroup v2 in the text of /proc/<pid>/mountinfo (man 5 proc): on hybrid nodes it is
/// /sys/fs/cgroup/unified.
pub fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Where the cgroup with this id is, which is its handle (open_by_handle_at(2)): ESTALE where it is gone.
pub(super) fn path_of(mount: &Path, cgroup: u64) -> Result<PathBuf, Errno> {
    /// `struct file_handle`, with the 8 bytes of FILEID_KERNFS of include/linux/exportfs.h.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    const KERNFS: i32 = 0xfe;
    let mount = rustix::fs::open(mount, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: cgroup.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle is laid out as the kernel has it and says how long it is; the descriptor is open.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // SAFETY: the descriptor is new and nobody else's.
    let folder = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", folder.as_raw_fd()), Vec::new())?;
    Ok(OsString::from_vec(path.into_bytes()).into())
}
