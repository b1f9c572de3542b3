//! How far foreign files are delivered, kept across restarts, crashes and power cuts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// `<state>/checkpoint.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    version: u32,
    pub(crate) files: Vec<Entry>,
}

/// One foreign file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Random; new whenever the content is.
    pub(crate) generation: String,
    /// Bytes delivered.
    pub(crate) offset: u64,
    /// Of the bytes before `offset`, see [`fingerprint`].
    pub(crate) fingerprint: u32,
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
        match serde_json::from_slice::<Checkpoint>(&bytes) {
            Ok(checkpoint) if checkpoint.version > VERSION => {
                Err(CheckpointError::Newer { path, version: checkpoint.version })
            }
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

/// Fingerprint of the content before `offset`: CRC-32 of the up to 1 KiB before it and of the file's first 1 KiB.
/// `None` where the file is shorter.
pub(crate) fn fingerprint(file: &File, offset: u64) -> io::Result<Option<u32>> {
    const LENGTH: u64 = 1024;
    let length = offset.min(LENGTH);
    let mut bytes = vec![0; 2 * length as usize];
    let (head, tail) = bytes.split_at_mut(length as usize);
    match file.read_exact_at(head, 0).and_then(|()| file.read_exact_at(tail, offset - length)) {
        Ok(()) => Ok(Some(crc32fast::hash(&bytes))),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
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
        std::fs::write(&path, "{\"version\":2,\"files\":[]}").unwrap();
        let error = Checkpoint::read(state.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Newer { version: 2, .. }), "{error}");
    }
}
