use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use kumon_collect::{
    ActiveCollector, Cadence, Collector, CollectorError, Hook, Loss, PollContext, ProgramCost, Subject,
};
use kumon_schema::rows::Exit;
use kumon_testing::wait_for;

use super::{Collecting, OnOff};
use crate::agent::status::{CollectStatus, read};
use crate::config::Config;
use crate::control::{Client, CollectorsReport, MetricReport, MetricState, Switch};

const PATIENCE: Duration = Duration::from_secs(60);

/// How a made-up collector misbehaves.
enum Deed {
    None,
    RefusesToStart,
    FailsAtWork,
    Stops,
    /// Until the test ends.
    Hangs(Mutex<Receiver<()>>),
}

struct MadeUp {
    name: &'static str,
    metric: &'static str,
    deed: &'static Deed,
}

impl Collector for MadeUp {
    fn name(&self) -> &'static str {
        self.name
    }

    fn metrics(&self) -> Vec<&'static str> {
        vec![self.metric]
    }

    fn probe(&self) -> Vec<Hook> {
        Vec::new()
    }

    fn configuration(&self) -> String {
        String::new()
    }

    fn cadence(&self) -> Cadence {
        match self.deed {
            Deed::Hangs(_) => Cadence::OwnThread(Duration::from_millis(10)),
            _ => Cadence::Drain,
        }
    }

    fn start(&self) -> Result<Box<dyn ActiveCollector>, CollectorError> {
        if let Deed::RefusesToStart = self.deed {
            return Err(CollectorError::because(self.name, "opening its file")("it isn't there"));
        }
        Ok(Box::new(Active(self.name, self.deed)))
    }
}

struct Active(&'static str, &'static Deed);

impl ActiveCollector for Active {
    fn poll(&mut self, context: &mut PollContext<'_>) -> Result<(), CollectorError> {
        match self.1 {
            Deed::FailsAtWork => {
                return Err(CollectorError::because(self.0, "reading its file")("the disk is gone"));
            }
            Deed::Stops => panic!("its reader is broken"),
            Deed::Hangs(end) => drop(end.lock().unwrap().recv()),
            _ => context.emitter.emit(&Exit::default(), &Subject::Node),
        }
        Ok(())
    }

    fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    fn programs(&self) -> Vec<ProgramCost> {
        vec![ProgramCost {
            program: format!("on_{}", self.0),
            metrics: &["exit"],
            backend: Some("tp_btf"),
            runs: 3,
            run_time: 1000,
        }]
    }
}

fn of<'a>(report: &'a CollectorsReport, metric: &str) -> &'a MetricReport {
    report.metrics.iter().find(|of| of.metric == metric).unwrap()
}

fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    (config.path.spool, config.path.state) = (folder.join("spool"), folder.join("state"));
    config
}

#[test]
fn one_that_stops_fails_or_hangs_is_in_the_status_with_its_reason_and_the_others_go_on() {
    let (end, hangs) = channel();
    let made = |name, metric, deed| -> Box<dyn Collector> {
        Box::new(MadeUp { name, metric, deed: Box::leak(Box::new(deed)) })
    };
    let make = |_: &_| {
        let all = vec![
            made("refuses", "exec", Deed::RefusesToStart),
            made("stops", "tcplife", Deed::Stops),
            made("fails", "dbslower", Deed::FailsAtWork),
            made("hangs", "filelife", Deed::Hangs(Mutex::new(hangs))),
            made("works", "exit", Deed::None),
        ];
        (all, Vec::new())
    };
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let collecting = Collecting::start_those(&config, None, OnOff::new(), make).unwrap();

    let status = || read::<CollectStatus>(&config.path.collect()).unwrap().unwrap_or_default();
    let mut told = CollectStatus::default();
    wait_for("the status to name all that misbehave", PATIENCE, || {
        told = status();
        told.failed.len() == 4
    });
    let fault = |name: &str| {
        let fault = &told.failed[name];
        (fault.state, fault.reason.as_str(), fault.next_try.is_some())
    };
    let failed = MetricState::Failed;
    assert_eq!(fault("refuses (exec)"), (failed, "refuses: opening its file: it isn't there", true));
    assert_eq!(fault("stops (tcplife)"), (failed, "it panicked: its reader is broken", true));
    let (state, reason, is_tried_again) = fault("fails (dbslower)");
    assert_eq!((state, is_tried_again), (MetricState::Failing, false));
    assert_eq!(reason, "fails: reading its file: the disk is gone");
    let (state, reason, is_tried_again) = fault("hangs (filelife)");
    assert_eq!((state, is_tried_again), (MetricState::Hanging, false));
    assert!(reason.starts_with("it hangs: its poll began"), "{reason}");
    let rows = || status().rows.get("exit").copied().unwrap_or(0);
    let before = rows();
    wait_for("further rows of the one that works", PATIENCE, || rows() > before);

    // Who asks over the socket is told the same, but for the moments in which the one that stops is started again.
    let agent = Client::connect(&config.path.collect_socket()).unwrap().unwrap();
    let expected = [failed, failed, MetricState::Failing, MetricState::Hanging, MetricState::Running];
    let mut report = agent.collectors().unwrap();
    wait_for("the same over the socket", PATIENCE, || {
        report = agent.collectors().unwrap();
        ["exec", "tcplife", "dbslower", "filelife", "exit"].map(|metric| of(&report, metric).state)
            == expected
    });
    let of = |metric| of(&report, metric);
    assert!(of("exec").next_try.is_some() && of("exec").reason.as_ref().unwrap().contains("it isn't there"));
    assert!(of("exit").rows > 0 && of("exit").run_time > 0 && of("exit").backends == ["tp_btf"]);
    drop(end);
    collecting.stop();
}

#[test]
fn a_wrong_name_switches_nothing_and_says_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let collecting = Collecting::start_those(&config, None, OnOff::new(), |_| Default::default()).unwrap();
    let agent = Client::connect(&config.path.collect_socket()).unwrap().unwrap();
    for (wrong, hint) in [
        ("exek", "there is no metric 'exek' to switch; did you mean 'exec'?"),
        ("zzz", "there is no metric 'zzz' to switch; there are biolatency, bitesize"),
        ("sched", "'sched' is a collector; its metrics can be switched: runqlat, runqslower, cputime"),
        ("runqlat_hist", "'runqlat_hist' comes with runqlat"),
    ] {
        let metrics = vec!["exec".to_owned(), wrong.to_owned()];
        let refusal = agent.switch(&Switch { metrics, enable: false, save: true }).unwrap().unwrap_err();
        assert!(refusal.wrong_usage && refusal.reason.contains(hint), "{refusal:?}");
    }
    assert!(collecting.status().switched.is_empty() && collecting.switched().is_empty());
    assert!(!config.path.collect().join("switches.json").exists());
    collecting.stop();
}
