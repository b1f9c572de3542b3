//! The alerts that there are: those that KuMon brings, and a user's own files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use kumon_query::did_you_mean;
use serde::Deserialize;

use crate::alert::Alert;
use crate::source::{AlertError, Draft, Override};

/// The files of `elk/alerts/`, compiled in.
const SHIPPED: [(&str, &str); 17] = [
    ("agent-losses.yml", include_str!("../../elk/alerts/agent-losses.yml")),
    ("container-oom.yml", include_str!("../../elk/alerts/container-oom.yml")),
    ("container-throttled.yml", include_str!("../../elk/alerts/container-throttled.yml")),
    ("cpu-usage.yml", include_str!("../../elk/alerts/cpu-usage.yml")),
    ("disk-latency.yml", include_str!("../../elk/alerts/disk-latency.yml")),
    ("disk-space.yml", include_str!("../../elk/alerts/disk-space.yml")),
    ("failed-execs.yml", include_str!("../../elk/alerts/failed-execs.yml")),
    ("filesystem-read-only.yml", include_str!("../../elk/alerts/filesystem-read-only.yml")),
    ("inodes.yml", include_str!("../../elk/alerts/inodes.yml")),
    ("memory-pressure.yml", include_str!("../../elk/alerts/memory-pressure.yml")),
    ("memory-usage.yml", include_str!("../../elk/alerts/memory-usage.yml")),
    ("node-silent.yml", include_str!("../../elk/alerts/node-silent.yml")),
    ("packet-drops.yml", include_str!("../../elk/alerts/packet-drops.yml")),
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

/// The alerts that there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alerts {
    /// By name; those that are off have `enabled` false.
    pub usable: Vec<Alert>,
    /// What is left out, so that the others are not.
    pub wrong: Vec<Wrong>,
}

/// Something that can't be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Wrong {
    /// The alert that is left out; none where the mistake is in no alert.
    pub alert: Option<String>,
    pub error: AlertError,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.alert {
            Some(alert) => write!(f, "the alert {alert} is left out: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

/// All alerts. `datasets` are those of foreign inputs. What is wrong leaves out the alert that it is in, also where
/// that has the name of a shipped one: whoever replaces an alert doesn't want the one that was replaced.
pub fn alerts(selection: &Selection, datasets: &[&str]) -> Alerts {
    let mut drafts: BTreeMap<String, Result<Draft, AlertError>> = BTreeMap::new();
    for (file, text) in SHIPPED {
        let file = Path::new("elk/alerts").join(file);
        drafts.insert(stem(&file), Draft::parse(&file, text));
    }
    let mut wrong = Vec::new();
    match files(&selection.folder) {
        Ok(files) => drafts.extend(files.iter().map(|file| (stem(file), read(file)))),
        Err(error) => wrong.push(Wrong { alert: None, error }),
    }
    configure(&mut drafts, selection, &mut wrong);
    let mut usable = Vec::new();
    for (name, draft) in drafts {
        match draft.and_then(|draft| draft.check(datasets)) {
            Ok(alert) => usable.push(alert),
            Err(error) => wrong.push(Wrong { alert: Some(name), error }),
        }
    }
    Alerts { usable, wrong }
}

/// Applies what the configuration changes.
fn configure(
    drafts: &mut BTreeMap<String, Result<Draft, AlertError>>,
    selection: &Selection,
    wrong: &mut Vec<Wrong>,
) {
    let off = Override { enabled: Some(false), ..Override::default() };
    let disabled = selection.disabled.iter().map(|name| ("disabled", name, &off));
    let changes = selection.r#override.iter().map(|(name, change)| ("override", name, change));
    for (key, name, change) in changes.chain(disabled) {
        match drafts.get_mut(name) {
            Some(Ok(draft)) => draft.overlay(change),
            // Its own mistake is told.
            Some(Err(_)) => {}
            None => {
                let place = format!("the configuration, alerts.{key}");
                let message = unknown(name, drafts.keys().map(String::as_str));
                wrong.push(Wrong { alert: None, error: AlertError { place, message } });
            }
        }
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint = did_you_mean(name, known.clone())
        .unwrap_or_else(|| format!("there are {}", known.collect::<Vec<_>>().join(", ")));
    format!("there is no alert '{name}'; {hint}")
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(file: &Path) -> Result<Draft, AlertError> {
    let text = fs::read_to_string(file).map_err(|e| unreadable(file, &e))?;
    Draft::parse(file, &text)
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
        let alerts = alerts(&selection, &[]);
        assert_eq!((alerts.usable.len(), alerts.wrong), (SHIPPED.len(), Vec::new()));
        assert!(alerts.usable.iter().all(|alert| alert.enabled && !alert.description.is_empty()));
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
        let alerts = alerts(&selection, &[]).usable;
        assert_eq!(alerts.len(), SHIPPED.len() + 1);
        let off: Vec<&str> = alerts.iter().filter(|a| !a.enabled).map(|a| a.name.as_str()).collect();
        assert_eq!(off, ["my-execs", "node-silent"]);
        let replaced = alerts.iter().find(|alert| alert.name == "disk-latency");
        assert_eq!(replaced.unwrap().title, "Mine");
    }

    #[test]
    fn what_is_wrong_leaves_out_its_own_alert_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let own = "title: Mine\nmetric: exec\naggregation: count\nthreshold: '> 1000'\nseverity: info\n";
        for (name, text) in [
            ("right", own.to_owned()),
            ("no-metric", own.replace("exec", "exce")),
            ("disk-latency", "title: [".to_owned()),
            ("Big", own.to_owned()),
        ] {
            fs::write(folder.path().join(format!("{name}.yml")), text).unwrap();
        }
        fs::create_dir(folder.path().join("folder.yml")).unwrap();
        let mut selection = Selection { folder: folder.path().into(), ..Selection::default() };
        selection.disabled = vec!["disk-latncy".into(), "disk-latency".into()];
        let nonsense = Override { threshold: Some("high".into()), ..Override::default() };
        selection.r#override.insert("node-silent".into(), nonsense);
        let alerts = alerts(&selection, &[]);
        let usable: Vec<&str> = alerts.usable.iter().map(|alert| alert.name.as_str()).collect();
        let shipped = SHIPPED.iter().map(|(file, _)| file.trim_end_matches(".yml"));
        let left = shipped.filter(|name| !["disk-latency", "node-silent"].contains(name));
        assert_eq!(usable, left.chain(["right"]).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        let wrong: Vec<(Option<&str>, String)> =
            alerts.wrong.iter().map(|wrong| (wrong.alert.as_deref(), wrong.error.to_string())).collect();
        let expected = [
            (
                None,
                "the configuration, alerts.disabled: there is no alert 'disk-latncy'; did you mean 'disk-latency'?",
            ),
            (Some("Big"), "Big.yml: 'Big' can't be an alert's name"),
            (Some("disk-latency"), "disk-latency.yml: line 1"),
            (Some("folder"), "folder.yml: can't be read"),
            (
                Some("no-metric"),
                "no-metric.yml: line 2 column 9: there is no metric 'exce'; did you mean 'exec'?",
            ),
            (Some("node-silent"), "the configuration, alerts.override.node-silent.threshold: "),
        ];
        assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
        for ((alert, error), (expected_alert, part)) in wrong.iter().zip(expected) {
            assert!(*alert == expected_alert && error.contains(part), "{alert:?} {error}");
        }
    }
}
