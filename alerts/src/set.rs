//! The alerts that there are: those that KuMon brings, and a user's own files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

use crate::alert::Alert;
use crate::source::{AlertError, Draft, Override, nearest};

/// The files of `elk/alerts/`, compiled in.
const SHIPPED: [(&str, &str); 8] = [
    ("agent-losses.yml", include_str!("../../elk/alerts/agent-losses.yml")),
    ("disk-latency.yml", include_str!("../../elk/alerts/disk-latency.yml")),
    ("failed-execs.yml", include_str!("../../elk/alerts/failed-execs.yml")),
    ("node-silent.yml", include_str!("../../elk/alerts/node-silent.yml")),
    ("run-queue-latency.yml", include_str!("../../elk/alerts/run-queue-latency.yml")),
    ("short-lived-files.yml", include_str!("../../elk/alerts/short-lived-files.yml")),
    ("slow-queries.yml", include_str!("../../elk/alerts/slow-queries.yml")),
    ("tcp-failures.yml", include_str!("../../elk/alerts/tcp-failures.yml")),
];

/// What the configuration says about which alerts there are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// A user's own files, `*.yml`. One with a shipped alert's name takes its place.
    pub folder: PathBuf,
    /// Alerts that are off.
    pub disabled: Vec<String>,
    /// Changes by alert.
    pub r#override: BTreeMap<String, Override>,
}

impl Default for Selection {
    fn default() -> Selection {
        Selection { folder: "/etc/kumon/alerts".into(), disabled: Vec::new(), r#override: BTreeMap::new() }
    }
}

/// All alerts, by name; those that are off have `enabled` false. `datasets` are those of foreign inputs.
///
/// # Errors
/// When a file can't be read, an alert can't be used, or the configuration names one that there isn't.
pub fn alerts(selection: &Selection, datasets: &[&str]) -> Result<Vec<Alert>, AlertError> {
    let mut drafts = BTreeMap::new();
    for (file, text) in SHIPPED {
        let draft = Draft::parse(&Path::new("elk/alerts").join(file), text)?;
        drafts.insert(draft.name().to_owned(), draft);
    }
    for file in files(&selection.folder)? {
        let text = fs::read_to_string(&file).map_err(|e| unreadable(&file, &e))?;
        let draft = Draft::parse(&file, &text)?;
        drafts.insert(draft.name().to_owned(), draft);
    }
    let known: Vec<String> = drafts.keys().cloned().collect();
    let there = |key: &str, name: &str| {
        let near = nearest(name, known.iter().map(String::as_str));
        let hint = near.map_or_else(
            || format!("there are {}", known.join(", ")),
            |near| format!("did you mean '{near}'?"),
        );
        let place = format!("the configuration, alerts.{key}");
        AlertError { place, message: format!("there is no alert '{name}'; {hint}") }
    };
    for (name, change) in &selection.r#override {
        drafts.get_mut(name).ok_or_else(|| there("override", name))?.overlay(change);
    }
    for name in &selection.disabled {
        let off = Override { enabled: Some(false), ..Override::default() };
        drafts.get_mut(name).ok_or_else(|| there("disabled", name))?.overlay(&off);
    }
    drafts.into_values().map(|draft| draft.check(datasets)).collect()
}

/// The folder's `*.yml`, by name; none where there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, AlertError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| unreadable(folder, &e))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|e| unreadable(folder, &e))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &io::Error) -> AlertError {
    AlertError { place: path.display().to_string(), message: format!("can't be read: {error}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::{Override, SHIPPED, Selection, alerts};

    #[test]
    fn every_shipped_file_is_compiled_in_and_valid() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../elk/alerts");
        let names =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let shipped: BTreeSet<String> = SHIPPED.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names.collect::<BTreeSet<_>>(), shipped);
        let selection = Selection { folder: "/nowhere".into(), ..Selection::default() };
        let alerts = alerts(&selection, &[]).unwrap();
        assert_eq!(alerts.len(), SHIPPED.len());
        assert!(alerts.iter().all(|alert| alert.enabled && !alert.description.is_empty()));
    }

    #[test]
    fn own_files_take_the_place_of_shipped_ones_and_each_can_be_off() {
        let folder = tempfile::tempdir().unwrap();
        let own = "title: Mine\nmetric: exec\naggregation: count\nthreshold: '> 1000'\nseverity: info\n";
        fs::write(folder.path().join("disk-latency.yml"), own).unwrap();
        fs::write(folder.path().join("my-execs.yml"), own).unwrap();
        fs::write(folder.path().join("README"), "not an alert").unwrap();
        let mut selection = Selection { folder: folder.path().into(), ..Selection::default() };
        selection.disabled.push("my-execs".into());
        selection
            .r#override
            .insert("node-silent".into(), Override { enabled: Some(false), ..Override::default() });
        let alerts = alerts(&selection, &[]).unwrap();
        assert_eq!(alerts.len(), SHIPPED.len() + 1);
        let off: Vec<&str> = alerts.iter().filter(|a| !a.enabled).map(|a| a.name.as_str()).collect();
        assert_eq!(off, ["my-execs", "node-silent"]);
        assert_eq!(alerts[1].title, "Mine");
    }

    #[test]
    fn an_unknown_name_in_the_configuration_is_an_error() {
        let selection = Selection {
            folder: "/nowhere".into(),
            disabled: vec!["disk-latncy".into()],
            ..Selection::default()
        };
        let message = alerts(&selection, &[]).unwrap_err().to_string();
        assert_eq!(
            message,
            "the configuration, alerts.disabled: there is no alert 'disk-latncy'; did you mean 'disk-latency'?"
        );
    }
}
