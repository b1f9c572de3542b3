//! Reading what container runtimes leave on the disk. They write it as root, but what stands in it may come from who
//! starts containers, and users' own runtimes write theirs.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// A bundle's configuration has some 10 KB; its environment and annotations come from those who start containers.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// Why a file says nothing.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) why: io::Error,
}

/// A folder that belongs to a runtime. Links on the way to it are the administrator's, and followed.
pub(crate) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// None where it isn't there.
    pub(crate) fn open(path: &Path) -> Result<Option<Folder>, Unreadable> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty());
        Ok(none_if_absent(fd, path)?.map(|fd| Folder { path: path.to_owned(), fd }))
    }

    /// The file at a relative path, without following links.
    pub(crate) fn read(&self, file: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Unreadable> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        self.read_by(file.as_ref(), beneath, MAX_BYTES)
    }

    /// The file at a path in a container, for which this folder is the root.
    pub(crate) fn read_as_root(&self, file: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, Unreadable> {
        self.read_by(Path::new(file), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS, max_bytes)
    }

    fn read_by(
        &self,
        file: &Path,
        resolve: ResolveFlags,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        let path = || self.path.join(file);
        // A pipe in its place must not hold anybody up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = openat2(&self.fd, file, flags, Mode::empty(), resolve);
        let Some(fd) = none_if_absent(fd, &path())? else { return Ok(None) };
        let mut text = Vec::new();
        let read = || -> io::Result<Vec<u8>> {
            let file = File::from(fd);
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no file"));
            }
            let bytes = file.take(max_bytes + 1).read_to_end(&mut text)?;
            if bytes as u64 > max_bytes {
                return Err(io::Error::other(format!("it is larger than {max_bytes} bytes")));
            }
            Ok(text)
        };
        read().map(Some).map_err(|why| Unreadable { path: path(), why })
    }
}

/// The names of the folders in one; none where it isn't there.
pub(super) fn folders_in(path: &Path) -> Result<Vec<String>, Unreadable> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(Unreadable { path: path.to_owned(), why }),
    };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// An absolute path on the node whose root folder is `node`.
pub(super) fn below(node: &Path, path: &Path) -> PathBuf {
    node.join(path.strip_prefix("/").unwrap_or(path))
}

/// What a file says, of JSON. It may be half-written.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8], path: &Path) -> Result<T, Unreadable> {
    serde_json::from_slice(text).map_err(|e| Unreadable { path: path.to_owned(), why: e.into() })
}

fn none_if_absent(fd: rustix::io::Result<OwnedFd>, path: &Path) -> Result<Option<OwnedFd>, Unreadable> {
    use rustix::io::Errno;
    match fd {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Unreadable { path: path.to_owned(), why: e.into() }),
    }
}
