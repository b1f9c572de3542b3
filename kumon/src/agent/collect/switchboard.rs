//! Where the collectors are switched: by a reload of the configuration, and by whoever asks over the control socket.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use kumon_collect::settings::Section;
use kumon_collect::{CollectorState, Health};
use kumon_query::did_you_mean;

use super::exchange::{Exchange, Report};
use super::polling::Command;
use super::reports::{self, metrics_off};
use super::switches::{OnOff, Override, Switches, metrics_on, with_overrides};
use super::{lock, require_one};
use crate::agent::status::CollectStatus;
use crate::config::Collectors;
use crate::control::{CollectorsReport, Refusal, Switch, Switched};
use crate::explain;

/// It holds one end of the polling thread's commands: that one ends when this is dropped.
pub(super) struct Switchboard {
    pub(super) commands: Sender<Command>,
    pub(super) exchange: Arc<Exchange>,
    pub(super) status: Arc<Mutex<CollectStatus>>,
    /// The state folder.
    pub(super) state: PathBuf,
    /// Held by whoever switches, also while a disk that hangs keeps it from saving: neither a reload nor a look at the
    /// collectors takes this.
    pub(super) switching: Mutex<()>,
    pub(super) wanted: Mutex<Wanted>,
    /// Why what is saved is passed over.
    pub(super) note: Mutex<Option<String>>,
}

/// What is to be collected.
pub(super) struct Wanted {
    configured: Collectors,
    /// The metrics that the configuration has on; found out when somebody switches.
    configured_on: OnceCell<BTreeSet<&'static str>>,
    switches: Switches,
}

impl Wanted {
    /// What the configuration says and what is saved, and the switches of before a reload; and why what is saved is passed
    /// over, where it is.
    pub(super) fn new(configured: &Collectors, state: &Path, temporary: OnOff) -> (Wanted, Option<String>) {
        let (saved, note) = match Switches::saved_in(state) {
            Ok(switches) => (switches, None),
            Err(why) => {
                log::warn!("{why}; they are passed over, and the next switch with --save replaces them");
                (Switches::default(), Some(why))
            }
        };
        let switches = Switches { temporary, ..saved };
        let wanted = Wanted { configured: configured.clone(), configured_on: OnceCell::new(), switches };
        for (metric, switched) in wanted.overrides().into_iter().filter(|(_, switched)| switched.saved) {
            let on = if switched.enabled { "on" } else { "off" };
            log::info!("{metric} is {on}: a saved switch overrides the configuration");
        }
        (wanted, note)
    }

    pub(super) fn overrides(&self) -> BTreeMap<String, Override> {
        if self.switches == Switches::default() {
            return BTreeMap::new();
        }
        self.switches.overrides(self.configured_on())
    }

    fn configured_on(&self) -> &BTreeSet<&'static str> {
        self.configured_on.get_or_init(|| metrics_on(&self.configured))
    }

    fn set(&mut self, switch: &Switch) {
        let configured_on = self.configured_on().clone();
        self.switches.set(switch, &configured_on);
    }

    /// The configuration's settings with what was switched.
    pub(super) fn settings(&self) -> Collectors {
        with_overrides(&self.configured, &self.overrides())
    }
}

impl Switchboard {
    /// Goes over to other settings of the configuration; what was switched stays so.
    ///
    /// # Errors
    /// When no collector starts.
    pub(super) fn configure(&self, configured: &Collectors) -> Result<()> {
        let mut wanted = self.wanted();
        (wanted.configured, wanted.configured_on) = (configured.clone(), OnceCell::new());
        let states = self.go_over(&wanted)?;
        reports::log_off(&lock(&self.status).off);
        require_one(&states)
    }

    /// Switches metrics at once: all of them, or none.
    ///
    /// # Errors
    /// When there is no such metric, one can't be started, or the switch not be saved.
    pub(super) fn switch(&self, switch: &Switch) -> Result<Vec<Switched>, Refusal> {
        check_names(&switch.metrics)?;
        let _one_at_a_time = lock(&self.switching);
        let was_on = self.metrics_wanted();
        let before = self.take(switch, &was_on)?;
        self.save(switch, before)?;
        let report = self.report();
        let switched = |metric: &String| {
            let now = report.metrics.iter().find(|of| of.metric == *metric)?.clone();
            Some(Switched { already: was_on.contains(metric.as_str()) == switch.enable, now })
        };
        Ok(switch.metrics.iter().filter_map(switched).collect())
    }

    /// Goes over to the switch, and back where a collector of what it switches on can't start; the switches of before.
    fn take(&self, switch: &Switch, was_on: &BTreeSet<&str>) -> Result<Switches, Refusal> {
        let mut wanted = self.wanted();
        let before = wanted.switches.clone();
        wanted.set(switch);
        let mut newly_on =
            switch.metrics.iter().filter(|metric| switch.enable && !was_on.contains(metric.as_str()));
        let failed = match self.go_over(&wanted) {
            Ok(states) => newly_on.find_map(|metric| failure(&states, metric)),
            Err(e) => Some(explain(&e)),
        };
        let Some(why) = failed else { return Ok(before) };
        wanted.switches = before;
        if let Err(e) = self.go_over(&wanted) {
            log::error!("the collectors of before can't be gone back to: {}", explain(&e));
        }
        Err(Refusal::because(format!("nothing was switched: {why}")))
    }

    /// Writes the file, where there is something new for it, or it can't be used.
    fn save(&self, switch: &Switch, before: Switches) -> Result<(), Refusal> {
        let now = self.wanted().switches.clone();
        let is_right = now.saved == before.saved && lock(&self.note).is_none();
        if !switch.save || is_right {
            return Ok(());
        }
        let saved = now.save_in(&self.state);
        if let Err(e) = saved {
            let mut wanted = self.wanted();
            wanted.switches.saved = before.saved;
            wanted.set(&Switch { save: false, ..switch.clone() });
            lock(&self.status).switched = wanted.overrides();
            return Err(Refusal::because(format!(
                "{}: switched until the agent restarts, for it can't be saved: {e}",
                self.state.display()
            )));
        }
        *lock(&self.note) = None;
        Ok(())
    }

    /// How each metric is collected. It waits neither for a disk nor for a collector.
    pub(super) fn report(&self) -> CollectorsReport {
        let note = lock(&self.note).clone();
        let Report { programs, states, .. } = self.exchange.lock().report.clone();
        reports::collectors(&lock(&self.status).clone(), &states, &programs, note)
    }

    /// The switches that are not saved.
    pub(super) fn temporary(&self) -> OnOff {
        self.wanted().switches.temporary.clone()
    }

    /// Has the polling thread take the collectors that are wanted now; how each is then.
    fn go_over(&self, wanted: &Wanted) -> Result<Vec<CollectorState>> {
        let (collectors, left_out) = wanted.settings().collectors_and_left_out();
        let (answer, answered) = channel();
        // A thread that has ended doesn't answer.
        let _ = self.commands.send(Command::Replace(collectors, answer));
        let states = answered.recv().context("the collecting thread died")?.context("starting collectors")?;
        let (off, switched) = (metrics_off(left_out), wanted.overrides());
        let mut status = lock(&self.status);
        (status.off, status.switched) = (off, switched);
        Ok(states)
    }

    /// The metrics of all collectors, at work or not.
    fn metrics_wanted(&self) -> BTreeSet<&'static str> {
        self.exchange.lock().report.states.iter().flat_map(|state| state.metrics.clone()).collect()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        lock(&self.wanted)
    }
}

/// Why a metric's collector is not at work.
fn failure(states: &[CollectorState], metric: &str) -> Option<String> {
    let state = states.iter().find(|state| state.metrics.contains(&metric))?;
    let Health::Failed { reason, .. } = &state.health else { return None };
    Some(format!("{} ({}) can't start: {reason}", state.name, state.metrics.join(", ")))
}

fn check_names(metrics: &[String]) -> Result<(), Refusal> {
    let is_known = |metric: &&String| Collectors::metrics().contains(&metric.as_str());
    let Some(unknown) = metrics.iter().find(|metric| !is_known(metric)) else { return Ok(()) };
    let whole = kumon_schema::whole(unknown);
    let members = reports::members(unknown);
    let hint = match (whole, did_you_mean(unknown, Collectors::metrics())) {
        (Some(whole), _) => format!("'{unknown}' comes with {whole}, which can be switched"),
        _ if !members.is_empty() => {
            format!("'{unknown}' is a collector; its metrics can be switched: {}", members.join(", "))
        }
        (None, Some(hint)) => format!("there is no metric '{unknown}' to switch; {hint}"),
        (None, None) => {
            format!(
                "there is no metric '{unknown}' to switch; there are {}",
                Collectors::metrics().join(", ")
            )
        }
    };
    Err(Refusal::wrong_usage(hint))
}
