//! How far foreign files are delivered, kept across restarts, crashes and power cuts.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use kumon_spool::NewFile;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::file_position::FilePosition;

/// Version 1 had no checksum.
const VERSION: u32 = 2;

/// `OVERLAYFS_SUPER_MAGIC` of the kernel's `linux/magic.h`.
const OVERLAYFS: u32 = 0x794c_7630;

/// `<state>/checkpoint.json`.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// How it stands in the file.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    version: u32,
    /// CRC-32 of the text of `files`.
    #[serde(default)]
    checksum: u32,
    #[serde(borrow)]
    files: &'a RawValue,
}

/// Why what stands there can't be used.
#[derive(Debug, PartialEq)]
pub(crate) enum Unusable {
    Newer(u32),
    Damaged(String),
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
    pub(crate) delivered: FilePosition,
    /// Up to where rows may have been sent under this generation: only content that still matches may go on with it.
    pub(crate) sent: FilePosition,
    /// The name it was first found under, where it has another one by now: the input of that name has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<PathBuf>,
    /// Set while nobody reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<Missing>,
    /// The header of a CSV file, for content that comes without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) header: Vec<String>,
}

impl Entry {
    /// The name it was first found under.
    pub(crate) fn found(&self) -> &Path {
        self.found.as_ref().unwrap_or(&self.path)
    }
}

/// A file that no input has any more, or that is out of sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// Unix time in s.
    pub(crate) since: u64,
    /// It was read to its end: it needs not be looked for.
    pub(crate) ended: bool,
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

    /// Whether the file is on the same device as that one.
    pub(crate) fn is_on(&self, other: &Metadata) -> bool {
        self.device == other.dev()
    }

    /// Whether both are one file, even if the file system's device number changed, as it may with a reboot.
    pub(crate) fn is_same_but_for_device(&self, other: &FileId) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }

    /// Whether the one was deleted before the other was made: both have one inode, and were born at different times.
    /// On overlayfs that is also what writing to a file of a lower layer makes of it.
    pub(crate) fn is_reused_by(&self, other: &FileId, file: &File) -> bool {
        let is_overlay = || rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type as u32 == OVERLAYFS);
        (self.device, self.inode) == (other.device, other.inode) && self.born != other.born && !is_overlay()
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
        match Checkpoint::parse(&bytes) {
            Ok(checkpoint) => Ok(checkpoint),
            Err(Unusable::Newer(version)) => Err(CheckpointError::Newer { path, version }),
            Err(Unusable::Damaged(e)) => {
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

    pub(crate) fn parse(bytes: &[u8]) -> Result<Checkpoint, Unusable> {
        let damaged = |e: serde_json::Error| Unusable::Damaged(e.to_string());
        // Read apart: nobody knows what else a newer one holds.
        let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if version > VERSION {
            return Err(Unusable::Newer(version));
        }
        let written: Written<'_> = serde_json::from_slice(bytes).map_err(damaged)?;
        let text = written.files.get();
        if version > 1 && crc32fast::hash(text.as_bytes()) != written.checksum {
            return Err(Unusable::Damaged("its checksum is wrong".to_owned()));
        }
        Ok(Checkpoint { files: serde_json::from_str(text).map_err(damaged)? })
    }

    pub(crate) fn to_bytes(files: &[Entry]) -> serde_json::Result<Vec<u8>> {
        let files = serde_json::value::to_raw_value(files)?;
        let checksum = crc32fast::hash(files.get().as_bytes());
        serde_json::to_vec(&Written { version: VERSION, checksum, files: &files })
    }

    /// Replaces the checkpoint in one step that a power cut can't halve.
    pub(crate) fn write(state: &Path, files: &[Entry]) -> io::Result<()> {
        let mut file = NewFile::create(&state.join("checkpoint.json"), 0o640)?;
        file.write_all(&Checkpoint::to_bytes(files)?)?;
        file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, CheckpointError, Entry, FileId, Missing, Unusable};
    use crate::file_position::FilePosition;

    fn entries(count: u64) -> Vec<Entry> {
        let mark = |offset| FilePosition { offset, fingerprint: 4_000_000_000 - offset as u32 };
        let entry = |n| Entry {
            path: format!("/var/log/{n} \"ä\".log").into(),
            id: FileId { device: 7, inode: n, born: (n % 2 == 0).then_some(1_795_240_000_000_000_000 + n) },
            generation: format!("{n:024x}"),
            delivered: mark(n * 1000),
            sent: mark(n * 1000 + 500),
            found: (n % 3 == 0).then(|| "/var/log/first".into()),
            missing: (n % 3 == 1).then_some(Missing { since: 1_795_240_000 + n, ended: n % 2 == 0 }),
            header: (0..n % 3).map(|column| format!("c{column},\"")).collect(),
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn whatever_is_cut_off_or_changed_in_it_is_noticed() {
        let files = entries(3);
        let bytes = Checkpoint::to_bytes(&files).unwrap();
        assert_eq!(Checkpoint::parse(&bytes).unwrap().files, files);
        for end in 0..bytes.len() {
            assert!(matches!(Checkpoint::parse(&bytes[..end]), Err(Unusable::Damaged(_))), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                match Checkpoint::parse(&bytes) {
                    // White space, or a version that reads the same.
                    Ok(checkpoint) => assert_eq!(checkpoint.files, files, "bit {bit} of byte {at}"),
                    Err(Unusable::Newer(_) | Unusable::Damaged(_)) => {}
                }
            }
        }
    }

    /// What a power cut can leave of writing a new one: any part of the new file beside the old one, for that is
    /// synced before it gets the name; then the one or the other under the name.
    #[test]
    fn after_a_power_cut_at_any_point_it_is_the_old_one_or_the_new_one() {
        let state = tempfile::tempdir().unwrap();
        let (old, new) = (entries(2), entries(5));
        Checkpoint::write(state.path(), &old).unwrap();
        let bytes = Checkpoint::to_bytes(&new).unwrap();
        let unfinished = state.path().join(".checkpoint.json.new");
        for written in (0..=bytes.len()).step_by(5) {
            // The blocks behind may be allocated and hold zeros.
            for zeros in [0, 100] {
                std::fs::write(&unfinished, [&bytes[..written], &vec![0; zeros]].concat()).unwrap();
                assert_eq!(Checkpoint::read(state.path()).unwrap().files, old, "{written} bytes");
            }
        }
        Checkpoint::write(state.path(), &new).unwrap();
        assert_eq!(Checkpoint::read(state.path()).unwrap().files, new);
        assert!(!unfinished.exists());
    }

    #[test]
    fn one_of_the_first_version_is_read() {
        let files = serde_json::to_string(&entries(2)).unwrap();
        let bytes = format!("{{\"version\":1,\"files\":{files}}}");
        assert_eq!(Checkpoint::parse(bytes.as_bytes()).unwrap().files, entries(2));
    }

    #[test]
    fn a_damaged_checkpoint_is_set_aside_and_a_newer_one_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("checkpoint.json");
        std::fs::write(&path, "{\"version\":1,\"fi").unwrap();
        assert_eq!(Checkpoint::read(state.path()).unwrap().files, []);
        assert!(state.path().join("checkpoint.damaged.json").exists() && !path.exists());
        std::fs::write(&path, "{\"version\":3,\"folders\":[]}").unwrap();
        let error = Checkpoint::read(state.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Newer { version: 3, .. }), "{error}");
    }
}
