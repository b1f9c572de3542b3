//! What rotators leave beside a file: copies of its content, plain or compressed.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::open::open;
use crate::checkpoint::FileId;
use crate::content::Content;
use crate::content::unpack::{Unpacker, is_later, later};
use crate::file_position::FilePosition;

/// Another file with a known file's content.
#[derive(Debug)]
pub(crate) struct Copy {
    /// The name it is to be known by.
    pub(crate) path: PathBuf,
    /// The name it has.
    pub(crate) found: PathBuf,
    pub(crate) id: FileId,
    pub(crate) content: Content,
}

/// So often a folder is listed anew whose files come and go meanwhile.
const MAX_LISTINGS: usize = 10;

/// A copy of `original` (in its folder, under a name that rotators give) that holds what stood before the mark. Files
/// that are `known` by themselves are none. `open` opens it as far as that is safe.
///
/// # Errors
/// When the folder can't be read, too many files are open, or what may be the copy is still being decompressed.
pub(crate) fn find(
    original: &Path,
    mark: FilePosition,
    known: impl Fn(&FileId) -> bool,
    unpacker: &Arc<Unpacker>,
) -> io::Result<Option<Copy>> {
    let Some(folder) = original.parent() else { return Ok(None) };
    if mark.offset == 0 {
        // Nothing was seen of the file: everything, and hence nothing, is its copy.
        return Ok(None);
    }
    for _ in 0..MAX_LISTINGS {
        let (mut vanished, mut is_unknown) = (false, false);
        for path in candidates(folder, original, &known)? {
            match look_into(&path, mark, unpacker) {
                Ok(Some((id, content))) => {
                    return Ok(Some(Copy { path: original.to_owned(), found: path, id, content }));
                }
                Ok(None) => {}
                // Compressed just now, perhaps, into a file that was not there yet when the folder was listed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => vanished = true,
                // Another one may be it. All of them are to be decompressed in one go.
                Err(e) if is_later(&e) => is_unknown = true,
                // It may be the copy all the same.
                Err(e) if e.raw_os_error() == Some(libc::EMFILE) => return Err(e),
                Err(e) => log::debug!("{}: no copy of {}: {e}", path.display(), original.display()),
            }
        }
        if is_unknown {
            return Err(later());
        }
        if !vanished {
            break;
        }
    }
    Ok(None)
}

/// What may be copies by their names, the likeliest first.
fn candidates(
    folder: &Path,
    original: &Path,
    known: impl Fn(&FileId) -> bool,
) -> io::Result<impl Iterator<Item = PathBuf>> {
    let mut candidates = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !is_rotated(original, &path) {
            continue;
        }
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let changed = match entry.metadata() {
            Ok(metadata) if !metadata.is_file() || known(&FileId::of(&metadata)) => continue,
            Ok(metadata) => changed(&metadata),
            // That it vanished meanwhile shows again when it is looked into.
            Err(_) => SystemTime::UNIX_EPOCH,
        };
        candidates.push((is_packed, Reverse(changed), path));
    }
    // The plain ones cost nothing to look into, and of several the newest is the likeliest.
    candidates.sort();
    Ok(candidates.into_iter().map(|(.., path)| path))
}

fn look_into(
    path: &Path,
    mark: FilePosition,
    unpacker: &Arc<Unpacker>,
) -> io::Result<Option<(FileId, Content)>> {
    let file = open(path)?;
    let id = FileId::of(&file.metadata()?);
    let mut content = Content::of(file, unpacker, false)?;
    Ok(mark.stands_in(&mut content)?.then_some((id, content)))
}

fn changed(metadata: &fs::Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whether one name may be what a rotator made of the other, or both of a third: but for numbers, dates and the like
/// one begins as the other, as `app.log` and `app-20261121.log`, `app.log.2.gz` or `app.old`.
fn is_rotated(a: &Path, b: &Path) -> bool {
    let (Some(a), Some(b)) = (a.file_name(), b.file_name()) else { return false };
    a != b && core(&a.to_string_lossy()).zip(core(&b.to_string_lossy())).all(|(a, b)| a == b)
}

/// Whether a file of an input may be asked for the content of another one. Plain files with the same beginning may be
/// two, as two days' exports are; so their names have to be closer.
pub(crate) fn may_hold(content: &Content, path: &Path, other: &Path) -> bool {
    if content.is_plain() { has_same_base(path, other) } else { is_rotated(path, other) }
}

/// Whether the names are the same but for the marks at their ends, as `app.log`, `app.log.1` and `app.log.2.gz`.
fn has_same_base(a: &Path, b: &Path) -> bool {
    a.file_name() != b.file_name() && base_of(a) == base_of(b)
}

/// A file's name without the marks at its end: what it has in common with its plain copies.
pub(crate) fn base_of(path: &Path) -> String {
    base(&path.file_name().unwrap_or_default().to_string_lossy()).to_owned()
}

/// Whether `copy` is named as a rotator's copy of `original`: its whole name and a mark behind it.
pub(crate) fn is_named_after(copy: &Path, original: &Path) -> bool {
    let (Some(copy), Some(original)) = (copy.file_name(), original.file_name()) else { return false };
    let (copy, original) = (copy.to_string_lossy(), original.to_string_lossy());
    let rest = copy.strip_prefix(&*original).and_then(|rest| rest.strip_prefix(SEPARATORS));
    rest.is_some_and(|rest| core(rest).next().is_none())
}

const SEPARATORS: [char; 3] = ['.', '-', '_'];

/// A name's parts that are no rotator's marks.
fn core(name: &str) -> impl Iterator<Item = &str> {
    name.split(SEPARATORS).filter(|part| !is_mark(part))
}

fn base(mut name: &str) -> &str {
    while let Some((rest, _)) = name.rsplit_once(SEPARATORS).filter(|(_, part)| is_mark(part)) {
        name = rest;
    }
    name
}

fn is_mark(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_digit()) || matches!(part, "" | "gz" | "old" | "bak" | "prev")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{find, has_same_base, is_named_after, is_rotated};
    use crate::content::Content;
    use crate::content::unpack::Unpacker;
    use crate::file_position::FilePosition;

    #[test]
    fn a_copy_is_found_whichever_form_it_has_while_it_is_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let (original, plain) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let packed = folder.path().join("a.log.1.gz");
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        fs::write(&original, &text).unwrap();
        let mark =
            FilePosition::of(&mut Content::from(File::open(&original).unwrap()), 100).unwrap().unwrap();
        let compress = || {
            let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
            fs::remove_file(&plain).unwrap();
        };
        let unpacker = Unpacker::new(channel().0);
        for turn in 0..2000 {
            fs::write(&plain, &text).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(compress);
                let id = crate::checkpoint::FileId::of(&fs::metadata(&original).unwrap());
                unpacker.wait_for(Duration::from_secs(60));
                let copy = find(&original, mark, |other| *other == id, &unpacker).unwrap();
                assert!(copy.is_some(), "turn {turn}");
            });
            fs::remove_file(&packed).unwrap();
        }
    }

    #[test]
    fn names_that_rotators_give_are_told_from_others() {
        let rotated = |a: &str, b: &str| is_rotated(Path::new(a), Path::new(b));
        for copy in [
            "app.log.1",
            "app.log.2.gz",
            "app-20261121.log",
            "app.log-20261121T01:00.gz",
            "app.1.log",
            "app.log.old",
            "app.old",
        ] {
            assert!(rotated("/var/log/app.log", &format!("/var/log/{copy}")), "{copy}");
        }
        for other in ["app.log", "app-errors.log", "my-app.log.1", "app.csv"] {
            assert!(!rotated("/var/log/app.log", &format!("/var/log/{other}")), "{other}");
        }
        let same_base = |a: &str, b: &str| has_same_base(Path::new(a), Path::new(b));
        assert!(same_base("a/app.log.1", "a/app.log.2.gz") && same_base("a/x-1.csv", "a/x-1.csv.gz"));
        assert!(!same_base("a/x-1.csv", "a/x-2.csv") && !same_base("a/app.log", "a/app-1.log"));
        let named_after = |copy: &str, original: &str| is_named_after(Path::new(copy), Path::new(original));
        assert!(named_after("a/app.log.1", "a/app.log") && named_after("a/app.log.1.gz", "a/app.log.1"));
        assert!(!named_after("a/worker-2.log", "a/worker-1.log") && !named_after("a/app.log2", "a/app.log"));
    }
}
