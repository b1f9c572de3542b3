//! How far foreign files are delivered, kept across restarts, crashes and power cuts.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::mark::Mark;

const VERSION: u32 = 1;

/// `<state>/checkpoint.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    version: u32,
    pub(crate) files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// One foreign file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    #[serde(flatten)]
    pub(crate) id: FileId,
    /// Random; new whenever the content is.
    pub(crate) generation: String,
    /// Up to where its rows are delivered for good.
    pub(crate) delivered: Mark,
    /// Up to where rows may have been sent under this generation: only content that still matches may go on with it.
    pub(crate) sent: Mark,
}

/// What tells one file from another, as far as the file system does. Inodes are used again; with the time of birth
/// that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    /// Unix time in ns; `None` where the file system doesn't keep it.
    born: Option<u64>,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> FileId {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|age| u64::try_from(age.as_nanos()).ok());
        FileId { device: metadata.dev(), inode: metadata.ino(), born }
    }

    /// Whether both are one file, even if the file system's device number changed, as it may with a reboot.
    pub(crate) fn is_same_but_for_device(&self, other: &FileId) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }
}

/// Why the shipper can't start with the checkpoint it found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("{}: {source}; the state folder must be readable and writable for the user that ships", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: was written by a newer KuMon (version {version}); run that one, or move the file away: foreign \
        files are then shipped from their start and may double", path.display())]
    Newer { path: PathBuf, version: u32 },
}

impl Checkpoint {
    /// Reads the last one. A damaged one is moved aside with a message: what it said can't be proven.
    pub(crate) fn read(state: &Path) -> Result<Checkpoint, CheckpointError> {
        let path = state.join("checkpoint.json");
        let io = |source| CheckpointError::Io { path: path.clone(), source };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
            Err(e) => return Err(io(e)),
        };
        // Read apart: nobody knows what else a newer one holds.
        if let Ok(Version { version }) = serde_json::from_slice(&bytes)
            && version > VERSION
        {
            return Err(CheckpointError::Newer { path, version });
        }
        match serde_json::from_slice::<Checkpoint>(&bytes) {
            Ok(checkpoint) => Ok(checkpoint),
            Err(e) => {
                let aside = state.join("checkpoint.damaged.json");
                fs::rename(&path, &aside).map_err(io)?;
                log::error!(
                    "{}: damaged ({e}), moved to {}; foreign files are shipped from their start and may double, \
                     KuMon's own rows may not",
                    path.display(),
                    aside.display()
                );
                Ok(Checkpoint::default())
            }
        }
    }

    /// Replaces the checkpoint in one durable step.
    pub(crate) fn write(state: &Path, files: Vec<Entry>) -> io::Result<()> {
        let new = state.join("checkpoint.json.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o640).open(&new)?;
        file.write_all(&serde_json::to_vec(&Checkpoint { version: VERSION, files })?)?;
        file.sync_data()?;
        fs::rename(new, state.join("checkpoint.json"))?;
        File::open(state)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, CheckpointError};

    #[test]
    fn a_damaged_checkpoint_is_set_aside_and_a_newer_one_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("checkpoint.json");
        std::fs::write(&path, "{\"version\":1,\"fi").unwrap();
        assert_eq!(Checkpoint::read(state.path()).unwrap().files, []);
        assert!(state.path().join("checkpoint.damaged.json").exists() && !path.exists());
        std::fs::write(&path, "{\"version\":2,\"folders\":[]}").unwrap();
        let error = Checkpoint::read(state.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Newer { version: 2, .. }), "{error}");
    }
}
