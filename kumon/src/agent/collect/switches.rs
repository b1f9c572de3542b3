//! Metrics that somebody switched on or off, over the configuration: until the agent restarts, or saved in a small file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kumon_collect::settings::Section;
use kumon_spool::NewFile;
use serde::{Deserialize, Serialize};

use crate::config::Collectors;
use crate::control::{DecidedBy, Switch};

/// Of the file.
const VERSION: u32 = 1;

/// By metric, whether it is to be on.
pub(crate) type OnOff = BTreeMap<String, bool>;

/// What somebody switched.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Switches {
    /// Until the agent restarts; they go before the saved ones.
    pub(super) temporary: OnOff,
    pub(super) saved: OnOff,
}

/// A switch that says something else than the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Override {
    pub(crate) enabled: bool,
    pub(crate) saved: bool,
}

impl Override {
    pub(super) fn decided_by(self) -> DecidedBy {
        if self.saved { DecidedBy::SavedSwitch } else { DecidedBy::Switch }
    }
}

impl Switches {
    /// Those that are saved in a state folder.
    ///
    /// # Errors
    /// With the file's name and why it can't be used.
    pub(crate) fn saved_in(state: &Path) -> Result<Switches, String> {
        let path = file(state);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Switches::default()),
            read => read.map_err(|e| format!("{}: the saved switches can't be read: {e}", path.display()))?,
        };
        let saved = match serde_json::from_slice(&text) {
            Ok(File { version: VERSION, enabled }) => enabled,
            Ok(File { version, .. }) => {
                return Err(format!(
                    "{}: the saved switches have version {version}, this KuMon knows version {VERSION}",
                    path.display()
                ));
            }
            Err(e) => return Err(format!("{}: the saved switches are damaged: {e}", path.display())),
        };
        Ok(Switches { temporary: OnOff::new(), saved })
    }

    /// Saves those that are to be saved, in one step.
    pub(super) fn save_in(&self, state: &Path) -> io::Result<()> {
        let mut new = NewFile::create(&file(state), 0o640)?;
        let text = serde_json::to_vec_pretty(&File { version: VERSION, enabled: self.saved.clone() })?;
        new.write_all(&text)?;
        new.finish()
    }

    /// Takes in a switch over a configuration that has these metrics on. What says the same as what lies beneath it is no
    /// switch any more.
    pub(super) fn set(&mut self, switch: &Switch, configured: &BTreeSet<&str>) {
        for metric in &switch.metrics {
            let configured = configured.contains(metric.as_str());
            if switch.save {
                self.saved.insert(metric.clone(), switch.enable);
                self.saved.retain(|of, enabled| of != metric || *enabled != configured);
                self.temporary.remove(metric);
            } else {
                let beneath = self.saved.get(metric).copied().unwrap_or(configured);
                self.temporary.insert(metric.clone(), switch.enable);
                self.temporary.retain(|of, enabled| of != metric || *enabled != beneath);
            }
        }
    }

    /// Those that change something. Names that this KuMon doesn't know may be of another one, which saved them.
    pub(crate) fn overrides(&self, configured: &BTreeSet<&str>) -> BTreeMap<String, Override> {
        let mut overrides = BTreeMap::new();
        for metric in Collectors::metrics() {
            let (temporary, saved) = (self.temporary.get(metric), self.saved.get(metric));
            if let Some(&enabled) = temporary.or(saved)
                && enabled != configured.contains(metric)
            {
                overrides.insert(metric.to_owned(), Override { enabled, saved: temporary.is_none() });
            }
        }
        overrides
    }
}

/// The metrics that are collected with these settings.
pub(crate) fn metrics_on(settings: &Collectors) -> BTreeSet<&'static str> {
    settings.collectors().iter().flat_map(|collector| collector.metrics()).collect()
}

/// The settings with what was switched.
pub(crate) fn with_overrides(configured: &Collectors, overrides: &BTreeMap<String, Override>) -> Collectors {
    let mut settings = configured.clone();
    for (metric, switched) in overrides {
        settings.switch(metric, switched.enabled);
    }
    settings
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    enabled: OnOff,
}

fn file(state: &Path) -> PathBuf {
    state.join("switches.json")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::{Collectors, Override, Switch, Switches, with_overrides};

    fn switch(metric: &str, enable: bool, save: bool) -> Switch {
        Switch { metrics: vec![metric.into()], enable, save }
    }

    #[test]
    fn what_says_the_same_as_what_lies_beneath_is_no_switch() {
        let configured = BTreeSet::from(["exec"]);
        let mut switches = Switches::default();
        switches.set(&switch("exec", false, false), &configured);
        let off = |saved| [("exec".to_owned(), Override { enabled: false, saved })];
        assert_eq!(switches.overrides(&configured), off(false).into());
        switches.set(&switch("exec", true, false), &configured);
        assert_eq!(switches, Switches::default());

        switches.set(&switch("exec", false, true), &configured);
        assert_eq!(switches.overrides(&configured), off(true).into());
        // On until the restart, over what is saved: as the configuration has it.
        switches.set(&switch("exec", true, false), &configured);
        assert!(switches.overrides(&configured).is_empty() && switches.saved.contains_key("exec"));
        switches.set(&switch("exec", true, true), &configured);
        assert_eq!(switches, Switches::default());
    }

    #[test]
    fn saved_switches_are_found_again_and_others_names_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let configured = BTreeSet::from(["exec"]);
        assert_eq!(Switches::saved_in(folder.path()), Ok(Switches::default()));
        let path = folder.path().join("switches.json");
        fs::write(&path, r#"{"version":1,"enabled":{"of_tomorrow":true}}"#).unwrap();
        let mut switches = Switches::saved_in(folder.path()).unwrap();
        switches.set(&switch("exec", false, true), &configured);
        switches.set(&switch("exit", true, false), &configured);
        switches.save_in(folder.path()).unwrap();
        let saved = Switches::saved_in(folder.path()).unwrap().saved;
        assert_eq!(saved, [("exec".into(), false), ("of_tomorrow".into(), true)].into());

        let settings = with_overrides(&Collectors::default(), &switches.overrides(&configured));
        assert!(!settings.bpf.process.exec.enabled && settings.bpf.process.exit.enabled);
    }

    #[test]
    fn a_file_that_can_t_be_used_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        for (text, reason) in [
            ("{", "are damaged: EOF"),
            (r#"{"version":2,"enabled":{}}"#, "have version 2, this KuMon knows version 1"),
        ] {
            fs::write(folder.path().join("switches.json"), text).unwrap();
            let message = Switches::saved_in(folder.path()).unwrap_err();
            assert!(
                message.contains("switches.json: the saved switches") && message.contains(reason),
                "{message}"
            );
        }
    }
}
