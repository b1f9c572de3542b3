//! The names of spool files, and listing them.

use std::fmt;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kumon_schema::Format;

use nix::libc;

use crate::folder::Folder;

/// The name of a spool file: `<metric>-<id>.v<version>.csv` or `….ndjson`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// 14 hex digits of the time of creation (Unix µs) and 14 random ones: ordered in time and unique across
    /// hosts, since document ids are made of it.
    pub id: String,
    pub metric: String,
    /// Version of the metric's schema.
    pub version: u32,
    pub format: Format,
}

/// A file found in the spool. Ordered by age, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpoolFile {
    pub name: FileName,
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

impl FileName {
    /// A name for a new file of `metric`.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub(crate) fn new(metric: &str, version: u32, format: Format) -> io::Result<FileName> {
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = getrandom::u64().map_err(io::Error::from)?;
        Ok(FileName {
            id: format!("{:014x}{:014x}", age.as_micros(), random >> 8),
            metric: metric.to_owned(),
            version,
            format,
        })
    }

    /// Reads a file's name; `None` for anything that is no spool file.
    pub fn parse(name: &str) -> Option<FileName> {
        let formats = [Format::Csv, Format::Ndjson].into_iter();
        let (rest, format) =
            formats.map(|it| (name.strip_suffix(suffix(it)), it)).find(|it| it.0.is_some())?;
        let (stem, version) = rest?.rsplit_once(".v")?;
        let (metric, id) = stem.rsplit_once('-')?;
        let well_formed =
            id.len() == 28 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !metric.starts_with('.');
        well_formed.then_some(FileName {
            id: id.to_owned(),
            metric: metric.to_owned(),
            version: version.parse().ok()?,
            format,
        })
    }

    /// Where the file is, under the spool folder `root`.
    pub fn path(&self, root: &Path) -> PathBuf {
        root.join(&self.metric).join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.v{}{}", self.metric, self.id, self.version, suffix(self.format))
    }
}

fn suffix(format: Format) -> &'static str {
    match format {
        Format::Csv => ".csv",
        Format::Ndjson => ".ndjson",
    }
}

/// Where the schema text of a version is kept beside the files.
pub fn sidecar(root: &Path, metric: &str, version: u32) -> PathBuf {
    root.join(metric).join(format!("schema-v{version}.json"))
}

/// Puts a file with this content in the place of `path`, in one step. The other side's user may write to the same
/// folder: what it put at `new` is not followed anywhere else, nor is what it made of the folder meanwhile. Where it is not
/// `durable`, what a power cut takes of it must be made or sent again.
pub(crate) fn replace(path: &Path, new: &Path, content: &[u8], durable: bool) -> io::Result<()> {
    let folder = Folder::of(new)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(folder.join(new))?;
    file.write_all(content)?;
    if durable {
        file.sync_data()?;
    }
    fs::rename(folder.join(new), folder.join(path))
}

/// Deletes a file of the spool; as [`open`], in its own folder only.
///
/// # Errors
/// When it can't be deleted.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(Folder::of(path)?.join(path))
}

/// Opens a file of the spool. The other side's user may write to the folders: a link or a pipe that it puts in the place
/// of a file, or a link in that of a folder, must lend it nobody's rights and hold up nobody.
///
/// # Errors
/// When it can't be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

pub(crate) fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let folder = Folder::of(path)?;
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(folder.join(path))?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The whole content of a file of the spool, as [`open`] opens it.
///
/// # Errors
/// When it can't be opened or read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// All files of all metrics, oldest first. Links are none, and files that vanish meanwhile are left out.
///
/// # Errors
/// When a folder can't be read.
pub fn list(root: &Path) -> io::Result<Vec<SpoolFile>> {
    let mut files = Vec::new();
    for entry in entries(root)? {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().and_then(FileName::parse) else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_symlink() => {}
            Ok(metadata) => files.push(SpoolFile { name, path: entry.path(), size: metadata.len() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    files.sort();
    Ok(files)
}

/// Whatever lies in the metrics' folders.
///
/// # Errors
/// When one can't be read.
pub(crate) fn entries(root: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if folder.file_type()?.is_dir() {
            let inside = fs::read_dir(folder.path())?;
            entries.extend(inside.collect::<io::Result<Vec<_>>>()?);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use kumon_schema::Format;

    use super::FileName;

    #[test]
    fn names_are_read_back_and_strangers_are_not() {
        for format in [Format::Csv, Format::Ndjson] {
            let name = FileName::new("runqlat_hist", 12, format).unwrap();
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for stranger in
            ["exec.csv", "schema-v1.json", "exec-0123.v1.csv", ".exec-0123456789abcdef0123456789ab.v1.csv"]
        {
            assert_eq!(FileName::parse(stranger), None, "{stranger}");
        }
    }
}
