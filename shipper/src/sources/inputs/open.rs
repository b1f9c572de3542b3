//! Opening other people's files.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::checkpoint::FileId;

/// So many files may be open for what else there is: the spool's, connections, the state.
const OTHERS: u64 = 400;

/// Lets this process have as many files open as it may (`ulimit -Hn`, LimitNOFILE): shells and systemd begin with 1024.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some()
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        log::warn!("the limit of open files can't be raised: {e}");
    }
}

/// Whether there is no room for a further file of somebody else's. The kernel gives the lowest number that is free, so
/// that the number tells how many are open.
fn is_one_too_many(file: &File) -> bool {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    file.as_raw_fd() as u64 >= most - OTHERS.min(most / 2)
}

/// Opens a file that somebody else owns. Whoever may write to its folder can put a link or a pipe there: a pipe must
/// not hold up everything, and a link must not lend the rights of the user that ships (root, perhaps) to who made it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let (named, opened) = (fs::symlink_metadata(path)?, file.metadata()?);
    if !opened.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if is_one_too_many(&file) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    if named.is_symlink() && named.uid() != 0 && named.uid() != opened.uid() {
        return Err(io::Error::other(
            "it is a link to a file of another user; name that file in the configuration",
        ));
    }
    Ok(file)
}

/// Files that are not opened, because as many are open as this process may have.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    files: HashSet<FileId>,
    first: Option<PathBuf>,
}

impl Waiting {
    /// Whether no further file needs to be tried.
    pub(crate) fn is_full(&self) -> bool {
        self.first.is_some()
    }

    /// Takes note of a file that could not be opened, if that is why.
    pub(crate) fn takes(&mut self, path: &Path, id: FileId, error: &io::Error) -> bool {
        let takes = error.raw_os_error() == Some(libc::EMFILE);
        if takes {
            self.add(path, id);
        }
        takes
    }

    /// Takes note of a file that is not tried.
    pub(crate) fn add(&mut self, path: &Path, id: FileId) {
        self.files.insert(id);
        self.first.get_or_insert_with(|| path.to_owned());
    }

    pub(crate) fn has(&self, id: &FileId) -> bool {
        self.files.contains(id)
    }

    /// The first of them, and what is to be said of all: there may be 100,000.
    pub(crate) fn trouble(&self) -> Option<(PathBuf, String)> {
        let first = self.first.clone()?;
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let why = format!(
            "this and {} other files wait until files that are open are gone: a process may have {limit} open; \
             raise LimitNOFILE of the service, or 'ulimit -Hn', to the number of files and {OTHERS}, or let the \
             patterns match fewer",
            self.files.len() - 1
        );
        Some((first, why))
    }
}
