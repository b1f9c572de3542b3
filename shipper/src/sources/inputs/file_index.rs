//! The files that are known during a look for others, found without going through all of them: there may be 100,000.

use std::collections::HashMap;
use std::path::Path;

use super::file::InputFile;
use super::rotated::base_of;
use crate::checkpoint::FileId;
use crate::content::Content;

/// Those from before the look, and those that it has found.
pub(crate) struct FileIndex<'a> {
    old: &'a mut [InputFile],
    found: Vec<InputFile>,
    ids: HashMap<FileId, usize>,
    /// By what their names have in common with those of their copies; made when it is first asked for.
    bases: Option<HashMap<String, Vec<usize>>>,
}

impl<'a> FileIndex<'a> {
    pub(crate) fn new(old: &'a mut [InputFile]) -> FileIndex<'a> {
        let ids = old.iter().enumerate().filter_map(|(index, file)| Some((file.id()?, index)));
        FileIndex { ids: ids.collect(), old, found: Vec::new(), bases: None }
    }

    pub(crate) fn push(&mut self, file: InputFile) {
        self.found.push(file);
        self.note(self.len() - 1);
    }

    /// This file.
    pub(crate) fn file(&mut self, id: &FileId) -> Option<&mut InputFile> {
        let index = *self.ids.get(id)?;
        Some(self.get(index)).filter(|file| file.is_file(id))
    }

    pub(crate) fn has_file(&self, id: &FileId) -> bool {
        self.ids.get(id).is_some_and(|index| match index.checked_sub(self.old.len()) {
            Some(index) => self.found[index].is_file(id),
            None => self.old[*index].is_file(id),
        })
    }

    /// Those that may have to do with a file of this name and content: only a compressed one may be that of a
    /// file whose name has other marks in its middle.
    pub(crate) fn candidates(&mut self, path: &Path, content: &Content) -> Vec<usize> {
        if !content.is_plain() {
            return (0..self.len()).collect();
        }
        let all = self.old.iter().chain(&self.found);
        let bases = self.bases.get_or_insert_with(|| {
            let mut bases: HashMap<String, Vec<usize>> = HashMap::new();
            for (index, file) in all.enumerate() {
                bases.entry(base_of(&file.base.tail.path)).or_default().push(index);
            }
            bases
        });
        bases.get(&base_of(path)).cloned().unwrap_or_default()
    }

    /// One of the [`candidates`](Self::candidates).
    pub(crate) fn get(&mut self, index: usize) -> &mut InputFile {
        match index.checked_sub(self.old.len()) {
            Some(index) => &mut self.found[index],
            None => &mut self.old[index],
        }
    }

    /// Takes note of a file anew: to be called when it has gone on in another file.
    pub(crate) fn note(&mut self, index: usize) {
        let file = self.get(index);
        let (id, base) = (file.id(), base_of(&file.base.tail.path));
        self.ids.extend(id.map(|id| (id, index)));
        if let Some(bases) = &mut self.bases {
            bases.entry(base).or_default().push(index);
        }
    }

    /// Those that the look has found.
    pub(crate) fn into_found(self) -> Vec<InputFile> {
        self.found
    }

    fn len(&self) -> usize {
        self.old.len() + self.found.len()
    }
}
