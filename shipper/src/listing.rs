//! What lies under the inputs' names.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::FileId;
use crate::options::Input;

/// One look at the names of all inputs' files. Each file is asked for once: where there are thousands, that is what
/// waiting costs.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By input: its number, the file's name, and which file that is.
    pub(crate) files: Vec<(usize, PathBuf, FileId)>,
    /// The folders in which files may appear.
    pub(crate) folders: Vec<PathBuf>,
    /// What can't be looked at, with the reason.
    pub(crate) unreadable: BTreeMap<PathBuf, String>,
    /// Where each file's first name is in `files`, and its state.
    seen: HashMap<FileId, (usize, State)>,
}

/// A file's size in bytes, and when it was last modified.
pub(crate) type State = (u64, SystemTime);

/// A known file as it was listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// Whether it has the name that it is known by.
    pub(crate) is_named: bool,
}

impl Listing {
    pub(crate) fn of(inputs: &[Input]) -> Listing {
        let mut listing = Listing::default();
        for (number, input) in inputs.iter().enumerate() {
            for pattern in &input.paths {
                let parent = Path::new(pattern).parent().filter(|parent| parent.is_dir());
                listing.folders.extend(parent.map(Path::to_owned));
                for path in glob::glob(pattern).into_iter().flatten() {
                    match path {
                        Ok(path) => listing.note(number, path),
                        Err(e) => {
                            let why = format!("can't be listed: {}", e.error());
                            listing.unreadable.insert(e.path().to_owned(), why);
                        }
                    }
                }
            }
        }
        listing.folders.sort();
        listing.folders.dedup();
        listing
    }

    fn note(&mut self, input: usize, path: PathBuf) {
        if let Some(parent) = path.parent()
            // Those of one folder come one after the other.
            && self.folders.last().is_none_or(|last| last != parent)
        {
            self.folders.push(parent.to_owned());
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let id = FileId::of(&metadata);
                if let Ok(modified) = metadata.modified() {
                    self.seen.entry(id).or_insert((self.files.len(), (metadata.len(), modified)));
                }
                self.files.push((input, path, id));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => _ = self.unreadable.insert(path, format!("can't be opened: {e}")),
        }
    }

    /// This file, known by that name, if it is listed.
    pub(crate) fn seen(&self, id: &FileId, path: &Path) -> Option<Seen> {
        let (file, state) = *self.seen.get(id)?;
        Some(Seen { state, is_named: self.files[file].1 == path })
    }
}
