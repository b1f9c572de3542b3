//! The files that are known during a look for others, found without going through all of them: there may be 100,000.

use std::collections::HashMap;
use std::path::Path;

use crate::checkpoint::FileId;
use crate::content::Content;
use crate::sources::inputs::rotated::base_of;
use crate::sources::source_file::Source;

/// Those from before the look, and those that it has found.
pub(crate) struct FileIndex<'a> {
    old: &'a mut [Source],
    found: Vec<Source>,
    ids: HashMap<FileId, usize>,
    /// By what their names have in common with those of their copies; made when it is first asked for.
    bases: Option<HashMap<String, Vec<usize>>>,
}

impl<'a> FileIndex<'a> {
    pub(crate) fn new(old: &'a mut [Source]) -> FileIndex<'a> {
        let ids = old.iter().enumerate().filter_map(|(index, source)| Some((source.foreign_id()?, index)));
        FileIndex { ids: ids.collect(), old, found: Vec::new(), bases: None }
    }

    pub(crate) fn push(&mut self, source: Source) {
        self.found.push(source);
        self.note(self.len() - 1);
    }

    /// The source of this file.
    pub(crate) fn file(&mut self, id: &FileId) -> Option<&mut Source> {
        let index = *self.ids.get(id)?;
        Some(self.get(index)).filter(|source| source.is_foreign_file(id))
    }

    pub(crate) fn has_file(&self, id: &FileId) -> bool {
        self.ids.get(id).is_some_and(|index| match index.checked_sub(self.old.len()) {
            Some(index) => self.found[index].is_foreign_file(id),
            None => self.old[*index].is_foreign_file(id),
        })
    }

    /// The sources that may have to do with a file of this name and content: only a compressed one may be that of a
    /// file whose name has other marks in its middle.
    pub(crate) fn candidates(&mut self, path: &Path, content: &Content) -> Vec<usize> {
        if !content.is_plain() {
            return (0..self.len()).collect();
        }
        let all = self.old.iter().chain(&self.found);
        let bases = self.bases.get_or_insert_with(|| {
            let mut bases: HashMap<String, Vec<usize>> = HashMap::new();
            for (index, source) in all.enumerate() {
                bases.entry(base_of(&source.tail.path)).or_default().push(index);
            }
            bases
        });
        bases.get(&base_of(path)).cloned().unwrap_or_default()
    }

    /// One of the [`candidates`](Self::candidates).
    pub(crate) fn get(&mut self, index: usize) -> &mut Source {
        match index.checked_sub(self.old.len()) {
            Some(index) => &mut self.found[index],
            None => &mut self.old[index],
        }
    }

    /// Takes note of the file of a source: to be called when one has gone on in another file.
    pub(crate) fn note(&mut self, index: usize) {
        let source = self.get(index);
        let (id, base) = (source.foreign_id(), base_of(&source.tail.path));
        self.ids.extend(id.map(|id| (id, index)));
        if let Some(bases) = &mut self.bases {
            bases.entry(base).or_default().push(index);
        }
    }

    /// Those that the look has found.
    pub(crate) fn into_found(self) -> Vec<Source> {
        self.found
    }

    fn len(&self) -> usize {
        self.old.len() + self.found.len()
    }
}
