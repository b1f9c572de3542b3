//! The names that an input's pattern stands for.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use glob::{Pattern, PatternError};

use crate::options::Input;

/// A path with wildcards. Within a name stand `*`, `?`, `[a-z]` and `[!a-z]`, none of which matches a `/`; `**` stands
/// for any number of folders, at the end for all that is in them. A name with brackets also stands for itself: people
/// name folders so, and forget what brackets mean here.
#[derive(Debug, Clone)]
pub(crate) struct PathPattern {
    /// Where it begins.
    pub(crate) root: PathBuf,
    pub(crate) parts: Vec<Part>,
}

/// What one part of a path has to be.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// This very name.
    Name(OsString),
    /// A name that one of these matches.
    Wild(Vec<Pattern>),
    /// `**`: folders, or none.
    Folders,
}

/// The first of the inputs' patterns that is none.
pub(crate) fn bad_pattern(inputs: &[Input]) -> Option<(&str, PatternError)> {
    let mut patterns = inputs.iter().flat_map(|input| &input.paths);
    patterns.find_map(|pattern| Some((pattern.as_str(), PathPattern::new(pattern).err()?)))
}

impl PathPattern {
    /// # Errors
    /// When a bracket has no end, or `**` stands beside something else in one name.
    pub(crate) fn new(pattern: &str) -> Result<PathPattern, PatternError> {
        Pattern::new(pattern)?;
        let path = Path::new(pattern);
        let root = if path.is_absolute() { "/" } else { "." };
        let mut parts = Vec::new();
        for name in names(path) {
            let part = Part::new(&name.to_string_lossy())?;
            // Two of them are no more than one.
            if !matches!((&part, parts.last()), (Part::Folders, Some(Part::Folders))) {
                parts.push(part);
            }
        }
        if let Some(Part::Folders) = parts.last() {
            parts.push(Part::new("*")?);
        }
        Ok(PathPattern { root: root.into(), parts })
    }

    pub(crate) fn matches(&self, path: &Path) -> bool {
        let names: Vec<&OsStr> = names(path).collect();
        matches(&self.parts, &names)
    }
}

fn matches(parts: &[Part], names: &[&OsStr]) -> bool {
    match (parts, names) {
        ([], []) => true,
        ([Part::Folders, rest @ ..], _) => {
            (0..names.len()).any(|folders| matches(rest, &names[folders..])) || matches(rest, &[])
        }
        ([part, parts @ ..], [name, names @ ..]) => part.matches(name) && matches(parts, names),
        _ => false,
    }
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    })
}

impl Part {
    fn new(text: &str) -> Result<Part, PatternError> {
        if text == "**" {
            return Ok(Part::Folders);
        }
        if !text.contains(['*', '?', '[']) {
            return Ok(Part::Name(text.into()));
        }
        let mut patterns = vec![Pattern::new(text)?];
        if text.contains('[') {
            patterns.push(Pattern::new(&text.replace('[', "[[]"))?);
        }
        Ok(Part::Wild(patterns))
    }

    /// Whether a name is meant; one that is not UTF-8 is taken for what it is shown as.
    pub(crate) fn matches(&self, name: &OsStr) -> bool {
        match self {
            Part::Name(own) => own == name,
            Part::Wild(patterns) => {
                let name = name.to_string_lossy();
                patterns.iter().any(|pattern| pattern.matches(&name))
            }
            Part::Folders => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::PathPattern;

    #[test]
    fn a_pattern_stands_for_names_within_their_folders_and_for_brackets_as_they_are() {
        for (pattern, is, is_not) in [
            ("/in/*.log", "/in/a.log /in/.a.log /in/[x].log", "/in/sub/a.log /a.log /in/a.log/b /in/a.txt"),
            ("/in/?.log", "/in/a.log /in/ä.log", "/in/ab.log /in//.log"),
            ("/in/*/app.log", "/in/a/app.log", "/in/app.log /in/a/b/app.log"),
            ("//in/./a.log", "/in/a.log", "/in/b.log"),
            ("/in/[ab].log", "/in/a.log /in/[ab].log", "/in/c.log /in/ab.log"),
            ("/in/[!ab].log", "/in/c.log /in/[!ab].log", "/in/a.log"),
            ("/in/[prod]/*.log", "/in/[prod]/a.log /in/p/a.log", "/in/prod/a.log /in/[prod]/b/a.log"),
            ("/in/[prod]*.log", "/in/[prod]a.log /in/papp.log", "/in/app.log"),
            ("/in/a]b", "/in/a]b", "/in/ab"),
            ("/in/**/*.log", "/in/a.log /in/b/a.log /in/b/c/a.log", "/in/a.txt /out/a.log"),
            ("/in/**", "/in/a /in/b/c", "/in /out/a"),
            ("/in/**/**/x/*", "/in/x/a /in/b/x/a /in/x/x/a", "/in/x /in/x/b/a"),
        ] {
            let it = PathPattern::new(pattern).unwrap();
            for path in is.split(' ') {
                assert!(it.matches(Path::new(path)), "{pattern} {path}");
            }
            for path in is_not.split(' ') {
                assert!(!it.matches(Path::new(path)), "{pattern} {path}");
            }
        }
        for none in ["/in/[a.log", "/in/a**", "/in/***"] {
            assert!(PathPattern::new(none).is_err(), "{none}");
        }
    }
}
