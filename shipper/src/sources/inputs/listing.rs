//! What lies under the inputs' names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::pattern::{Part, PathPattern};
use crate::checkpoint::FileId;
use crate::content::FileState;
use crate::options::Input;
use crate::sources::source::{Folders, Interest};

/// One look at the names of all inputs' files. Each file is asked for once: where there are thousands, that is what
/// waiting costs.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By input: its number, the file's name, and which file that is.
    pub(crate) files: Vec<(usize, PathBuf, FileId)>,
    /// The folders in which something may appear; of one that isn't there, the first above it that is.
    pub(crate) folders: Folders,
    /// What can't be looked at, with the reason.
    pub(crate) unreadable: BTreeMap<PathBuf, String>,
    /// Patterns that match no file, with the reason.
    pub(crate) empty: BTreeMap<String, String>,
    /// Where each file's first name is in `files`, and its state.
    seen: HashMap<FileId, (usize, FileState)>,
}

/// A known file as it was listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) state: FileState,
    /// Whether it has the name that it is known by.
    pub(crate) is_named: bool,
}

impl Listing {
    pub(crate) fn of(inputs: &[Input]) -> Listing {
        let mut listing = Listing::default();
        for (number, input) in inputs.iter().enumerate() {
            for text in &input.paths {
                let Ok(pattern) = PathPattern::new(text) else { continue };
                let before = (listing.files.len(), listing.unreadable.len());
                listing.walk(number, &pattern.root, &pattern.parts);
                if before == (listing.files.len(), listing.unreadable.len()) {
                    listing.empty.insert(text.clone(), why_empty(&pattern));
                }
            }
        }
        listing
    }

    /// Takes note of what the parts stand for in a folder.
    fn walk(&mut self, input: usize, folder: &Path, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else { return };
        match part {
            _ if rest.is_empty() => self.watch(folder, Interest::Files),
            // What is there tells itself when it goes. A folder that many use, as /tmp, would wake for each of them.
            Part::Name(name) if folder.join(name).is_dir() => {}
            Part::Name(name) => self.watch(folder, Interest::Names(BTreeSet::from([name.clone()]))),
            Part::Wild(_) | Part::Folders => self.watch(folder, Interest::AnyName),
        }
        match part {
            Part::Name(name) => self.step(input, folder.join(name), rest),
            Part::Wild(_) => {
                for name in self.names(folder).into_iter().filter(|name| part.matches(name)) {
                    self.step(input, folder.join(name), rest);
                }
            }
            Part::Folders => {
                self.walk(input, folder, rest);
                for name in self.names(folder) {
                    let path = folder.join(name);
                    // No links: they may lead round in a circle.
                    if fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
                        self.walk(input, &path, parts);
                    }
                }
            }
        }
    }

    /// Goes on with what one part stands for.
    fn step(&mut self, input: usize, path: PathBuf, rest: &[Part]) {
        match fs::metadata(&path) {
            Ok(metadata) if rest.is_empty() && metadata.is_file() => self.note(input, path, &metadata),
            Ok(metadata) if !rest.is_empty() && metadata.is_dir() => self.walk(input, &path, rest),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => _ = self.unreadable.insert(path, format!("can't be opened: {e}")),
        }
    }

    /// The names in a folder, in their order.
    fn names(&mut self, folder: &Path) -> Vec<OsString> {
        let listed = fs::read_dir(folder).and_then(|all| all.map(|entry| Ok(entry?.file_name())).collect());
        let mut names: Vec<OsString> = listed.unwrap_or_else(|e: io::Error| {
            if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                self.unreadable.insert(folder.to_owned(), format!("can't be listed: {e}"));
            }
            Vec::new()
        });
        names.sort_unstable();
        names
    }

    fn watch(&mut self, folder: &Path, more: Interest) {
        match (self.folders.get_mut(folder), more) {
            (None, more) => _ = self.folders.insert(folder.to_owned(), more),
            (Some(Interest::Names(names)), Interest::Names(more)) => names.extend(more),
            (Some(interest @ Interest::Names(_)), more) => *interest = more,
            (Some(interest), Interest::Files) => *interest = Interest::Files,
            _ => {}
        }
    }

    fn note(&mut self, input: usize, path: PathBuf, metadata: &fs::Metadata) {
        if path.to_str().is_none() {
            let why = "its name is not UTF-8, which neither JSON nor Elasticsearch can hold; rename it or a \
                       folder above it";
            self.unreadable.insert(path, why.to_owned());
            return;
        }
        let id = FileId::of(metadata);
        if let Ok(modified) = metadata.modified() {
            self.seen.entry(id).or_insert((self.files.len(), (metadata.len(), modified)));
        }
        self.files.push((input, path, id));
    }

    /// This file, known by that name, if it is listed.
    pub(crate) fn seen(&self, id: &FileId, path: &Path) -> Option<Seen> {
        let (file, state) = *self.seen.get(id)?;
        Some(Seen { state, is_named: self.files[file].1 == path })
    }
}

/// What is missing where a pattern matches no file, as far as its folders are named.
fn why_empty(pattern: &PathPattern) -> String {
    let mut folder = pattern.root.clone();
    for part in pattern.parts.split_last().map_or(&[][..], |(_, folders)| folders) {
        let Part::Name(name) = part else { break };
        folder.push(name);
        if !folder.is_dir() {
            return format!("matches no file: there is no folder {}", folder.display());
        }
    }
    "matches no file".to_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::{Interest, Listing};
    use crate::decode::{Encoding, Times};
    use crate::options::{Format, Input};

    #[test]
    fn files_are_found_under_wildcards_at_any_depth_and_folders_where_more_may_come_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in ["a.log", "b/a.log", "b/c/a.log", "[prod]/a.log", "b/c/a.txt"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        symlink(root, root.join("b/round")).unwrap();
        let list = |pattern: &str| {
            let paths = vec![format!("{}/{pattern}", root.display())];
            let (format, dataset) = (Format::Ndjson, "a".to_owned());
            Listing::of(&[Input {
                paths,
                format,
                schema: None,
                dataset,
                timestamp_field: None,
                times: Times::default(),
                encoding: Encoding::default(),
                dialect: crate::options::Dialect::default(),
                max_record: None,
            }])
        };
        let relative = |listing: &Listing| -> Vec<String> {
            let names = listing.files.iter().map(|(_, path, _)| path.strip_prefix(root).unwrap());
            names.map(|name| name.to_str().unwrap().to_owned()).collect()
        };
        for (pattern, expected) in [
            ("*.log", &["a.log"][..]),
            ("*/a.log", &["[prod]/a.log", "b/a.log"]),
            ("*/*/a.log", &["b/c/a.log", "b/round/a.log"]),
            ("**/*.log", &["a.log", "[prod]/a.log", "b/a.log", "b/c/a.log"]),
            ("b/**", &["b/a.log", "b/c/a.log", "b/c/a.txt"]),
            ("[prod]/a.log", &["[prod]/a.log"]),
            ("[ab]/*.log", &["b/a.log"]),
            ("none/*/a.log", &[]),
        ] {
            assert_eq!(relative(&list(pattern)), expected, "{pattern}");
        }
        let folders = list("*/c/*.log").folders;
        let interest = |name: &str| folders.get(&root.join(name));
        assert_eq!(interest(""), Some(&Interest::AnyName));
        assert_eq!(interest("[prod]"), Some(&Interest::Names([OsStr::new("c").to_owned()].into())));
        assert_eq!((interest("b"), interest("b/c")), (None, Some(&Interest::Files)));
        assert!(root.ancestors().skip(1).all(|above| !folders.contains_key(above)), "{folders:?}");

        let empty = |pattern: &str| list(pattern).empty.into_values().next().unwrap_or_default();
        assert_eq!((empty("*.log"), empty("*.csv")), (String::new(), "matches no file".to_owned()));
        let missing = format!("matches no file: there is no folder {}", root.join("b/none").display());
        assert_eq!(
            (empty("b/none/*/a.log"), empty("b/*/none/a.log")),
            (missing, "matches no file".to_owned())
        );

        fs::write(root.join(OsStr::from_bytes(b"caf\xe9.log")), "").unwrap();
        let listing = list("*.log");
        assert_eq!(relative(&listing), ["a.log"]);
        let why = listing.unreadable.values().next().unwrap();
        assert!(why.contains("not UTF-8"), "{why}");
    }
}
