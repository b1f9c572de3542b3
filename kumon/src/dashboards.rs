//! The dashboards that come with KuMon, and the operator's own.

use std::path::{Path, PathBuf};
use std::{fs, io};

use kumon_dashboards::{Catalog, Dashboard, SourceError, SourceFile, builtin_sources, read};

use crate::config::Config;

/// All dashboards of a configuration, and what they can show.
pub(crate) struct Dashboards {
    pub(crate) dashboards: Vec<Dashboard>,
    pub(crate) catalog: Catalog,
    /// How many of them are the operator's own.
    pub(crate) own: usize,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DashboardsError {
    #[error("reading the dashboards in {} failed: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}", lines(.0))]
    Wrong(Vec<SourceError>),
}

fn lines(errors: &[SourceError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads them. A file in the folder takes the place of KuMon's own dashboard of the same name.
///
/// # Errors
/// When a file can't be read, or has mistakes: all of them.
pub(crate) fn load(config: &Config) -> Result<Dashboards, DashboardsError> {
    let folder = &config.path.dashboards;
    let own = own_sources(folder).map_err(|source| DashboardsError::Io { path: folder.clone(), source })?;
    let replaced = |file: &SourceFile| own.iter().any(|own| own.path.file_stem() == file.path.file_stem());
    let mut files: Vec<SourceFile> = builtin_sources().into_iter().filter(|file| !replaced(file)).collect();
    let number = own.len();
    files.extend(own);
    let datasets = config.inputs.iter().map(|input| input.dataset.as_str());
    let catalog = Catalog::builtin().clone().with_inputs(datasets);
    let dashboards = read(&files, &catalog).map_err(DashboardsError::Wrong)?;
    Ok(Dashboards { dashboards, catalog, own: number })
}

/// The folder's `*.yml`, ordered by name; none where there is no folder.
fn own_sources(folder: &Path) -> io::Result<Vec<SourceFile>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    paths.sort();
    paths.into_iter().map(|path| Ok(SourceFile { text: fs::read_to_string(&path)?, path })).collect()
}
