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
    #[error("reading dashboards failed: {}: {source}", path.display())]
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
    read_with(&own_sources(&config.path.dashboards)?, config).map_err(DashboardsError::Wrong)
}

/// Those that are right, and what is wrong with the others: dashboards are needed most when something is.
pub(crate) fn load_usable(config: &Config) -> (Vec<Dashboard>, Option<DashboardsError>) {
    let mut own = match own_sources(&config.path.dashboards) {
        Ok(own) => own,
        Err(e) => return (kumon_dashboards::builtin().to_vec(), Some(e)),
    };
    let mut wrong = Vec::new();
    loop {
        let errors = match read_with(&own, config) {
            Ok(found) => {
                let error = (!wrong.is_empty()).then_some(DashboardsError::Wrong(wrong));
                return (found.dashboards, error);
            }
            Err(errors) => errors,
        };
        // What links to a dashboard that is left out is wrong in the next round.
        let before = own.len();
        own.retain(|file| errors.iter().all(|error| error.path != file.path));
        wrong.extend(errors);
        if own.is_empty() || own.len() == before {
            return (kumon_dashboards::builtin().to_vec(), Some(DashboardsError::Wrong(wrong)));
        }
    }
}

fn read_with(own: &[SourceFile], config: &Config) -> Result<Dashboards, Vec<SourceError>> {
    let replaced = |file: &SourceFile| own.iter().any(|own| own.path.file_stem() == file.path.file_stem());
    let mut files: Vec<SourceFile> = builtin_sources().into_iter().filter(|file| !replaced(file)).collect();
    files.extend_from_slice(own);
    let datasets = config.inputs.iter().map(|input| input.dataset.as_str());
    let catalog = Catalog::builtin().clone().with_inputs(datasets);
    let dashboards = read(&files, &catalog)?;
    Ok(Dashboards { dashboards, catalog, own: own.len() })
}

/// The folder's `*.yml`, ordered by name; none where there is no folder.
fn own_sources(folder: &Path) -> Result<Vec<SourceFile>, DashboardsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DashboardsError::Io { path, source }
    };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(folder))?,
    };
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>();
    let mut paths = paths.map_err(failed(folder))?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yml"));
    paths.sort();
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        Ok(SourceFile { text, path })
    };
    paths.into_iter().map(source).collect()
}
