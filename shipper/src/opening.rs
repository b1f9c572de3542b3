//! Opening other people's files.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::checkpoint::FileId;
use crate::content::Content;

/// A compressed file that was written to within that time is waited for.
const SETTLED: Duration = Duration::from_millis(250);

/// Opens a file that somebody else owns. Whoever may write to its folder can put a link or a pipe there: a pipe must
/// not hold up everything, and a link must not lend the rights of the user that ships (root, perhaps) to who made it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let (named, opened) = (fs::symlink_metadata(path)?, file.metadata()?);
    if !opened.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if named.is_symlink() && named.uid() != 0 && named.uid() != opened.uid() {
        return Err(io::Error::other(
            "it is a link to a file of another user; name that file in the configuration",
        ));
    }
    Ok(file)
}

/// Tells what files hold, without decompressing a damaged one with every look.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    damaged: HashMap<FileId, (u64, Option<SystemTime>, String)>,
}

impl Opener {
    /// What an open file holds; `None` while somebody still compresses into it. `known` as in [`Content::of`].
    pub(crate) fn content(&mut self, file: File, known: Option<u64>) -> io::Result<Option<Content>> {
        if !Content::is_gzip(&file)? {
            return Content::of(file, known).map(Some);
        }
        let metadata = file.metadata()?;
        let (id, size, modified) = (FileId::of(&metadata), metadata.len(), metadata.modified().ok());
        // A time in the future is no reason to wait for it.
        if modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < SETTLED) {
            return Ok(None);
        }
        if let Some((.., why)) = self.damaged.get(&id).filter(|known| (known.0, known.1) == (size, modified))
        {
            return Err(io::Error::other(why.clone()));
        }
        self.damaged.remove(&id);
        let content = Content::of(file, known);
        if let Err(e) = &content {
            self.damaged.insert(id, (size, modified, e.to_string()));
        }
        content.map(Some)
    }
}
